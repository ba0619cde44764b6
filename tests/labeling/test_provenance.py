"""Which network it was, by its weights and by what it expects."""

from dataclasses import replace
from pathlib import Path

import jax
import pytest

from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.labeling.provenance import identify
from infant_seg_jax.prediction.predictor import Predictor
from tests.untrained import expecting, untrained_predictor


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return untrained_predictor()


def test_a_network_is_known_by_its_weights(predictor: Predictor) -> None:
    one = identify(predictor, Path("runs/adult"))
    assert one.name == "adult"
    same = replace(predictor, window=(64, 64, 64), batch_size=1, max_memory=10**9)
    assert identify(same, Path("exported")).sha256 == one.sha256

    leaves, tree = jax.tree.flatten(predictor.variables)
    for index in (0, len(leaves) - 1):
        changed = [leaf + 1e-3 * (number == index) for number, leaf in enumerate(leaves)]
        other = replace(predictor, variables=jax.tree.unflatten(tree, changed))
        assert identify(other, Path("adult")).sha256 != one.sha256
    for other in (
        expecting(predictor, modalities=("T2w",)),
        replace(
            predictor, expects=replace(predictor.expects, preparation=Preparation(spacing_mm=1.0))
        ),
    ):
        assert identify(other, Path("adult")).sha256 != one.sha256
