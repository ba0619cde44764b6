"""The notebooks run from their first cell to their last, in an empty folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FIRST_STEPS = REPOSITORY / "docs" / "notebooks" / "first_steps.ipynb"

_CHECK = """
import json
assert labels.array.shape == image.shape
assert (folder / "fine-tuned_dseg.nii.gz").is_file()
print(json.dumps(dice))
"""


@pytest.mark.slow
def test_first_steps(tmp_path: Path) -> None:
    """In a process of its own, as a notebook has one, and with the devices that there are."""
    cells = json.loads(FIRST_STEPS.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(REPOSITORY)}
    environment.pop("XLA_FLAGS", None)
    result = subprocess.run(
        [sys.executable, "-c", "\n\n".join([*code, _CHECK])],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    dice = json.loads(result.stdout.splitlines()[-1])
    # A few steps on their contrast tell gray from white matter better than none.
    for tissue in ("GM", "WM"):
        assert dice["fine-tuned"][tissue] > dice["bundled"][tissue] + 0.05
