"""A network that never learned anything: it labels nonsense, but says the same of the same."""

from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.inference.predictor import Predictor
from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.training.state import init_variables


def untrained_predictor(seed: int = 0) -> Predictor:
    """A tiny one of one T1w scan without a skull."""
    model = SkipDenseNet3D(growth_rate=4, stem_features=4, block_layers=(1, 1))
    return Predictor(
        model,
        init_variables(model, 1, seed),
        modalities=("T1w",),
        preparation=Preparation(),
        extents=("brain",),
        window=(32, 32, 32),
        overlap=0.25,
        batch_size=2,
    )
