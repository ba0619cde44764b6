"""One model whose weights are the mean of others'."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infant_seg_jax.__main__ import main
from infant_seg_jax.config import default_config
from infant_seg_jax.data.prepared import ExpectedScans
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.errors import InputError
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.models.variables import by_path, init_variables
from infant_seg_jax.prediction.reference_statistics import NOTHING_KNOWN, ReferenceStatistics
from infant_seg_jax.store.averaging import average_models
from infant_seg_jax.store.model_folder import Model, read_model, write_model
from tests.input_errors import input_error


def make(seed: int, growth_rate: int = 4) -> Model:
    config = default_config()
    config.model.growth_rate, config.model.stem_features = growth_rate, 4
    config.model.block_layers = (1, 1)
    config.inference.window = (16, 16, 16)
    return Model(
        config,
        init_variables(make_model(config), 1, seed),
        ExpectedScans(("T1w",), Preparation(), ("brain",)),
        {"step": seed, "data": {"schema": "tissues"}},
        ReferenceStatistics((0.1,), (), (1000.0,)),
    )


def test_the_mean_is_by_shares_and_is_written_with_what_it_is_made_of(tmp_path: Path) -> None:
    models = [make(1), make(2)]
    for number, model in enumerate(models):
        write_model(tmp_path / f"{number}", model)
    sources = [str(tmp_path / name) for name in ("0", "1", "mean")]
    with pytest.raises(SystemExit) as stop:
        main(["export-model", "--shares=0.25,0.75", *sources])
    assert not stop.value.code
    found = read_model(tmp_path / "mean")
    one, other = (by_path(model.variables) for model in models)
    for path, array in by_path(found.variables).items():
        expected = 0.25 * np.asarray(one[path]) + 0.75 * np.asarray(other[path])
        np.testing.assert_allclose(array, expected, rtol=1e-6, atol=1e-7)
    assert [made["share"] for made in found.training["mean_of"]] == [0.25, 0.75]
    assert [made["step"] for made in found.training["mean_of"]] == [1, 2]
    assert found.reference == NOTHING_KNOWN  # as it was not measured on it


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["--shares=0.4,0.6", "0"], "0.4,0.6"),
        (["0", "1"], "missing"),
        (["--shares=x,y", "0", "1"], "x,y"),
    ],
)
def test_shares_are_given_for_several_models_and_for_none_else(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        write_model(tmp_path / f"{number}", make(number))
    paths = [text if text.startswith("-") else str(tmp_path / text) for text in arguments]
    with pytest.raises(SystemExit) as stop:
        main(["export-model", *paths, str(tmp_path / "mean")])
    assert stop.value.code == 1 and not (tmp_path / "mean").exists()
    printed = capsys.readouterr().err
    assert "--shares" in printed and named in printed


def test_equal_models_come_out_as_they_were() -> None:
    model = make(1)
    found = average_models([model, model], [0.3, 0.7])
    expected = by_path(model.variables)
    for path, array in by_path(found.variables).items():
        np.testing.assert_allclose(array, expected[path], rtol=1e-6)


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.6), (1.5, -0.5), (float("nan"), 0.5)])
def test_shares_are_positive_one_for_each_and_one_in_all(shares: tuple[float, ...]) -> None:
    with pytest.raises(InputError):
        average_models([make(1), make(2)], shares)


def test_models_that_differ_in_more_than_weights_are_refused() -> None:
    other_scans = replace(make(2), expects=ExpectedScans(("T2w",), Preparation(), ("brain",)))
    for other in (make(2, growth_rate=8), other_scans):
        with input_error("Model 2"):
            average_models([make(1), other], [0.5, 0.5])
