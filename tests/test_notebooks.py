"""The notebooks run from their first cell to their last, in an empty folder."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

FIRST_STEPS = Path(__file__).parents[1] / "docs" / "notebooks" / "first_steps.ipynb"


@pytest.mark.slow
def test_first_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    names: dict[str, Any] = {}
    for number, cell in enumerate(json.loads(FIRST_STEPS.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert names["labels"].array.shape == names["image"].shape
    assert (tmp_path / "first_steps" / "fine-tuned_dseg.nii.gz").is_file()
    # A few steps on their contrast tell gray from white matter better than none.
    for tissue in ("GM", "WM"):
        assert names["dice"]["fine-tuned"][tissue] > names["dice"]["bundled"][tissue] + 0.05
