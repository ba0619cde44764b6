"""From a trained network and a scan to a label map."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import nan
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from infant_seg_jax.compilation import has_onednn
from infant_seg_jax.config import Config
from infant_seg_jax.data.cropping import uncrop
from infant_seg_jax.data.foreground import BRAIN, HEAD
from infant_seg_jax.data.formats.grid import Shape, times
from infant_seg_jax.data.labels import BACKGROUND, TISSUE_CLASSES
from infant_seg_jax.data.orientation import Orientation, orientation_of, turned, turned_volume
from infant_seg_jax.data.prepared import ANY_MODALITY, ExpectedScans
from infant_seg_jax.data.preprocessing import (
    PreparedVolume,
    most_probable,
    prepare_volume,
    restore_label_map,
)
from infant_seg_jax.data.volumes import Volume, voxel_ml
from infant_seg_jax.errors import InputError
from infant_seg_jax.models.factory import Network, make_model
from infant_seg_jax.prediction.brain_finding import brain_to_show
from infant_seg_jax.prediction.checks import check_orientation, check_segmentation
from infant_seg_jax.prediction.confidence import Confidence, agreement, mean_entropy, signs_of
from infant_seg_jax.prediction.execution import execute_or_shrink
from infant_seg_jax.prediction.expected_dice import expected_dice
from infant_seg_jax.prediction.memory import available_memory
from infant_seg_jax.prediction.planning import Plan, WindowPlan, make_plan, map_bytes
from infant_seg_jax.prediction.reference_statistics import (
    NOTHING_KNOWN,
    ReferenceStatistics,
    why_unusual,
)
from infant_seg_jax.prediction.refinement import refine_scan
from infant_seg_jax.prediction.segmentation import Placement, Segmentation
from infant_seg_jax.progress import stage

_SHOWN = {BRAIN: "skull-stripped scans", HEAD: "whole heads"}
_ADVICE = {
    BRAIN: "give the scan with its skull",
    HEAD: "strip the skull first, or give a brain mask with --mask",
}


@dataclass(frozen=True, eq=False)
class Prediction:
    """A prepared image, predicted.

    Attributes:
        probabilities: of the classes.
        entropy: their mean entropy over what is not 0 in the image, before any mirroring.
        agreement: mean Dice over the tissues between the label maps of the image and of its mirror
            image; NaN if that was not predicted.
        notices: what came up on the way, a sentence each.
    """

    probabilities: Float32[np.ndarray, "x y z k"]
    entropy: float
    agreement: float
    notices: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Predictor:
    """A network with its weights, and all steps before and after it.

    Attributes:
        model: the network.
        variables: its parameters and batch statistics.
        expects: the properties of its training scans, which it expects of other scans.
        window: size of a window in voxels along right, anterior, superior.
        overlap: overlap of neighboring windows, as a fraction of their size.
        batch_size: windows predicted at once.
        refine: whether to apply intensity-based refinement to scans (not to prepared images).
        mirror: whether to predict a scan a second time with left and right exchanged, and to
            average the probabilities.
        max_memory: how many bytes the process may use, or how many of the device's memory if it has
            its own; None: most of the free memory.
        windows_only: whether to predict volumes by windows even if there is enough memory to
            predict them at once.
        fix_orientation: whether to label a scan whose header is certainly wrong about front and top
            as if the header were right.
        reference: the reference statistics, by which unusual scans are flagged.
        brain_finder: the network that finds the brain in whole heads and in scans that show more
            than the brain, unless there is a brain mask; None: what is not air is used.
        name: its name in messages: where it was loaded from.
    """

    model: Network
    variables: dict[str, Any]
    expects: ExpectedScans
    window: Shape
    overlap: float
    batch_size: int
    refine: bool = False
    mirror: bool = False
    max_memory: int | None = None
    windows_only: bool = False
    fix_orientation: bool = False
    reference: ReferenceStatistics = NOTHING_KNOWN
    brain_finder: "Predictor | None" = None
    name: str = "the network"

    @classmethod
    def from_config(
        cls,
        config: Config,
        variables: dict[str, Any],
        expects: ExpectedScans,
        reference: ReferenceStatistics = NOTHING_KNOWN,
    ) -> "Predictor":
        """Make a predictor from weights, with the settings in `config.inference`."""
        settings = config.inference
        return cls(
            make_model(config, onednn=has_onednn(), num_classes=len(expects.classes)),
            jax.device_put(variables),
            expects,
            tuple(settings.window),
            settings.overlap,
            settings.batch_size,
            settings.refine,
            reference=reference,
        )

    def probabilities(self, image: Float[np.ndarray, "x y z c"]) -> Float32[np.ndarray, "x y z k"]:
        """Compute the class probabilities of a prepared (normalized, cropped) image."""
        return self.predict(image).probabilities

    def label_map(
        self, image: Float[np.ndarray, "x y z c"], of: Path | str = "The image"
    ) -> UInt8[np.ndarray, "x y z"]:
        """Return the most probable class of each voxel of a prepared image; see `predict`."""
        return most_probable(self.predict(image, of).probabilities)

    def predict(
        self, image: Float[np.ndarray, "x y z c"], of: Path | str = "The image"
    ) -> Prediction:
        """Compute the class probabilities of a prepared image, their entropy and notices.

        Args:
            image: an image prepared by `prepare_volume`.
            of: the name of the image in error messages: its scan.

        Raises:
            InputError: the array has other axes, or the network's numbers overflow, so that its
                probabilities are not finite.
        """
        self._check_image(image)
        model, (x, y, z, channels) = self.model, image.shape
        windows = WindowPlan(self.window, self.overlap, self.batch_size)
        # The maps of the scan stay while its mirror image is predicted.
        free = available_memory(self.max_memory) - self.mirror * map_bytes(model, (x, y, z))
        first = make_plan(model, (x, y, z), channels, free, windows, only=self.windows_only)
        plain, plan = execute_or_shrink(model, self.variables, image, first, windows)
        if not np.isfinite(plain.sum()):
            raise InputError(
                f"{of} cannot be labeled by {self.name}, whose probabilities are not finite: its "
                "weights are far too large or damaged, so use another checkpoint or another model."
            )
        entropy, agreed = mean_entropy(plain, np.asarray(image.any(axis=-1))), float("nan")
        if self.mirror:
            flipped, plan = execute_or_shrink(model, self.variables, image[::-1], plan, windows)
            mirrored = flipped[::-1]
            found = most_probable(plain), most_probable(mirrored)
            agreed = agreement(
                *(self.expects.classes.convert(one, TISSUE_CLASSES) for one in found)
            )
            plain = np.add(plain, mirrored)
            plain *= 0.5
        return Prediction(plain, entropy, agreed, self._notices(first, plan))

    def segment(
        self, volume: Volume, mask: Bool[np.ndarray, "x y z"] | None = None
    ) -> Segmentation:
        """Label a scan, with or without a brain mask, on its whole RAS+ grid.

        Everything outside the crop around the brain is background.

        Raises:
            InputError: the scan has another number of images than there are modalities, is empty
                or constant, or as `predict`.
        """
        return segment_with((self,), volume, mask)

    def _check_image(self, image: object) -> None:
        channels = len(self.expects.modalities)
        found = f"of shape {times(image.shape)}" if isinstance(image, np.ndarray) else _kind(image)
        if not isinstance(image, np.ndarray) or image.ndim != 4 or image.shape[-1] != channels:
            raise InputError(
                f"The image is {found}, expected a prepared array with three axes and a last axis "
                f"of size {channels} ({', '.join(self.expects.modalities)}): for a scan, use "
                "segment()."
            )

    def _notices(self, first: Plan, last: Plan) -> tuple[str, ...]:
        """What became of the plan to predict the whole volume at once, a sentence each."""
        found = []
        if isinstance(first, WindowPlan) and not self.windows_only:
            found.append(
                f"There was too little memory to predict the scan at once, so {first} were "
                "blended: this takes longer, and voxels at tissue borders may differ."
            )
        if last != first:
            found.append(
                f"Memory ran out with {first}, so the scan was predicted in {last}, which "
                "takes longer: close other programs, or set a lower --max_memory."
            )
        return tuple(found)


def segment_with(
    predictors: Sequence[Predictor],
    volume: Volume,
    mask: Bool[np.ndarray, "x y z"] | None = None,
) -> Segmentation:
    """Label a scan by the averaged probabilities of networks with one preparation.

    Networks of `ANY_MODALITY` predict each of several images by itself, and these are averaged,
    too; intensity-based refinement then takes all images together. It takes place if all of the
    networks have it; the confidence is of the probabilities before it.

    Without a mask, the first network's brain finder, if it has one, says what is shown of a head.

    A scan whose header surely turns the brain is told of; if all networks fix orientations, it is
    labeled as if its header were right. The label map lies on the scan's own grid all the same.

    Raises:
        InputError: as `Predictor.segment`.
    """
    if not isinstance(volume, Volume):
        raise InputError(
            f"The scan is {_kind(volume)}, expected a Volume, as returned by read_image: "
            "infant_seg_jax.load() opens a model that also takes paths, images and arrays."
        )
    orientation = orientation_of(volume, mask)
    notices: tuple[str, ...] = ()
    if mask is None and (finder := predictors[0].brain_finder):
        mask = _found_brain(finder, volume, orientation)
        if mask is not None:
            orientation = orientation_of(volume, mask)
            notices = (_describe_found(volume, mask),)
    found = _segment_as_it_lies(predictors, volume, mask, orientation)
    return replace(found, notices=(*found.notices, *notices))


def _segment_as_it_lies(
    predictors: Sequence[Predictor],
    volume: Volume,
    mask: Bool[np.ndarray, "x y z"] | None,
    orientation: Orientation | None,
) -> Segmentation:
    """As `segment_with`, given which way the brain lies."""
    if orientation is None:
        return _segment(predictors, volume, mask, None)
    fix = all(predictor.fix_orientation for predictor in predictors)
    if orientation.contradicts_header and fix:
        turn = orientation.turn
        right = turned_volume(volume, turn)
        mask = None if mask is None else turned(mask, turn)
        found = _segment(predictors, right, mask, orientation).turned_back(turn)
    else:
        found = _segment(predictors, volume, mask, orientation)
    return found.after(check_orientation(orientation, volume.path, fixed=fix))


def _found_brain(
    finder: Predictor, volume: Volume, orientation: Orientation | None
) -> Bool[np.ndarray, "x y z"] | None:
    """The brain that is to be shown of a scan; None: all that is not air.

    If the header surely turns the brain, it is looked for as if the header were right.
    """
    if orientation and orientation.contradicts_header:
        turn = orientation.turn
        found = _found_brain(finder, turned_volume(volume, turn), None)
        return None if found is None else np.ascontiguousarray(turned(found, turn.T))
    stage("Finding the brain.")
    prepared = prepare_volume(volume, finder.expects.preparation)
    images = np.split(prepared.image, prepared.image.shape[-1], axis=-1)
    background = [
        finder.predict(image, volume.path).probabilities[..., BACKGROUND] for image in images
    ]
    return brain_to_show(prepared, np.mean(background, axis=0), volume.shape)


def _describe_found(volume: Volume, mask: Bool[np.ndarray, "x y z"]) -> str:
    ml = np.count_nonzero(mask) * voxel_ml(volume.affine)
    return (
        f"{volume.path} shows more than the brain, so only {ml:.0f} ml around it are labeled: "
        "look at the label map, and give a brain mask with --mask if it is wrong."
    )


def _segment(
    predictors: Sequence[Predictor],
    volume: Volume,
    mask: Bool[np.ndarray, "x y z"] | None,
    orientation: Orientation | None,
) -> Segmentation:
    """As `segment_with`, of a scan whose header is believed."""
    expects, channels = predictors[0].expects, volume.data.shape[-1]
    one_by_one = expects.modalities == (ANY_MODALITY,)
    if not one_by_one and channels != len(expects.modalities):
        raise InputError(
            f"{volume.path} has {channels} image(s), expected "
            f"{len(expects.modalities)} ({', '.join(expects.modalities)}) as in training."
        )
    prepared = prepare_volume(volume, expects.preparation, mask)
    stage(f"Network: {times(prepared.image.shape[:3])} voxels.")
    total: Float32[np.ndarray, "x y z k"] | None = None
    entropies, agreements, unusual, notices = [], [], [], list(prepared.notices)
    images = np.split(prepared.image, channels, axis=-1) if one_by_one else [prepared.image]
    for predictor, image in product(predictors, images):
        found = predictor.predict(image, volume.path)
        unusual += _mismatches(predictor, volume, prepared, found)
        notices += [f"{volume.path}: {notice}" for notice in found.notices]
        entropies.append(found.entropy)
        agreements.append(found.agreement)
        total = found.probabilities if total is None else total + found.probabilities
    assert total is not None
    if len(agreements) > 1:
        total /= len(agreements)
    entropy = mean_entropy(total, prepared.mask)
    placement = Placement.of(prepared, volume.shape)
    refine = all(predictor.refine for predictor in predictors)
    if refine:
        stage("Intensity-based refinement.")
        total = refine_scan(total, prepared, volume, expects.classes)
        placement = placement.of_crop()
        label_map = uncrop(most_probable(total), prepared.box, volume.shape)
    else:
        label_map = restore_label_map(total, prepared, volume.shape)
    if not label_map.any():
        notices.append(
            f"{volume.path} was labeled without any tissue: look at the scan, and check whether "
            "the network is meant for such scans."
        )
    tissues = expects.classes.convert(label_map, TISSUE_CLASSES)
    checks = check_segmentation(volume, prepared, tissues, orientation, masked=mask is not None)
    unusual = (*(check.sentence for check in checks if check.sentence), *dict.fromkeys(unusual))
    checked = [check.about for check in checks]
    for predictor in predictors:
        checked += predictor.reference.measured(mirrored=predictor.mirror)
    expected = None
    if refine and (len(agreements), prepared.extent) == (1, BRAIN):  # as what a model has measured
        signs = signs_of(entropies[0], total, prepared.crop_mask, volume.data, tissues)
        expected = expected_dice(predictors[0].reference.scored, signs)
    return Segmentation(
        label_map,
        tuple(dict.fromkeys((*unusual, *notices))),
        Confidence(
            entropy, float(np.mean(agreements)), unusual, tuple(dict.fromkeys(checked)), expected
        ),
        total,
        placement,
        expects.classes,
    )


def _kind(value: object) -> str:
    return f"of the type {type(value).__name__}"


def _mismatches(
    predictor: Predictor, volume: Volume, prepared: PreparedVolume, found: Prediction
) -> tuple[str, ...]:
    """What of a scan the network has not seen in training, a sentence each."""
    extent, known = prepared.extent, predictor.expects.extents
    others = why_unusual(
        volume.path,
        predictor.reference,
        entropy=found.entropy,
        agreement=found.agreement,
        volume_ml=nan
        if extent == HEAD
        else np.count_nonzero(prepared.mask) * voxel_ml(prepared.affine),
    )
    if not known or extent in known:
        return others
    return (
        f"{volume.path} looks like a {extent}, but the network was trained on "
        f"{' and '.join(_SHOWN[name] for name in known)}: expect errors, and {_ADVICE[extent]}.",
        *others,
    )
