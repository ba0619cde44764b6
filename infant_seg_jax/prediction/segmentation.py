"""A labeled scan: its label map and, on demand, the map of one class's probability."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, UInt8

from infant_seg_jax.data.cropping import Box, box_shape, uncrop
from infant_seg_jax.data.formats.grid import Affine, Shape
from infant_seg_jax.data.labels import BACKGROUND, TISSUE_CLASSES, ClassSet
from infant_seg_jax.data.orientation import Turn, turned
from infant_seg_jax.data.preprocessing import PreparedVolume
from infant_seg_jax.data.resampling import resample_image
from infant_seg_jax.prediction.checks import Check
from infant_seg_jax.prediction.confidence import Confidence


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a prepared volume lies in its scan.

    Attributes:
        shape: voxels of the scan's whole RAS+ grid.
        box: the crop, in voxels of the scan's grid.
        crop_affine: voxel indices of the crop to RAS+ millimeters.
        affine: voxel indices of the prepared volume to the same.
        resampled: whether that is another grid than the crop's.
        turn: how the brain lies by the scan's header, where that was not believed: then all of the
            above is of the scan turned by it. None: the header was believed.
    """

    shape: Shape
    box: Box
    crop_affine: Affine
    affine: Affine
    resampled: bool
    turn: Turn | None = None

    @classmethod
    def of(cls, prepared: PreparedVolume, shape: Shape) -> "Placement":
        """Where `prepared` lies in a scan of `shape`."""
        return cls(shape, prepared.box, prepared.crop_affine, prepared.affine, prepared.resampled)

    def of_crop(self) -> "Placement":
        """Where the crop itself lies."""
        return replace(self, affine=self.crop_affine, resampled=False)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A labeled scan.

    Attributes:
        label_map: classes on the scan's whole RAS+ grid.
        notices: what a person should know before trusting it, a sentence each; `unusual` of the
            confidence is among them.
        confidence: how sure the network is.
        probabilities: of the classes, on the grid of the prepared scan; refined ones, of its crop.
        placement: where that grid lies in the scan's.
        classes: which they are.
    """

    label_map: UInt8[np.ndarray, "X Y Z"]
    notices: tuple[str, ...]
    confidence: Confidence
    probabilities: Float32[np.ndarray, "x y z k"]
    placement: Placement
    classes: ClassSet = TISSUE_CLASSES

    def of_tissues(self) -> "Segmentation":
        """The same by tissue; what is of no single one is `IGNORE`, and has no probability."""
        if self.classes == TISSUE_CLASSES:
            return self
        of = np.array(self.classes.tissues)
        sums = [self.probabilities[..., of == t].sum(axis=-1) for t in range(len(TISSUE_CLASSES))]
        return replace(
            self,
            label_map=self.classes.convert(self.label_map, TISSUE_CLASSES),
            probabilities=np.stack(sums, axis=-1),
            classes=TISSUE_CLASSES,
        )

    def probability(self, index: int) -> Float32[np.ndarray, "X Y Z"]:
        """The probability of one class on the scan's whole RAS+ grid, made anew at every call.

        Probabilities of a resampled scan are interpolated linearly. Outside the crop all is
        background: that has a probability of 1 there, every other class of 0.
        """
        share = self.probabilities[..., index]
        # What is not background is 0 outside, which is what cropping and resampling fill with.
        if index == BACKGROUND:
            return 1 - self._restore(1 - share)
        return self._restore(share)

    def after(self, check: Check) -> "Segmentation":
        """The same with a further check, whose sentence comes first."""
        sentences, known = (check.sentence,) * bool(check.sentence), self.confidence
        known = replace(
            known, unusual=(*sentences, *known.unusual), checked=(check.about, *known.checked)
        )
        return replace(self, notices=(*sentences, *self.notices), confidence=known)

    def turned_back(self, turn: Turn) -> "Segmentation":
        """The segmentation of a scan, given that of the scan turned by `turned_volume`."""
        label_map = np.ascontiguousarray(turned(self.label_map, turn.T))
        return replace(self, label_map=label_map, placement=replace(self.placement, turn=turn))

    def _restore(self, share: Float[np.ndarray, "x y z"]) -> Float32[np.ndarray, "X Y Z"]:
        place = self.placement
        if place.resampled:
            to = box_shape(place.box), place.crop_affine
            share = resample_image(share[..., None], place.affine, *to)[..., 0]
        whole = uncrop(share.astype(np.float32, copy=False), place.box, place.shape)
        return whole if place.turn is None else turned(whole, place.turn.T)
