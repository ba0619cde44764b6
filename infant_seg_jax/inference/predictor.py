"""From a trained network and a scan to a label map."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Float32, UInt8

from infant_seg_jax.config import Config
from infant_seg_jax.data.foreground import BRAIN, HEAD
from infant_seg_jax.data.labels import CLASS_NAMES
from infant_seg_jax.data.preprocessing import Preparation, prepare_volume
from infant_seg_jax.data.volumes import Volume
from infant_seg_jax.errors import InputError
from infant_seg_jax.inference.confidence import Confidence, agreement, mean_entropy
from infant_seg_jax.inference.segmentation import (
    Placement,
    Segmentation,
    most_probable,
    whole_label_map,
)
from infant_seg_jax.inference.windows import Shape, predict_windows
from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.training.checkpoints import load_variables
from infant_seg_jax.training.run_folder import RunRecord, read_run

_SHOWN = {BRAIN: "skull-stripped scans", HEAD: "whole heads"}
_ADVICE = {
    BRAIN: "give the scan with its skull",
    HEAD: "strip the skull first or give a brain mask with --mask",
}


@dataclass(frozen=True, eq=False)
class Predictor:
    """A network with its weights, and all that a scan goes through before and after it.

    Attributes:
        model: the network.
        variables: its parameters and batch statistics.
        modalities: the images that it expects of a subject, in this order.
        preparation: what its training scans went through.
        extents: what its training scans showed: `"brain"`, `"head"` or both.
        window: voxels of a window along right, anterior, superior.
        overlap: share of a window that the next one covers again.
        batch_size: windows predicted at once.
        mirror: whether a scan is predicted a second time with left and right exchanged, and the
            probabilities averaged.
        max_memory: how many bytes prediction may take; None: what the device and the machine have
            free.
    """

    model: SkipDenseNet3D
    variables: dict[str, Any]
    modalities: tuple[str, ...]
    preparation: Preparation
    extents: tuple[str, ...]
    window: Shape
    overlap: float
    batch_size: int
    mirror: bool = False
    max_memory: int | None = None

    @classmethod
    def from_run(cls, run: Path, which: str = "best", weights: str | None = None) -> "Predictor":
        """The network that a run trained.

        Args:
            run: the run's folder.
            which: its checkpoint: `"best"`, `"latest"` or the number of a step.
            weights: `"raw"` or `"averaged"`; None: averaged if the run has them.

        Raises:
            InputError: `run` is no run folder, or its checkpoint does not fit its config.
        """
        config, record = read_run(run)
        model = make_model(config)
        variables = load_variables(run, model, len(record.modalities), which, weights).variables
        return cls.from_config(config, variables, record)

    @classmethod
    def from_config(
        cls,
        config: Config,
        variables: dict[str, Any],
        record: RunRecord,
    ) -> "Predictor":
        """A predictor for weights at hand, as `config.inference` describes it."""
        settings = config.inference
        return cls(
            make_model(config),
            variables,
            record.modalities,
            record.preparation,
            record.extents,
            tuple(settings.window),
            settings.overlap,
            settings.batch_size,
        )

    def probabilities(self, image: Float[np.ndarray, "x y z c"]) -> Float32[np.ndarray, "x y z k"]:
        """Class probabilities of a prepared (normalised, cropped) image."""
        return self.predict(image)[0]

    def label_map(self, image: Float[np.ndarray, "x y z c"]) -> UInt8[np.ndarray, "x y z"]:
        """The most probable class of each voxel of a prepared image."""
        return most_probable(self.probabilities(image))

    def predict(
        self, image: Float[np.ndarray, "x y z c"]
    ) -> tuple[Float32[np.ndarray, "x y z k"], float]:
        """Class probabilities, and how far those of the mirror image agree (else NaN)."""
        plain = self._once(image)
        if not self.mirror:
            return plain, float("nan")
        mirrored = self._once(image[::-1])[::-1]
        agreed = agreement(most_probable(plain), most_probable(mirrored))
        plain += mirrored
        plain *= 0.5
        return plain, agreed

    def segment(
        self, volume: Volume, mask: Bool[np.ndarray, "x y z"] | None = None
    ) -> Segmentation:
        """Label a scan as read, given its brain mask or none, on its whole RAS grid.

        Outside the crop around the brain all is background.

        Raises:
            InputError: the scan has another number of modalities, is empty or constant.
        """
        return segment_with((self,), volume, mask)

    def _once(self, image: Float[np.ndarray, "x y z c"]) -> Float32[np.ndarray, "x y z k"]:
        return predict_windows(
            partial(_window_probabilities, self.model, self.variables),
            image,
            self.model.num_classes,
            self.window,
            self.overlap,
            self.batch_size,
        )


def segment_with(
    predictors: Sequence[Predictor],
    volume: Volume,
    mask: Bool[np.ndarray, "x y z"] | None = None,
) -> Segmentation:
    """Label a scan by the averaged probabilities of networks with one preparation.

    Raises:
        InputError: as `Predictor.segment`.
    """
    first = predictors[0]
    if volume.data.shape[-1] != len(first.modalities):
        raise InputError(
            f"{volume.path} comes with {volume.data.shape[-1]} image(s), expected "
            f"{len(first.modalities)} ({', '.join(first.modalities)}) as in training."
        )
    prepared = prepare_volume(volume, first.preparation, mask)
    total, agreed = first.predict(prepared.image)
    agreements = [agreed]
    for predictor in predictors[1:]:
        probabilities, agreed = predictor.predict(prepared.image)
        total += probabilities
        agreements.append(agreed)
    total /= len(predictors)
    unusual = tuple(
        dict.fromkeys(
            sentence
            for predictor in predictors
            for sentence in _mismatches(predictor, volume, prepared.extent)
        )
    )
    return Segmentation(
        whole_label_map(total, prepared, volume.shape),
        unusual,
        Confidence(mean_entropy(total, prepared.mask), float(np.mean(agreements)), unusual),
        total,
        Placement.of(prepared, volume.shape),
    )


def _mismatches(predictor: Predictor, volume: Volume, extent: str) -> tuple[str, ...]:
    """What of a scan the network has not seen in training, a sentence each."""
    if not predictor.extents or extent in predictor.extents:
        return ()
    return (
        f"{volume.path} looks like a {extent}, but the network was trained on "
        f"{' and '.join(_SHOWN[name] for name in predictor.extents)}: expect errors, and "
        f"{_ADVICE[extent]}.",
    )


def make_model(config: Config, axis_name: str | None = None) -> SkipDenseNet3D:
    """The network that `config.model` describes."""
    return SkipDenseNet3D(
        num_classes=len(CLASS_NAMES),
        growth_rate=config.model.growth_rate,
        stem_features=config.model.stem_features,
        block_layers=tuple(config.model.block_layers),
        dropout_rate=config.model.dropout_rate,
        axis_name=axis_name,
        dtype=jnp.dtype(config.model.dtype),
        remat=config.model.remat,
    )


# The model is static and hashable, so predictors with the same model share one compilation.
@partial(jax.jit, static_argnums=0)
def _window_probabilities(
    model: SkipDenseNet3D, variables: dict[str, Any], windows: Float[Array, "n x y z c"]
) -> Float[Array, "n x y z k"]:
    return jax.nn.softmax(cast(Array, model.apply(variables, windows, train=False)))
