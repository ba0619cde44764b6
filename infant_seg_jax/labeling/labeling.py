"""Many scans labeled, one after another: what is read of each, made of it, and written."""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Integer, UInt8

from infant_seg_jax.data.class_sets import classes_record
from infant_seg_jax.data.formats import Grid, read_voxels
from infant_seg_jax.data.labels import BACKGROUND, LabelSchema
from infant_seg_jax.data.schemas import TISSUE_SCHEMA
from infant_seg_jax.data.volumes import (
    Volume,
    read_images,
    read_label_map,
    read_mask,
    voxel_ml,
    write_label_map,
    write_volume,
)
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import write_json
from infant_seg_jax.labeling.derivatives import start_output
from infant_seg_jax.labeling.pipeline import overlapped
from infant_seg_jax.labeling.provenance import (
    ModelIdentity,
    Settings,
    check_repeatable,
    checksums,
    is_finished,
    make_sidecar,
    read_sidecar,
)
from infant_seg_jax.labeling.scans import CLASSES, Inputs, Scan, schema_of, sidecar_of
from infant_seg_jax.labeling.tissue_volumes import (
    INTRACRANIAL,
    VOLUMES,
    intracranial_ml,
    measure,
    volumes_record,
)
from infant_seg_jax.labeling.volume_table import write_table
from infant_seg_jax.prediction.brain_mask import brain_mask
from infant_seg_jax.prediction.checks import check_volumes
from infant_seg_jax.prediction.confidence import Confidence
from infant_seg_jax.prediction.expected_dice import ExpectedDice
from infant_seg_jax.prediction.islands import remove_islands
from infant_seg_jax.prediction.segmentation import Segmentation
from infant_seg_jax.progress import stage

Segment = Callable[[Volume, Bool[np.ndarray, "x y z"] | None], Segmentation]

PROBABILITIES: Mapping[str, tuple[str, int]] = {
    "uint8": ("uint8", 255),
    "float16": ("int16", 2**15 - 1),
    "float32": ("float32", 0),
}
"""How maps of probabilities may be stored: the type, and what of it stands for 1 by the header's
slope (0: no slope). NIfTI has no floats of 16 bits; as many bits of a whole number are finer."""

WRITTEN, SKIPPED = "written", "skipped"


@dataclass(frozen=True)
class Outcome:
    """What became of a scan.

    Attributes:
        scan: which.
        what: `"written"`, `"skipped"` or, in a sentence, why it failed.
        volumes_ml: of the tissues, where the label map was written.
        notices: what a person should know, a sentence each.
        expected_dice: of the label map, where the model has it.
    """

    scan: Scan
    what: str
    volumes_ml: Mapping[str, float]
    notices: tuple[str, ...] = ()
    expected_dice: ExpectedDice | None = None

    @property
    def failed(self) -> bool:
        """Whether there is no label map that belongs to this run."""
        return self.what not in (WRITTEN, SKIPPED)


@dataclass(frozen=True, eq=False)
class Labeler:
    """Labels scans and writes what is found.

    Attributes:
        segment: from a scan and its brain mask to its classes.
        models: the networks behind it.
        settings: what else decides the result.
        schema: which classes are written, and as what values: the networks' own, or tissues.
        overwrite: whether to make what is there already again.
    """

    segment: Segment
    models: tuple[ModelIdentity, ...]
    settings: Settings
    schema: LabelSchema = TISSUE_SCHEMA
    overwrite: bool = False

    def label(self, inputs: Inputs, output: Path) -> Generator[Outcome, None, None]:
        """Label scans, and keep the table of volumes in `output` up to date, if it is a folder.

        A scan is skipped if its label map is there, can be read, and was made by the same networks
        and settings of the same files. Files appear whole, the label map last; whatever stops this,
        what is finished is in the table.

        Raises:
            InputError: label maps are there that were made otherwise, or the folder cannot be
                used; raised before anything is labeled.
        """
        if not self.overwrite:
            check_repeatable(inputs.scans, self.models, self.settings)
        if not inputs.is_one_file:
            start_output(output, inputs.dataset, self.schema, overwrite=self.overwrite)
        for scan in inputs.scans:
            stage(f"Reading {' and '.join(map(str, scan.images))}.")
        try:
            stages = overlapped(
                inputs.scans,
                lambda scan: self._read(scan, inputs.dataset),
                self._segment,
                lambda scan, found: self._write(scan, found, inputs.dataset),
            )
            yield from outcomes_of(stages)
        finally:
            if not inputs.is_one_file:
                write_table(output, self.schema.classes, inputs.dataset)

    def _maps(self, scan: Scan) -> tuple[Path, ...]:
        """The label map, and the maps of probabilities that are wanted with it."""
        wanted = self.schema.classes.foreground if self.settings.probabilities else ()
        return scan.label_map, *map(scan.probability_map, wanted)

    def _read(self, scan: Scan, dataset: Path | None) -> "_Loaded | None":
        """A scan as read; None if its label map is finished, and whole."""
        sums = checksums(scan, dataset)
        notices = scan.notices
        if not self.overwrite and scan.label_map.exists():
            why = "has changed since it was labeled"
            if is_finished(scan, sums):
                damaged = next(filter(_is_damaged, self._maps(scan)), None)
                if damaged is None:
                    complete(scan, self.settings.label_ids)
                    return None
                why = f"has a damaged output, {damaged.name}"
            notices += (f"{scan.images[0]} {why}, so it is labeled again.",)
        volume = read_images(scan.images)
        mask, mask_notices = read_mask(scan.mask, volume) if scan.mask else (None, ())
        notices = (*notices, *volume.notices, *mask_notices)
        return _Loaded(replace(volume, notices=notices), mask, sums)

    def _segment(self, scan: Scan, loaded: "_Loaded | None") -> "_Found | None":
        if loaded is None:
            return None
        volume = loaded.volume
        segmentation = self.segment(volume, loaded.mask)
        if scan.age:
            tissues = segmentation.of_tissues()
            volumes = measure(tissues.label_map, volume.affine, tissues.classes)
            segmentation = segmentation.after(check_volumes(volumes, scan.age, volume.path))
        if self.schema.classes != segmentation.classes:
            segmentation = segmentation.of_tissues()
        stage(f"Writing {scan.label_map}.")
        return _Found(
            segmentation.label_map,
            segmentation.probability if self.settings.probabilities else None,
            segmentation.confidence,
            volume.native,
            volume.spacing,
            tuple(dict.fromkeys((*volume.notices, *segmentation.notices))),
            loaded.checksums,
        )

    def _write(self, scan: Scan, found: "_Found | None", dataset: Path | None) -> Outcome:
        """Write what was found; the label map last, since it says that all is there."""
        if found is None:
            return Outcome(scan, SKIPPED, {})
        label_map, native = found.label_map, found.native
        if ml := self.settings.remove_islands_ml:
            label_map = remove_islands(label_map, ml, voxel_ml(native.affine))
        classes = self.schema.classes
        mask = brain_mask(label_map != BACKGROUND, found.spacing)
        record = volumes_record(label_map, mask, native, classes)
        sidecar = make_sidecar(
            scan,
            dataset,
            self.models,
            self.settings,
            found.checksums,
            found.confidence,
            found.notices,
            **classes_record(classes, CLASSES),
            **record,
        )
        written = self.schema.to_ids(label_map)
        if scan.label_map.exists():
            earlier = schema_of(scan.label_map) or TISSUE_SCHEMA
            _remove(scan, earlier.classes.foreground)
        try:
            self._write_files(scan, written, mask, found, sidecar)
        except Exception:
            _remove(scan, classes.foreground if found.probability is not None else ())
            raise
        expected = found.confidence.expected_dice
        return Outcome(scan, WRITTEN, record[VOLUMES], found.notices, expected)

    def _write_files(
        self,
        scan: Scan,
        label_map: Integer[np.ndarray, "x y z"],
        mask: Bool[np.ndarray, "x y z"],
        found: "_Found",
        sidecar: dict[str, Any],
    ) -> None:
        native = found.native
        if found.probability is not None:
            for tissue, index in self.schema.classes.foreground.items():
                path = scan.probability_map(tissue)
                probability = found.probability(index)
                write_probabilities(path, probability, native, self.settings.probabilities)
                about = {"Description": f"The probability of {tissue}, by a neural network."}
                kept = {key: sidecar[key] for key in ("Sources", "SpatialReference", "Models")}
                write_json(sidecar_of(path), about | kept)
        write_mask(scan, mask, native, sidecar)
        write_json(scan.sidecar, sidecar)
        write_label_map(scan.label_map, label_map, native)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A scan as read."""

    volume: Volume
    mask: Bool[np.ndarray, "x y z"] | None
    checksums: dict[str, str]


@dataclass(frozen=True, eq=False)
class _Found:
    """What is to be written of a scan; the scan itself is no longer held."""

    label_map: UInt8[np.ndarray, "x y z"]
    probability: Callable[[int], Float32[np.ndarray, "x y z"]] | None
    confidence: Confidence
    native: Grid
    spacing: tuple[float, float, float]
    notices: tuple[str, ...]
    checksums: dict[str, str]


def write_probabilities(
    path: Path, probability: Float32[np.ndarray, "x y z"], native: Grid, kind: str
) -> None:
    """Write a map of probabilities on a scan's own grid, stored as `PROBABILITIES` has it.

    Whole numbers are read as at most 1, off by at most half of 1/255 or 1/32767.

    Raises:
        InputError: the folder cannot be written to.
    """
    name, one = PROBABILITIES[kind]
    slope = None
    stored: np.ndarray = probability
    if one:
        stored = np.rint(np.clip(probability, 0, 1) * np.float32(one)).astype(name)
        slope = np.float32(1 / one)  # as the header has it
        if float(slope) * one > 1:
            slope = np.nextafter(slope, np.float32(0))
    shape = stored.shape + (1,) * native.trailing_axes
    write_volume(path, stored.reshape(shape), native, None if slope is None else float(slope))


def _is_damaged(path: Path) -> bool:
    try:
        read_voxels(path)  # Compressed files have a checksum.
    except InputError:
        return True
    return False


def _remove(scan: Scan, probabilities: Iterable[str]) -> None:
    """Remove what was found of a scan, the label map first, since it says that all is there.

    Of maps of probabilities, those of the classes that are named.
    """
    masks = [scan.brain_mask] if scan.brain_mask else []
    for path in (scan.label_map, *masks, *map(scan.probability_map, probabilities)):
        for file in (path, sidecar_of(path)):
            with suppress(IsADirectoryError):  # which is not ours
                file.unlink(missing_ok=True)


def complete(scan: Scan, label_ids: Mapping[str, int]) -> None:
    """Make the brain mask of a finished label map if there is none, or one that contradicts it.

    Label maps of version 0.1 have none; those that a person corrected may have outgrown theirs.

    Raises:
        InputError: the label map cannot be read, or the folder cannot be written to.
    """
    found, path = read_label_map(scan.label_map), scan.brain_mask
    labeled = found.data != label_ids.get("background", BACKGROUND)
    sidecar = read_sidecar(scan.sidecar)
    if sidecar is None or (INTRACRANIAL in sidecar and (not path or _covers(path, labeled))):
        return
    mask = brain_mask(labeled, found.spacing)
    write_mask(scan, mask, found.native, sidecar)
    write_json(scan.sidecar, sidecar | {INTRACRANIAL: intracranial_ml(mask, found.native)})


def write_mask(
    scan: Scan, mask: Bool[np.ndarray, "x y z"], native: Grid, about: Mapping[str, Any]
) -> None:
    """Write the brain mask of a scan, if there is to be one, given what its label map's JSON says.

    In BIDS trees it has a JSON of its own.

    Raises:
        InputError: the folder cannot be written to.
    """
    path = scan.brain_mask
    if path is None:
        return
    if scan.bids:
        depth = 3 if scan.folder.parent.name.startswith("ses-") else 2
        label_map = Path(*scan.label_map.parts[-depth - 1 :]).as_posix()
        content = {
            "Description": "All that is labeled, and the gaps and holes in it.",
            "Type": "Brain",
            "Sources": [f"bids::{label_map}"],
            "SpatialReference": about["SpatialReference"],
        }
        write_json(sidecar_of(path), content)
    write_label_map(path, mask.view(np.uint8), native)


def _covers(path: Path, labeled: Bool[np.ndarray, "x y z"]) -> bool:
    """Whether a file is a mask with all that is labeled in it."""
    try:
        mask = read_label_map(path).data
    except InputError:
        return False
    return mask.shape == labeled.shape and not (labeled & (mask == 0)).any()


def outcomes_of(
    stages: Generator[tuple[Scan, Outcome | Exception], None, None],
) -> Generator[Outcome, None, None]:
    """What became of each scan, given what its stages returned or raised; closes `stages`."""
    with closing(stages):
        for scan, found in stages:
            if isinstance(found, Outcome):
                yield found
            else:
                yield Outcome(scan, _sentence(scan, found), {})


def _sentence(scan: Scan, error: Exception) -> str:
    """Why a scan failed, naming it."""
    if isinstance(error, InputError):
        return str(error)
    message = " ".join(str(error).split())[:300]
    return f"{scan.images[0]} could not be labeled ({type(error).__name__}: {message})."
