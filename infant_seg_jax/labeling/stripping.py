"""Write brain masks and skull-stripped scans."""

from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped

from infant_seg_jax.data.formats import read_voxels, stem, write_nifti
from infant_seg_jax.data.labels import BACKGROUND
from infant_seg_jax.data.volumes import (
    Volume,
    is_same_grid,
    read_images,
    to_native,
    write_label_map,
)
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import write_json
from infant_seg_jax.labeling.derivatives import start_derivative
from infant_seg_jax.labeling.labeling import SKIPPED, WRITTEN, Outcome, Segment, outcomes_of
from infant_seg_jax.labeling.pipeline import overlapped
from infant_seg_jax.labeling.provenance import (
    ModelIdentity,
    Settings,
    check_repeatable,
    checksums,
    is_finished,
    make_sidecar,
)
from infant_seg_jax.labeling.scans import Inputs, Scan, sidecar_of
from infant_seg_jax.labeling.tissue_volumes import INTRACRANIAL, intracranial_ml
from infant_seg_jax.prediction.brain_mask import brain_mask
from infant_seg_jax.prediction.segmentation import Segmentation


@dataclass(frozen=True, eq=False)
class Stripper:
    """Removes everything outside the brain from scans.

    Attributes:
        segment: segments a scan; the brain mask is made from the label map.
        models: the networks that `segment` uses.
        settings: all other settings that affect the result.
        overwrite: whether to replace existing files.
    """

    segment: Segment
    models: tuple[ModelIdentity, ...]
    settings: Settings
    overwrite: bool = False

    def label(self, inputs: Inputs, output: Path) -> Generator[Outcome, None, None]:
        """Write `*_desc-brain_mask.nii.gz` and the stripped scan for each scan.

        Finished scans are skipped, as in `Labeler.label`, according to the JSON file beside the
        mask. The `label_map` of an outcome's scan is its brain mask.

        Raises:
            InputError: as `Labeler.label`.
        """
        if inputs.is_one_file:
            raise InputError(
                f"{output} is one file, but a mask and a stripped scan are two: name a folder."
            )
        scans = [replace(scan, file=scan.brain_mask) for scan in inputs.scans]
        if not self.overwrite:
            check_repeatable(scans, self.models, self.settings)
        if inputs.dataset is not None:
            start_derivative(output, inputs.dataset)
        stages = overlapped(
            scans,
            lambda scan: self._read(scan, inputs.dataset),
            lambda scan, loaded: loaded and (*loaded, self.segment(loaded[0], None)),
            lambda scan, found: self._write(scan, found, inputs.dataset),
        )
        yield from outcomes_of(stages)

    def _read(self, scan: Scan, dataset: Path | None) -> tuple[Volume, dict[str, str]] | None:
        sums = checksums(scan, dataset)
        if not self.overwrite and is_finished(scan, sums):
            with suppress(InputError):
                for path in (
                    scan.label_map,
                    *(stripped_path(scan, image) for image in scan.images),
                ):
                    read_voxels(path)
                return None
        return read_images(scan.images), sums

    def _write(
        self,
        scan: Scan,
        found: tuple[Volume, dict[str, str], Segmentation] | None,
        dataset: Path | None,
    ) -> Outcome:
        """Write the mask last: its presence means that everything else is complete."""
        if found is None:
            return Outcome(scan, SKIPPED, {})
        volume, sums, segmentation = found
        mask = brain_mask(segmentation.label_map != BACKGROUND, volume.spacing)
        ml = intracranial_ml(mask, volume.native)
        notices = tuple(dict.fromkeys((*volume.notices, *segmentation.notices)))
        sidecar = make_sidecar(
            *(scan, dataset, self.models, self.settings, sums, segmentation.confidence, notices),
            **{INTRACRANIAL: ml, "Type": "Brain"},
        )
        sidecar["Description"] = "The brain, found by a neural network."
        scan.label_map.unlink(missing_ok=True)
        for channel, image in enumerate(scan.images):
            brain = _stripped(image, mask, volume, channel)
            path = stripped_path(scan, image)
            write_nifti(path, brain, volume.native)
            if scan.bids:
                kept = {key: sidecar[key] for key in ("Sources", "SpatialReference")}
                described = {"Description": "The scan without its skull.", "SkullStripped": True}
                write_json(sidecar_of(path), described | kept)
        write_json(scan.sidecar, sidecar)
        write_label_map(scan.label_map, mask.view(np.uint8), volume.native)
        return Outcome(scan, WRITTEN, {"brain": ml}, notices)


def stripped_path(scan: Scan, image: Path) -> Path:
    """The path of the stripped version of one of a scan's images."""
    name = f"{stem(image)}_brain"
    if scan.bids:
        name = f"{scan.prefix}_desc-brain_{stem(image).rsplit('_', 1)[-1]}"
    return scan.folder / f"{name}.nii.gz"


def _stripped(
    image: Path, mask: Bool[np.ndarray, "x y z"], volume: Volume, channel: int
) -> Shaped[np.ndarray, "i j k *c"]:
    """An image with 0 outside the mask, in the axis order of the file.

    Voxels keep the values and the type of the file. They are float32 if the file scales its values
    or if the image was resampled to the grid of the first.
    """
    raw, scale, grid, _ = read_voxels(image)
    within = to_native(mask, volume.native)
    if scale is not None or not is_same_grid(grid, volume.native):
        raw = to_native(volume.data[..., channel], volume.native)
    brain = np.where(within, raw, np.zeros((), raw.dtype)).astype(raw.dtype.newbyteorder("="))
    return brain.reshape(brain.shape + (1,) * volume.native.trailing_axes)
