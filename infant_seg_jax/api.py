"""The Python interface: open a model, label scans, train, evaluate; see docs/python.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, cast

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float32, Integer
from nibabel.spatialimages import SpatialImage

from infant_seg_jax.config import Config, open_config
from infant_seg_jax.data.class_sets import find_classes
from infant_seg_jax.data.labels import TISSUE_CLASSES, ClassSet, LabelSchema
from infant_seg_jax.data.schemas import find_schema
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
from infant_seg_jax.labeling.tissue_volumes import measure
from infant_seg_jax.metrics.measures import TOLERANCE_MM
from infant_seg_jax.prediction.ensemble import Ensemble
from infant_seg_jax.prediction.expected_dice import ExpectedDice
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.prediction.segmentation import Segmentation
from infant_seg_jax.store.loading import BUNDLED, model_path, open_predictors
from infant_seg_jax.training.loop import train_and_evaluate

AnyPath: TypeAlias = str | PathLike[str]
Image: TypeAlias = AnyPath | SpatialImage | np.ndarray


@dataclass(frozen=True, eq=False)
class Labels:
    """A labeled scan.

    Attributes:
        segmentation: the network's result, on the scan's grid in RAS+ order.
        scan: the scan, in RAS+ order.
        warnings: sentences to read before you rely on the labels.
    """

    segmentation: Segmentation
    scan: Volume
    warnings: tuple[str, ...]

    @property
    def classes(self) -> ClassSet:
        """The classes: background, CSF, gray and white matter, or finer ones."""
        return self.segmentation.classes

    @property
    def array(self) -> Integer[np.ndarray, "i j k"]:
        """The label map, uint8, in the scan's own axis order.

        0 is background, 1 CSF, 2 gray matter, 3 white matter; finer classes have their own values.
        """
        return to_native(self._values, self.scan.native)

    @property
    def affine(self) -> np.ndarray:
        """The scan's affine, from voxel indices of `array` to RAS+ mm, 4x4 float64."""
        return self.scan.native.affine

    @property
    def image(self) -> nib.Nifti1Image:
        """`array` and `affine` as a nibabel image."""
        return nib.Nifti1Image(self.array, self.affine)

    @property
    def volumes_ml(self) -> dict[str, float]:
        """The volume of each tissue, or of each finer class, in ml."""
        return measure(self.segmentation.label_map, self.scan.affine, self.classes)

    @property
    def probabilities(self) -> dict[str, Float32[np.ndarray, "i j k"]]:
        """The probability of each class in each voxel of `array`, computed at each access."""
        maps = map(self.segmentation.probability, range(len(self.classes)))
        native = (to_native(one, self.scan.native) for one in maps)
        return dict(zip(self.classes.names, native, strict=True))

    @property
    def expected_dice(self) -> ExpectedDice | None:
        """The mean Dice over the tissues that the model expects, with its range; None if unknown.

        It was learned from rendered scans of known truth, so that of real scans it is a guess.
        """
        return self.segmentation.confidence.expected_dice

    def save(self, path: AnyPath) -> None:
        """Write the label map as NIfTI (.nii or .nii.gz) on the scan's own grid.

        Raises:
            InputError: the name has another extension, or the folder cannot be written to.
        """
        write_label_map(Path(path), self._values, self.scan.native)

    @property
    def _values(self) -> Integer[np.ndarray, "x y z"]:
        return LabelSchema.of(self.classes).to_ids(self.segmentation.label_map)


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network, or the mean of several, ready to label scans.

    Attributes:
        names: the names of the folders that it was loaded from.
        segmenter: the network or networks.
    """

    names: tuple[str, ...]
    segmenter: Predictor | Ensemble

    @property
    def modalities(self) -> tuple[str, ...]:
        """The images of a subject that it takes, in order; `any` is a T1w, a T2w, or both."""
        return self.segmenter.expects.modalities

    def segment(
        self, scan: Image | Sequence[Image], *, affine: Any = None, mask: Image | None = None
    ) -> Labels:
        """Label a scan, on its own grid.

        Args:
            scan: a file (NIfTI, MGH or Analyze), a nibabel image, or an array with its affine; for
                several modalities a list of these, in the order of `modalities`.
            affine: for arrays, 4x4, from voxel indices to RAS+ mm.
            mask: not 0 where the brain is, on the scan's grid; None: whatever is not air.

        Raises:
            InputError: the scan or the mask cannot be used.
        """
        images = scan if isinstance(scan, Sequence) and not isinstance(scan, str) else [scan]
        if not images:
            raise InputError(f"There is no scan, expected {' and '.join(self.modalities)}.")
        volume = stack([_volume(cast(Image, image), affine) for image in images])
        brain, mask_notices = (None, ()) if mask is None else _mask(mask, volume)
        segmentation = self.segmenter.segment(volume, brain)
        warnings = tuple(dict.fromkeys((*volume.notices, *mask_notices, *segmentation.notices)))
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
    fix_orientation: bool = False,
) -> Model:
    """Open a trained network.

    Args:
        model: `"bundled"`, the name of an installed model, a run folder, a model folder, or a list
            of these, to average them.
        which: the checkpoint of a run: `"best"`, `"latest"` or the number of a step.
        weights: the weights of a run, `"raw"` or `"averaged"`; None: averaged if it has them.
        mirror: whether to predict each scan a second time, mirrored, and to average both.
        refine: whether to apply intensity-based refinement; None: as the model's config says.
        overlap: overlap of neighboring windows, as a fraction of their size; None: as the model's
            config says.
        max_memory: how many bytes the process may use; None: most of the free memory.
        fix_orientation: whether to label a scan whose header is certainly wrong about front and top
            as if the header were right.

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
        fix_orientation=fix_orientation,
    )
    names = tuple(model_path(str(path)).resolve().name for path in paths)
    return Model(names, predictors[0] if len(predictors) == 1 else Ensemble(predictors))


def train(config: Config | AnyPath, workdir: AnyPath) -> Model:
    """Train, or continue an interrupted run, and open the trained network.

    Args:
        config: from `open_config` or `default_config`, or the name or path of a config.
        workdir: the run folder.

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
    classes: str | None = None,
    tolerance_mm: float = TOLERANCE_MM,
) -> Evaluation:
    """Label the cases of a prepared set and measure them against their truth.

    Args:
        model: `"bundled"`, a run folder or a model folder.
        data: a prepared set, written by `infant-seg prepare`.
        split: `"train"`, `"validation"` or `"test"`.
        fold: the number of the fold in the set's splits.json.
        which: the checkpoint of a run: `"best"`, `"latest"` or the number of a step.
        classes: which classes to measure, by name or file; None: those that both have, otherwise
            tissues.
        tolerance_mm: largest distance at which surfaces count as the same in the surface Dice.

    Raises:
        InputError: as `measure_run`.
    """
    wanted = find_classes(classes) if classes else None
    return measure_run(Path(model), Path(data), split, fold, which, tolerance_mm, classes=wanted)


def evaluate_label_maps(
    prediction: AnyPath,
    truth: AnyPath,
    *,
    schema: str | None = None,
    prediction_schema: str | None = None,
    classes: str = TISSUE_CLASSES.name,
    tolerance_mm: float = TOLERANCE_MM,
) -> Evaluation:
    """Measure label maps of any tool against true ones.

    Args:
        prediction: a folder of predicted label maps, or one file.
        truth: a folder of true label maps, paired by name, or one file.
        schema: what the values of the truth mean, by name or file; None: the classes' own values.
        prediction_schema: the same for the prediction.
        classes: which classes to measure, by name or file.
        tolerance_mm: largest distance at which surfaces count as the same in the surface Dice.

    Raises:
        InputError: as `measure_label_maps`.
    """
    wanted = find_classes(classes)
    true, predicted = (
        find_schema(one or wanted.name, wanted) for one in (schema, prediction_schema)
    )
    return measure_label_maps(Path(prediction), Path(truth), true, predicted, tolerance_mm)


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
            f"The scan is of the type {type(image).__name__}, expected a path, a nibabel image, or "
            "an array with its affine."
        )
    array, matrix = np.asarray(image), np.asarray(affine if affine is not None else ())
    if matrix.shape != (4, 4) or matrix.dtype.kind not in "iuf":
        raise InputError(
            "An array has no voxel positions: give its affine, a 4x4 matrix from voxel indices to "
            "RAS+ millimeters, as segment(array, affine=...)."
        )
    return volume_of(array, matrix.astype(np.float64))


def _mask(mask: Image, scan: Volume) -> tuple[Bool[np.ndarray, "x y z"], tuple[str, ...]]:
    if isinstance(mask, (str, PathLike)):
        return read_mask(Path(mask), scan)
    array = np.asanyarray(mask.dataobj if isinstance(mask, SpatialImage) else mask)
    return mask_of(array, scan), ()
