"""When a scan is called unlike those of the training."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.data.prepared import PreparedCase
from infant_seg_jax.prediction.confidence import mean_entropy
from infant_seg_jax.prediction.predictor import Prediction, Predictor
from infant_seg_jax.prediction.reference_statistics import (
    ReferenceStatistics,
    highest_expected,
    statistics_from_record,
    why_unusual,
)
from infant_seg_jax.store.run_folder import REFERENCE, read_statistics, write_statistics
from infant_seg_jax.training.calibration import measure_statistics
from tests.input_errors import input_error
from tests.untrained import untrained_predictor

KNOWN = ReferenceStatistics(
    (0.16, 0.17, 0.15, 0.18), (0.95, 0.94, 0.96, 0.95), (1400.0, 1300.0, 1500.0)
)
SCAN = Path("scan.nii")
PREDICTOR = untrained_predictor()
USUAL = {"entropy": 0.16, "agreement": 0.95, "volume_ml": 1450.0}


def make_case(folder: Path, image: np.ndarray) -> PreparedCase:
    """A case without labels whose voxels are 2 x 1 x 1 mm."""
    np.save(folder / "image.npy", image)
    x, y, z, channels = image.shape
    affine = np.diag([2.0, 1.0, 1.0, 1.0])
    return PreparedCase(
        case_id="a",
        participant="a",
        age=None,
        extent="brain",
        image_path=folder / "image.npy",
        labels_path=None,
        shape=(x, y, z),
        channels=channels,
        affine=affine,
        box=(slice(0, x), slice(0, y), slice(0, z)),
        native_shape=(x, y, z),
        native_affine=affine,
        sources={},
        voxels=dict.fromkeys(TISSUE_CLASSES.names, 0),
    )


def test_the_interval_holds_99_of_100_further_values() -> None:
    """By simulation, whatever the mean and the deviation, from four values and from thirty."""
    random = np.random.default_rng(0)
    for count in (4, 30):
        samples = random.normal(3.0, 0.7, (4_000, count + 1))
        below = [sample[-1] < highest_expected(sample[:-1]) for sample in samples]
        # Five standard errors.
        assert np.mean(below) == pytest.approx(0.99, abs=5 * math.sqrt(0.99 * 0.01 / 4_000))


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=8), st.floats(0.1, 5), st.floats(-5, 5))
def test_the_interval_moves_with_the_values(
    values: list[float], scale: float, shift: float
) -> None:
    expected = scale * highest_expected(values) + shift
    moved = highest_expected([scale * value + shift for value in values])
    assert moved == pytest.approx(expected, abs=1e-6)
    assert moved >= scale * float(np.mean(values)) + shift - 1e-6


def test_of_few_scans_nothing_is_said() -> None:
    assert highest_expected([1.0, 1.1]) == math.inf
    few = ReferenceStatistics((0.1, 0.1), (0.9, 0.9), (1400.0, 1400.0))
    for reference in (few, ReferenceStatistics()):
        assert why_unusual(SCAN, reference, entropy=0.9, agreement=0.1, volume_ml=10.0) == ()


def test_usual_scans_and_what_is_unknown_raise_no_flag() -> None:
    assert why_unusual(SCAN, KNOWN, **USUAL) == ()
    nothing = dict.fromkeys(USUAL, math.nan)
    assert why_unusual(SCAN, KNOWN, **nothing) == ()
    surer = why_unusual(SCAN, KNOWN, entropy=0.01, agreement=0.999, volume_ml=1450.0)
    assert surer == ()


def test_sentences_name_what_is_unusual() -> None:
    (entropy,) = why_unusual(SCAN, KNOWN, **USUAL | {"entropy": 0.26})
    assert entropy == (
        "scan.nii was labeled with a mean entropy of 0.260, but 99% of scans like the training "
        f"scans stay below {highest_expected(KNOWN.entropy):.3f}: look at the label map before "
        "using it."
    )
    (agreement,) = why_unusual(SCAN, KNOWN, **USUAL | {"agreement": 0.80})
    assert agreement.startswith(
        "scan.nii and its mirror image were labeled with an agreement of Dice 0.800, but 99% of "
        "scans like the training scans reach 0.9"
    )
    for ml in (300.0, 4000.0):
        (volume,) = why_unusual(SCAN, KNOWN, **USUAL | {"volume_ml": ml})
        assert volume.startswith(f"scan.nii shows {ml:.0f} ml that are not air, but 99% of scans")
    assert len(why_unusual(SCAN, KNOWN, entropy=0.5, agreement=0.5, volume_ml=300.0)) == 3


def test_sizes_of_many_scans_of_several_ages_bound_further_ones() -> None:
    """Of a mixture, an interval for normal values reaches far beyond all that was seen."""
    mixed = ReferenceStatistics(volume_ml=(400.0, 500.0, 900.0, 1500.0) * 5)
    few = ReferenceStatistics(volume_ml=(400.0, 500.0, 900.0, 1500.0))
    usual = USUAL | {"entropy": math.nan, "agreement": math.nan}
    for ml, beyond in ((330.0, False), (1850.0, False), (310.0, True), (1900.0, True)):
        assert bool(why_unusual(SCAN, mixed, **usual | {"volume_ml": ml})) == beyond
        assert why_unusual(SCAN, few, **usual | {"volume_ml": ml}) == ()


def test_what_scans_are_compared_by_is_named() -> None:
    assert len(KNOWN.measured(mirrored=True)) == 3
    assert len(KNOWN.measured(mirrored=False)) == 2
    assert ReferenceStatistics((0.1, 0.2)).measured(mirrored=True) == ()


def test_what_was_measured_is_kept_in_the_run_folder(tmp_path: Path) -> None:
    assert read_statistics(tmp_path) == ReferenceStatistics()
    write_statistics(tmp_path, KNOWN)
    assert read_statistics(tmp_path) == KNOWN
    assert statistics_from_record(json.loads(json.dumps(asdict(KNOWN)))) == KNOWN


@pytest.mark.parametrize(
    "text",
    [
        '{"entropy": ["high"]}',
        '{"entropy": 3}',
        '{"mood": [1.0]}',
        '{"volume_ml": [0.0]}',
        "[7]",
        '{"entropy": [NaN]}',
        '{"agreement": [1e999]}',
        "3",
    ],
)
def test_damaged_measurements_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / REFERENCE).write_text(text)
    with input_error(tmp_path / REFERENCE):
        read_statistics(tmp_path)


def test_cases_are_measured_as_scans_are(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(30, 28, 26, 1)).astype(np.float32)
    image[:10] = 0
    found = measure_statistics(PREDICTOR, [make_case(tmp_path, image)])
    mirrored = replace(PREDICTOR, mirror=True).predict(image)
    assert found.agreement == (mirrored.agreement,)
    assert found.volume_ml == (pytest.approx(20 * 28 * 26 * 2 / 1000),)
    # The entropy is the plain prediction's, so that it means the same whether or not one mirrors.
    expected = mean_entropy(PREDICTOR.probabilities(image), image[..., 0] != 0)
    assert found.entropy == (pytest.approx(expected),)
    assert PREDICTOR.predict(image).entropy == pytest.approx(expected)


def test_what_has_no_value_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that finds no tissue agrees with nothing; what is written can be read."""

    def find_nothing(predictor: Predictor, image: np.ndarray, *_: object) -> Prediction:
        return Prediction(np.ones((*image.shape[:3], 4), np.float32), 0.5, math.nan, ())

    monkeypatch.setattr(Predictor, "predict", find_nothing)
    case = make_case(tmp_path, np.ones((4, 4, 4, 1), np.float32))
    found = measure_statistics(PREDICTOR, [case, case])
    assert found == ReferenceStatistics((0.5, 0.5), (), (0.128, 0.128))
    write_statistics(tmp_path, found)
    assert read_statistics(tmp_path) == found
