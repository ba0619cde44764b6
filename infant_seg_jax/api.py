"""The package from Python: open a model, label scans, train, evaluate. docs/python.md shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, cast

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from nibabel.spatialimages import SpatialImage

from infant_seg_jax.config import Config, open_config
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.schemas import TISSUE_SCHEMA, find_schema
from infant_seg_jax.data.volumes import (
    Volume,
    mask_of,
    read_image,
    read_mask,
    stack,
    to_native,
    volume_of,
    write_label_map,
)
from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.gathering import Evaluation
from infant_seg_jax.evaluation.label_maps import measure_label_maps
from infant_seg_jax.evaluation.runs import measure_run
from infant_seg_jax.labelling.tissue_volumes import measure, voxel_ml
from infant_seg_jax.metrics.measures import TOLERANCE_MM
from infant_seg_jax.prediction.ensemble import Ensemble
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.prediction.segmentation import Segmentation
from infant_seg_jax.store.loading import BUNDLED, model_path, open_predictors
from infant_seg_jax.training.loop import train_and_evaluate

AnyPath: TypeAlias = str | PathLike[str]
Image: TypeAlias = AnyPath | SpatialImage | np.ndarray


@dataclass(frozen=True, eq=False)
class Labels:
    """A labelled scan.

    Attributes:
        segmentation: what the network found, on the scan's RAS+ grid.
        scan: what was labelled, in RAS+ order.
        warnings: what to know before trusting it, a sentence each.
    """

    segmentation: Segmentation
    scan: Volume
    warnings: tuple[str, ...]

    @property
    def array(self) -> UInt8[np.ndarray, "i j k"]:
        """0 background, 1 CSF, 2 gray matter, 3 white matter, in the scan's own axis order.

        Of a network with other classes, their values.
        """
        schema = LabelSchema.of(self.segmentation.classes)
        return to_native(schema.to_ids(self.segmentation.label_map), self.scan.native)

    @property
    def affine(self) -> np.ndarray:
        """Voxel indices of `array` to RAS+ millimetres: that of the scan, a 4x4 float64 array."""
        return self.scan.native.affine

    @property
    def image(self) -> nib.Nifti1Image:
        """`array` and `affine` as an image of nibabel's."""
        return nib.Nifti1Image(self.array, self.affine)

    @property
    def volumes_ml(self) -> dict[str, float]:
        """The volume of each tissue, or other class, in ml."""
        found = self.segmentation
        return measure(found.label_map, voxel_ml(self.scan.native), found.classes)

    @property
    def probabilities(self) -> dict[str, Float32[np.ndarray, "i j k"]]:
        """The probability of each class in each voxel of `array`, made anew at every look."""
        names = self.segmentation.classes.names
        maps = map(self.segmentation.probability, range(len(names)))
        native = (to_native(one, self.scan.native) for one in maps)
        return dict(zip(names, native, strict=True))

    def save(self, path: AnyPath) -> None:
        """Write the label map as NIfTI (.nii or .nii.gz) on the scan's own grid.

        Raises:
            InputError: the name ends otherwise, or the folder cannot be written to.
        """
        schema = LabelSchema.of(self.segmentation.classes)
        written = schema.to_ids(self.segmentation.label_map)
        write_label_map(Path(path), written, self.scan.native)


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network, or the mean of several, ready to label scans.

    Attributes:
        names: of the folders that it is from.
        segmenter: the network.
    """

    names: tuple[str, ...]
    segmenter: Predictor | Ensemble

    @property
    def modalities(self) -> tuple[str, ...]:
        """The images that it takes of a subject, in order; `any` is a T1w, a T2w, or both."""
        return self.segmenter.expects.modalities

    def segment(
        self, scan: Image | Sequence[Image], *, affine: Any = None, mask: Image | None = None
    ) -> Labels:
        """Label a scan, on its own grid.

        Args:
            scan: a file (NIfTI, MGH or Analyze), an image of nibabel's, or an array with its
                affine; of several modalities a list of such, in the order of `modalities`.
            affine: of arrays: voxel indices to RAS+ millimetres, 4x4.
            mask: where the brain is, if it is known: not 0 there, on the scan's grid.

        Raises:
            InputError: the scan or the mask cannot be used.
        """
        images = scan if isinstance(scan, Sequence) and not isinstance(scan, str) else [scan]
        if not images:
            raise InputError(f"There is no scan, expected {' and '.join(self.modalities)}.")
        volume = stack([_volume(cast(Image, image), affine) for image in images])
        segmentation = self.segmenter.segment(volume, None if mask is None else _mask(mask, volume))
        warnings = tuple(dict.fromkeys((*volume.notices, *segmentation.notices)))
        return Labels(segmentation, volume, warnings)


def load(
    model: AnyPath | Sequence[AnyPath] = BUNDLED,
    *,
    which: str = "best",
    weights: str | None = None,
    mirror: bool = False,
    refine: bool | None = None,
    overlap: float | None = None,
    max_memory: int | None = None,
) -> Model:
    """Open a trained network.

    Args:
        model: `"bundled"`, a run folder or a model folder; of several, the mean is taken.
        which: of a run, the checkpoint: `"best"`, `"latest"` or the number of a step.
        weights: of a run, `"raw"` or `"averaged"`; None: averaged if it has them.
        mirror: whether to predict a scan a second time, mirrored, and to average.
        refine: whether there is intensity-based refinement; None: as the model has it.
        overlap: share of a window that the next one covers again; None: as the model has it.
        max_memory: how many bytes the process may hold; None: most of what is free.

    Raises:
        InputError: there is no such model, or it is damaged.
    """
    paths = [model] if isinstance(model, (str, PathLike)) else list(model)
    predictors = open_predictors(
        [str(path) for path in paths],
        which,
        weights,
        mirror=mirror,
        refine=refine,
        overlap=overlap,
        max_memory=max_memory,
    )
    names = tuple(model_path(str(path)).resolve().name for path in paths)
    return Model(names, predictors[0] if len(predictors) == 1 else Ensemble(predictors))


def train(config: Config | AnyPath, workdir: AnyPath) -> Model:
    """Train, or go on with a run that was interrupted, and open what it learned.

    Args:
        config: of `open_config` or `default_config`; or a config's name or path, as it stands.
        workdir: the run's folder.

    Raises:
        InputError: as `train_and_evaluate`.
    """
    if isinstance(config, (str, PathLike)):
        config = open_config(str(config))
    train_and_evaluate(config, Path(workdir))
    return load(workdir)


def evaluate(
    model: AnyPath,
    data: AnyPath,
    *,
    split: str = "validation",
    fold: int = 0,
    which: str = "best",
    tolerance_mm: float = TOLERANCE_MM,
) -> Evaluation:
    """Label the cases of a prepared set and measure them against their truth.

    Args:
        model: as of `load`.
        data: a folder that `infant-seg prepare` wrote.
        split, fold: which of its cases.
        which: of a run, the checkpoint.
        tolerance_mm: how far apart surfaces may be to count as one in the surface Dice.

    Raises:
        InputError: as `measure_run`.
    """
    return measure_run(Path(model), Path(data), split, fold, which, tolerance_mm)


def evaluate_label_maps(
    prediction: AnyPath,
    truth: AnyPath,
    *,
    schema: str = TISSUE_SCHEMA.name,
    prediction_schema: str = TISSUE_SCHEMA.name,
    tolerance_mm: float = TOLERANCE_MM,
) -> Evaluation:
    """Measure label maps, also those of other tools, against the truth.

    Args:
        prediction, truth: folders, paired by names, or one file each.
        schema, prediction_schema: what the values mean: a name or a file, as of `--schema`.
        tolerance_mm: as of `evaluate`.

    Raises:
        InputError: as `measure_label_maps`.
    """
    schemas = find_schema(schema), find_schema(prediction_schema)
    return measure_label_maps(Path(prediction), Path(truth), *schemas, tolerance_mm)


def _volume(image: Image, affine: Any) -> Volume:
    if isinstance(image, SpatialImage):
        header = image.header if isinstance(image.header, nib.Nifti1Header) else None
        name = Path(image.get_filename() or "the image")
        if image.affine is None:
            raise InputError(f"{name} has no affine, expected one.")
        return volume_of(np.asanyarray(image.dataobj), image.affine, header, name)
    if isinstance(image, (str, PathLike)):
        return read_image(Path(image))
    if not hasattr(image, "__array__"):
        raise InputError(
            f"The scan is of the type {type(image).__name__}, expected a path, an image of "
            "nibabel's, or an array with its affine."
        )
    array, matrix = np.asarray(image), np.asarray(affine if affine is not None else ())
    if matrix.shape != (4, 4) or matrix.dtype.kind not in "iuf":
        raise InputError(
            "An array does not say where its voxels lie: give its affine, a 4x4 matrix from voxel "
            "indices to RAS+ millimetres, as segment(array, affine=...)."
        )
    return volume_of(array, matrix.astype(np.float64))


def _mask(mask: Image, scan: Volume) -> Bool[np.ndarray, "x y z"]:
    if isinstance(mask, (str, PathLike)):
        return read_mask(Path(mask), scan)[0]
    array = np.asanyarray(mask.dataobj if isinstance(mask, SpatialImage) else mask)
    return mask_of(array, scan)
