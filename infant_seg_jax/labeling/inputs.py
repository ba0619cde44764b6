"""Which scans to label: files, folders, nnU-Net's images, BIDS trees."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from infant_seg_jax.data.formats import ENDINGS_IN_WORDS, stem, volumes_below
from infant_seg_jax.data.formats.names import ending_of
from infant_seg_jax.errors import InputError
from infant_seg_jax.labeling.bids_inputs import Tree, bids_tree, find_bids, select
from infant_seg_jax.labeling.scans import Inputs, Scan
from infant_seg_jax.paths import expand, split_at_commas

_NO_SCANS = ("_dseg", "_probseg", "_mask")
_CHANNEL = re.compile(r"(?P<name>.+)_(?P<channel>[0-9]{4})")
_FOLDERS_OF_NNUNET = ("imagesTs", "imagesTr", "imagesVa")


def check_inputs(inputs: Sequence[str]) -> None:
    """Check that all that is named is there.

    Raises:
        InputError: a file or folder is missing.
    """
    for name in inputs:
        for path in _paths(name):
            if not path.exists():
                raise InputError(f"There is no scan {path}: name a scan or a folder of scans.")


def find_inputs(
    inputs: Sequence[str],
    output: Path,
    modalities: Sequence[str],
    chosen: Sequence[str] = (),
    masks: str = "",
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
) -> Inputs:
    """The scans of a BIDS tree or of parts of it (`find_bids`), or of anything else (`find_files`).

    Args:
        inputs: what a person named.
        output: the folder for label maps, or the label map of the one scan.
        modalities: those that the network expects of a subject.
        chosen: of a BIDS tree, which images to take for them.
        masks: where the brain masks are.
        participants, sessions: of a BIDS tree, the labels of those that are wanted; empty for all.

    Raises:
        InputError: there is nothing to label, or there is more than one BIDS tree and its parts,
            or the output is a file and cannot be the label map of what is named.
    """
    check_inputs(inputs)
    if tree := _tree(inputs):
        tree = select(tree, participants, sessions)
        found = find_bids(tree, output, modalities, chosen, masks)
    else:
        choices = {
            "modalities": chosen,
            "participant_label": participants,
            "session_label": sessions,
        }
        for flag in (flag for flag, values in choices.items() if values):
            raise InputError(
                f"--{flag} chooses among the images of a BIDS tree, and {inputs[0]} is none: name "
                "the files with --input."
            )
        found = find_files(inputs, output, len(modalities), masks)
    if output.is_dir() or ending_of(output) is None:
        return found
    return replace(found, scans=(_into(found.scans, output),), dataset=None)


def _tree(inputs: Sequence[str]) -> Tree | None:
    """The BIDS tree that is named, or of which parts are; None if none is."""
    trees = {name: tree for name in inputs if (tree := bids_tree(Path(name)))}
    if not trees:
        return None
    folders = {os.path.abspath(tree.folder) for tree in trees.values()}
    if len(folders) > 1 or len(trees) < len(set(inputs)):
        raise InputError(
            f"{next(iter(trees))} is a BIDS tree and not the only input, expected one tree, or "
            "parts of one tree: label each with an --output of its own."
        )
    sessions = {one.case_id: one for tree in trees.values() for one in tree.sessions}
    return Tree(next(iter(trees.values())).folder, tuple(sessions.values()))


def find_files(inputs: Sequence[str], output: Path, modalities: int, masks: str = "") -> Inputs:
    """The scans that `inputs` name: files (the modalities of a subject joined by commas), folders.

    `T1w.nii.gz` becomes `OUTPUT/T1w_dseg.nii.gz`, and so does `T1w.mgz`; what lies in a folder's
    subfolders, in the same subfolders of the output. Passed over are label maps, maps of
    probabilities and masks, by their names (`*_dseg`, `*_probseg`, `*_mask`), hidden files, and
    what lies in the output folder.

    A folder in which every volume is one channel of a case, `CASE_0000.nii.gz`, `CASE_0001.nii.gz`
    and so on, with as many channels as the network has modalities, is taken for nnU-Net's, and so
    is any that is called `imagesTs`; of a whole dataset of nnU-Net's, its `imagesTs` is.

    Args:
        inputs: what a person named.
        output: the folder for label maps.
        modalities: how many images the network expects of a subject.
        masks: the brain mask of a scan, with `{}` for the scan's name without its ending.

    Raises:
        InputError: an input is missing, a folder holds no scan, or two scans would write one file.
    """
    check_inputs(inputs)
    scans: dict[Path, Scan] = {}
    for name in inputs:
        found = (
            _scans_in(Path(name), output, modalities)
            if Path(name).is_dir()
            else [_scan(_paths(name), output)]
        )
        for scan in found:
            if scan.label_map in scans:
                raise InputError(
                    f"{scan.images[0]} and {scans[scan.label_map].images[0]} would both become "
                    f"{scan.label_map}: predict them into different folders."
                )
            scans[scan.label_map] = scan
    return Inputs(tuple(_with_mask(scan, masks) for scan in scans.values()))


def _paths(name: str) -> tuple[Path, ...]:
    """What a person named, one file or folder or, joined by commas, several."""
    return tuple(Path(expand(part)) for part in split_at_commas(name))


def _into(scans: Sequence[Scan], output: Path) -> Scan:
    """The one scan, with its label map of this name."""
    if ending_of(output) not in (".nii", ".nii.gz", ".mgz", ".mgh"):
        raise InputError(
            f"{output} is of no format that is written, expected .nii.gz, .nii, .mgz, .mgh or a "
            "folder."
        )
    if len(scans) != 1:
        raise InputError(
            f"{output} is one file, but there are {len(scans)} scans to label: name a folder for "
            "their label maps."
        )
    scan = scans[0]
    for path in (*scan.images, *([scan.mask] if scan.mask else [])):
        if path.resolve() == output.resolve():
            raise InputError(f"{output} is an input file, expected another name for the label map.")
    return replace(scan, folder=output.parent, prefix=stem(output), bids=False, file=output)


def _with_mask(scan: Scan, pattern: str) -> Scan:
    if not pattern:
        return scan
    mask = Path(pattern.replace("{}", stem(scan.images[0])))
    return replace(scan, mask=mask)


def _scan(images: tuple[Path, ...], folder: Path, prefix: str = "") -> Scan:
    return Scan(images, folder, prefix or stem(images[0]))


def _scans_in(folder: Path, output: Path, modalities: int) -> list[Scan]:
    if (folder / "dataset.json").is_file() and (folder / "imagesTs").is_dir():
        folder = folder / "imagesTs"
    volumes = list(_volumes_in(folder, output))
    if not volumes:
        raise InputError(f"{folder} contains no scan, expected {ENDINGS_IN_WORDS} below it.")
    cases = _cases_of_nnunet(volumes)
    complete = cases and all(
        list(channels) == list(range(modalities)) for channels in cases.values()
    )
    if cases and (complete or folder.name in _FOLDERS_OF_NNUNET):
        return [
            _scan(tuple(channels.values()), output / where.relative_to(folder), name)
            for (where, name), channels in cases.items()
        ]
    return [_scan((volume,), output / volume.parent.relative_to(folder)) for volume in volumes]


def _volumes_in(folder: Path, output: Path) -> Iterator[Path]:
    elsewhere = output.resolve() != folder.resolve()
    for path in volumes_below(folder):
        if stem(path).endswith(_NO_SCANS):
            continue
        if elsewhere and path.resolve().is_relative_to(output.resolve()):
            continue
        yield path


def _cases_of_nnunet(volumes: Sequence[Path]) -> dict[tuple[Path, str], dict[int, Path]]:
    """The files of each case by channel, in order; nothing if a name has no channel."""
    cases: dict[tuple[Path, str], dict[int, Path]] = {}
    for volume in volumes:
        match = _CHANNEL.fullmatch(stem(volume))
        if match is None:
            return {}
        case = cases.setdefault((volume.parent, match["name"]), {})
        case[int(match["channel"])] = volume
    return cases
