"""A network as a program: what it computes, and where it runs."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from infant_seg_jax.config import default_config
from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.data.prepared import ExpectedScans
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.files import sha256
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.models.variables import init_variables
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.store.model_folder import Model
from infant_seg_jax.store.program import JAX, ONNX, PROGRAM_FILE, PROGRAMS, write_program
from tests.input_errors import input_error

SHAPE = (2, 16, 24, 16, 2)

RUN_ELSEWHERE = """
import sys
import jax, numpy
program = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
numpy.save(sys.argv[3], program.call(numpy.load(sys.argv[2])))
assert not any(name.startswith("infant_seg_jax") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def model() -> Model:
    config = default_config()
    config.model.growth_rate = config.model.stem_features = 4
    config.model.block_layers = (1, 2)
    config.inference.window = SHAPE[1:4]
    variables = init_variables(make_model(config), 2, seed=3)
    expects = ExpectedScans(("T1w", "T2w"), Preparation(margin_mm=5.0), ("brain",))
    return Model(config, variables, expects, {})


def test_the_program_computes_what_the_predictor_does_without_this_package(
    model: Model, tmp_path: Path
) -> None:
    write_program(tmp_path / "out", model, batch_size=2)
    images = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    files = (tmp_path / "out" / PROGRAMS[JAX], tmp_path / "images.npy", tmp_path / "found.npy")
    command = [sys.executable, "-c", RUN_ELSEWHERE, *map(str, files)]
    subprocess.run(command, check=True, cwd=tmp_path)
    found = np.load(tmp_path / "found.npy")
    predictor = Predictor.from_config(model.config, model.variables, model.expects)
    expected = np.stack([predictor.probabilities(image) for image in images])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert expected.std() > 0.01


def test_the_description_fits_the_program(model: Model, tmp_path: Path) -> None:
    write_program(tmp_path / "out", model, batch_size=2, platforms=["cpu", "tpu"])
    path = tmp_path / "out" / PROGRAMS[JAX]
    about = json.loads((tmp_path / "out" / PROGRAM_FILE).read_text())
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    assert about["program"]["sha256"] == sha256(path)
    assert tuple(about["program"]["platforms"]) == program.platforms == ("cpu", "tpu")
    (given,), (made,) = program.in_avals, program.out_avals
    assert tuple(about["input"]["shape"]) == given.shape == SHAPE
    assert tuple(about["output"]["shape"]) == made.shape == (*SHAPE[:4], 4)
    assert about["input"]["dtype"] == given.dtype == about["output"]["dtype"] == made.dtype
    assert about["output"]["classes"] == list(TISSUE_CLASSES.names)
    assert about["input"]["modalities"] == ["T1w", "T2w"]
    assert about["preparation"]["margin_mm"] == 5.0


@pytest.mark.parametrize("groups_divide", [True, False])
def test_the_onnx_graph_computes_what_the_predictor_does(
    model: Model, tmp_path: Path, groups_divide: bool
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if not groups_divide:  # Blocks of 4 + 4 and 4 + 8 channels, or of 6 + 3 and so on.
        config = model.config.copy_and_resolve_references()
        config.model.stem_features, config.model.growth_rate = 6, 3
        model = replace(
            model, config=config, variables=init_variables(make_model(config), 2, seed=4)
        )
    model = replace(model, variables=_with_statistics(model.variables))
    write_program(tmp_path / "out", model, ONNX)
    about = json.loads((tmp_path / "out" / PROGRAM_FILE).read_text())
    path = tmp_path / "out" / about["program"]["file"]
    assert about["program"]["sha256"] == sha256(path)
    session = onnxruntime.InferenceSession(path.read_bytes())
    predictor = Predictor.from_config(model.config, model.variables, model.expects)
    for shape in (SHAPE, (1, *SHAPE[1:])):
        images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        (found,) = session.run(["probabilities"], {"image": images})
        expected = np.stack([predictor.probabilities(image) for image in images])
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert expected.std() > 0.01
    (other,) = session.run(None, {"image": np.zeros((1, 32, 16, 8, 2), np.float32)})
    assert other.shape == (1, 32, 16, 8, 4)


def _with_statistics(variables: Any) -> Any:
    """Running statistics such as training leaves, not zeros and ones; so for scales and biases."""
    random = np.random.default_rng(2)

    def vary(path: Any, leaf: Any) -> Any:
        if path[-1].key == "kernel":
            return leaf
        return np.asarray(leaf + random.uniform(0.1, 0.5, leaf.shape), np.float32)

    return jax.tree_util.tree_map_with_path(vary, variables)


@pytest.mark.parametrize("platforms", [[], ["cpu", "abacus"]])
def test_unknown_platforms_are_refused(model: Model, tmp_path: Path, platforms: list[str]) -> None:
    with input_error(*platforms, "cpu, cuda, tpu"):
        write_program(tmp_path / "out", model, platforms=platforms)
    assert not (tmp_path / "out").exists()
