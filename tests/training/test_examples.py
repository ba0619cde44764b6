"""What a step trains on, and the sheet that shows it."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from infant_seg_jax.__main__ import main
from infant_seg_jax.config import Config, default_config
from infant_seg_jax.data.patches import patch_batch
from infant_seg_jax.data.phantom import write_cohort
from infant_seg_jax.data.prepared import PreparedCase, PreparedSet
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.sources.phantom import PHANTOM
from infant_seg_jax.rendering.anatomies import AnatomySet
from infant_seg_jax.rendering.patches import make_batch
from infant_seg_jax.training.examples import (
    draw_examples,
    example_names,
    training_cases,
)
from tests.input_errors import input_error
from tests.training.tiny import tiny_anatomies

REPOSITORY = Path(__file__).parents[2]
SIZE = 6


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    folder = tmp_path_factory.mktemp("phantoms")
    write_cohort(folder / "scans", range(4), shape=(32, 32, 32))
    return prepare(PHANTOM.open(folder / "scans"), folder / "prepared")


@pytest.fixture(scope="module")
def anatomies(tmp_path_factory: pytest.TempPathFactory) -> AnatomySet:
    return tiny_anatomies(tmp_path_factory.mktemp("anatomies"), (32, 32, 32), 2)


def config_of(fraction: float) -> Config:
    config = default_config()
    config.patch.shape, config.patch.batch_size = (16, 16, 16), SIZE
    config.rendering.fraction = fraction
    return config


def test_names_are_those_of_the_examples(prepared: PreparedSet, anatomies: AnatomySet) -> None:
    config = config_of(0.5)
    cases = training_cases(prepared, config)
    by_name = {case.case_id: case for case in cases}
    rendered = 0
    for step in range(4):
        batch = make_batch(cases, 1, anatomies, config, step, range(SIZE))
        names = example_names(cases, anatomies, config, step)
        assert [name == "map0" for name in names] == batch.anatomy.chosen.tolist()
        rendered += names.count("map0")
        for image, name in zip(batch.image, names, strict=True):
            assert name == "map0" or _is_part_of(image, by_name[name])
    assert 0 < rendered < 4 * SIZE


def _is_part_of(patch: np.ndarray, case: PreparedCase) -> bool:
    windows = np.lib.stride_tricks.sliding_window_view(case.image()[..., 0], patch.shape[:3])
    first = np.argwhere(windows[..., 0, 0, 0] == patch[0, 0, 0, 0])
    return any(np.array_equal(windows[tuple(at)], patch[..., 0]) for at in first)


def test_without_anatomies_examples_are_the_patches(prepared: PreparedSet) -> None:
    config = config_of(0.0)
    cases = training_cases(prepared, config)
    batch = make_batch(cases, 1, None, config, 3, range(SIZE))
    expected = patch_batch(cases, (16, 16, 16), SIZE, config.seed, 3)
    assert np.array_equal(batch.image, expected.image)
    image, labels, _ = draw_examples(batch, 3, config)  # Nothing is on that would change them.
    assert np.array_equal(image, expected.image) and np.array_equal(labels, expected.labels)


def test_cases_to_train_on(prepared: PreparedSet) -> None:
    assert training_cases(prepared, config_of(1.0)) == ()
    config = config_of(0.0)
    config.data.train_subjects = 1
    assert training_cases(prepared, config) == prepared.split("train")[:1]
    empty = PreparedSet(**{**vars(prepared), "folds": ({"train": (), "validation": ()},)})
    with input_error(config.data.path, "fold 0"):
        training_cases(empty, config_of(0.0))


def test_a_sheet_is_asked_for_in_the_right_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, sentence in (
        (["--output=sheet.gif"], "ending in one of .png"),
        (["--output=s.png", f"--config.data.path={tmp_path}"], "manifest.json"),
        (["--output=s.png", "--count=0"], "count"),
    ):
        with pytest.raises(SystemExit):
            main(["examples", f"--config={REPOSITORY}/configs/default.py", *arguments])
        printed = capsys.readouterr().err.strip()
        assert sentence in printed and len(printed.splitlines()) == 1


@pytest.mark.slow
def test_a_sheet_shows_real_and_rendered_examples(
    prepared: PreparedSet, anatomies: AnatomySet, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "examples",
                f"--config={REPOSITORY}/configs/default.py",
                f"--config.data.path={prepared.folder}",
                "--config.patch.shape=(16,16,16)",
                "--config.patch.batch_size=4",
                f"--config.rendering.path={anatomies.folder}",
                "--config.rendering.fraction=0.5",
                "--count=6",
                f"--output={tmp_path}/sheet.png",
            ]
        )
    assert not stop.value.code
    picture = matplotlib.image.imread(tmp_path / "sheet.png")[..., :3]
    left, right = (half.std() for half in np.split(picture[:, : picture.shape[1] // 2 * 2], 2, 1))
    assert left > 0.1 and right > 0.1  # Four examples above, two below: both halves are drawn in.
