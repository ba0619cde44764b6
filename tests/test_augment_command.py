"""`infant-seg augment`, as a person runs it."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from infant_seg_jax.__main__ import main
from infant_seg_jax.data.phantom import write_cohort
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.sources.phantom import PHANTOM

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("augment")
    write_cohort(folder / "scans", range(3), shape=(24, 24, 24))
    return prepare(PHANTOM.open(folder / "scans"), folder / "prepared").folder


@pytest.mark.parametrize(
    ("arguments", "sentence", "status"),
    [
        (["--output=sheet.gif"], "expected the name of a picture, ending in one of .png", 1),
        (["--output=s.png", "--case=sub-9"], "has no case 'sub-9', expected one of sub-000", 1),
        (["--output=s.png", "--config=CONFIG", "--config.augmentation.flip=2.0"], "flip is 2.0", 1),
        (["--output=s.png", "--config=CONFIG", "--config.augmentation.flop=1"], "flip.", 2),
        (["--output=s.png", "--config=nowhere.py"], "nowhere.py", 2),
        (["--output=s.png", "--draws=0"], "draws", 2),
        ([], "--output must be given", 2),
    ],
)
def test_wrong_use_is_one_sentence(
    arguments: list[str],
    sentence: str,
    status: int,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    config = str(REPOSITORY / "configs" / "default.py")
    arguments = [argument.replace("CONFIG", config) for argument in arguments]
    with pytest.raises(SystemExit) as stop:
        main(["augment", f"--data={prepared}", *arguments])
    printed = capsys.readouterr().err.strip()
    assert sentence in printed and len(printed.splitlines()) == 1
    assert stop.value.code == status
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("config", ["", "configs/default.py"])
def test_sheet_is_written(
    config: str,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # It would hold for all other tests of this process.
    monkeypatch.setattr("infant_seg_jax.compilation.use_compilation_cache", lambda: None)
    settings = [f"--config={REPOSITORY / config}", "--config.augmentation.flip=0.5"]
    output = tmp_path / "sheet.png"
    with pytest.raises(SystemExit) as stop:
        main(
            ["augment", f"--data={prepared}", "--draws=1", f"--output={output}"]
            + (settings if config else [])
        )
    assert not stop.value.code
    assert capsys.readouterr().out == f"The sheet of sub-000 is {output}.\n"
    picture = matplotlib.image.imread(output)
    assert picture.shape[0] > 2 * picture.shape[1] and np.ptp(picture) > 0.9
    assert list(tmp_path.iterdir()) == [output]
