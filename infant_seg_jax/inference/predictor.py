"""From a trained network and a scan to a label map."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from jax import Array
from jaxtyping import Float, UInt8

from infant_seg_jax.config import Config
from infant_seg_jax.data.labels import CLASS_NAMES
from infant_seg_jax.data.preprocessing import Preparation, prepare_volume, uncrop
from infant_seg_jax.data.volumes import Volume
from infant_seg_jax.errors import InputError
from infant_seg_jax.inference.windows import Shape, predict_windows
from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.training.checkpoints import load_variables
from infant_seg_jax.training.run_folder import read_run


@dataclass(frozen=True, eq=False)
class Predictor:
    """A network with its weights, and all that a scan goes through before and after it.

    Attributes:
        model: the network.
        variables: its parameters and batch statistics.
        modalities: the images that it expects of a subject, in this order.
        preparation: what its training scans went through.
        window: voxels of a window along right, anterior, superior.
        overlap: share of a window that the next one covers again.
        batch_size: windows predicted at once.
    """

    model: SkipDenseNet3D
    variables: dict[str, Any]
    modalities: tuple[str, ...]
    preparation: Preparation
    window: Shape
    overlap: float
    batch_size: int

    @classmethod
    def from_run(cls, run: Path, which: str = "best") -> "Predictor":
        """The network that a run trained, at its `"best"` or `"latest"` checkpoint.

        Raises:
            InputError: `run` is no run folder, or its checkpoint does not fit its config.
        """
        config, record = read_run(run)
        model = make_model(config)
        variables = load_variables(run, model, len(record.modalities), which).variables
        return cls.from_config(config, variables, record.modalities, record.preparation)

    @classmethod
    def from_config(
        cls,
        config: Config,
        variables: dict[str, Any],
        modalities: tuple[str, ...],
        preparation: Preparation,
    ) -> "Predictor":
        """A predictor for weights at hand, as `config.inference` describes it."""
        settings = config.inference
        return cls(
            make_model(config),
            variables,
            modalities,
            preparation,
            tuple(settings.window),
            settings.overlap,
            settings.batch_size,
        )

    def probabilities(self, image: Float[np.ndarray, "x y z c"]) -> Float[np.ndarray, "x y z k"]:
        """Class probabilities of a prepared (normalised, cropped) image."""
        return predict_windows(
            partial(_window_probabilities, self.model, self.variables),
            image,
            self.model.num_classes,
            self.window,
            self.overlap,
            self.batch_size,
        )

    def label_map(self, image: Float[np.ndarray, "x y z c"]) -> UInt8[np.ndarray, "x y z"]:
        """The most probable class of each voxel of a prepared image."""
        return self.probabilities(image).argmax(axis=-1).astype(np.uint8)

    def segment(self, volume: Volume) -> UInt8[np.ndarray, "x y z"]:
        """The label map of a scan as read, on its whole RAS grid; background outside the crop.

        Raises:
            InputError: the scan has another number of modalities, is empty or constant.
        """
        if volume.data.shape[-1] != len(self.modalities):
            raise InputError(
                f"{volume.path} comes with {volume.data.shape[-1]} image(s), expected "
                f"{len(self.modalities)} ({', '.join(self.modalities)}) as in training."
            )
        prepared = prepare_volume(volume, self.preparation)
        return uncrop(self.label_map(prepared.image), prepared.box, volume.shape)


def make_model(config: Config, axis_name: str | None = None) -> SkipDenseNet3D:
    """The network that `config.model` describes."""
    return SkipDenseNet3D(
        num_classes=len(CLASS_NAMES),
        growth_rate=config.model.growth_rate,
        stem_features=config.model.stem_features,
        block_layers=tuple(config.model.block_layers),
        dropout_rate=config.model.dropout_rate,
        axis_name=axis_name,
    )


# The model is static and hashable, so predictors with the same model share one compilation.
@partial(jax.jit, static_argnums=0)
def _window_probabilities(
    model: SkipDenseNet3D, variables: dict[str, Any], windows: Float[Array, "n x y z c"]
) -> Float[Array, "n x y z k"]:
    return jax.nn.softmax(cast(Array, model.apply(variables, windows, train=False)))
