"""A network that never learned anything: it labels nonsense, but says the same of the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from infant_seg_jax.config import default_config
from infant_seg_jax.data.prepared import ExpectedScans
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.models.variables import init_variables
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.store.model_folder import Model, write_model


def untrained_predictor(seed: int = 0) -> Predictor:
    """A tiny one of one T1w scan without a skull."""
    model = SkipDenseNet3D(growth_rate=4, stem_features=4, block_layers=(1, 1))
    return Predictor(
        model,
        init_variables(model, 1, seed),
        expects=ExpectedScans(("T1w",), Preparation(), ("brain",)),
        window=(32, 32, 32),
        overlap=0.25,
        batch_size=2,
    )


def expecting(predictor: Predictor, **changes: Any) -> Predictor:
    """The same, but that its scans were others: with other fields in `expects`."""
    return replace(predictor, expects=replace(predictor.expects, **changes))


def write_untrained_model(folder: Path) -> Path:
    """A model folder of the same kind."""
    config = default_config()
    config.model.update(growth_rate=4, stem_features=4, block_layers=(1, 1))
    config.inference.window = (32, 32, 32)
    expects = ExpectedScans(("T1w",), Preparation(), ("brain",))
    variables = init_variables(make_model(config), 1, seed=0)
    write_model(folder, Model(config, variables, expects, {}))
    return folder
