"""Whether a scan and what was made of it look like a brain at all, whatever a network has learned.

Each check looks at one thing and says a sentence, or nothing. The limits were set on sound and on
spoilt scans (docs/trust.md): they find gross mistakes. That none was found proves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Integer
from scipy import ndimage

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.cropping import crop_box, uncrop
from infant_seg_jax.data.foreground import BRAIN
from infant_seg_jax.data.formats import stem
from infant_seg_jax.data.labels import CSF, GM, TISSUES, WM, count_classes
from infant_seg_jax.data.orientation import Orientation
from infant_seg_jax.data.plausibility import implausible_tissues
from infant_seg_jax.data.preprocessing import PreparedVolume
from infant_seg_jax.data.volumes import Volume, spacing_of, voxel_ml

LEAST_FIT = 1.15
LEAST_SYMMETRY = 0.8
DETAIL = 0.015, 0.6
LEAST_IN_ONE_PIECE = 0.9
LEAST_CSF = 0.005
LEAST_LABELED = 0.7
MOST_ABRUPT = 0.22
_FINE_MM = 1.5
_ABRUPT_MM = 3.0
_MANY = 1000


@dataclass(frozen=True)
class Check:
    """One check of one scan.

    Attributes:
        about: what was looked at.
        sentence: what is wrong; empty where nothing was found.
    """

    about: str
    sentence: str = ""


def check_segmentation(
    volume: Volume,
    prepared: PreparedVolume,
    label_map: Integer[np.ndarray, "x y z"],
    orientation: Orientation | None,
    *,
    masked: bool,
) -> tuple[Check, ...]:
    """All checks of a labeled scan that take no further knowledge, save that of its orientation.

    Args:
        volume: the scan.
        prepared: what became of it.
        label_map: classes, on the scan's RAS+ grid.
        orientation: which way the brain lies; None where that was not looked for.
        masked: whether a person gave the brain's mask, around which there may be anything.
    """
    path, image = volume.path, volume.data[..., 0]
    brain = uncrop(prepared.crop_mask, prepared.box, volume.shape)
    counts, ml = count_classes(label_map), voxel_ml(volume.affine)
    found = [
        check_shape(orientation, path) if orientation else None,
        check_detail(prepared.image[..., 0], prepared.mask, spacing_of(prepared.affine), path),
        None if masked else check_air(image, brain, path),
        check_contrast(image, label_map, path),
        check_volumes({name: counts[name] * ml for name in TISSUES}, None, path),
        check_labeled(label_map, brain, path) if prepared.extent == BRAIN else None,
        check_pieces(label_map, volume.spacing, path),
    ]
    return tuple(check for check in found if check)


def check_orientation(orientation: Orientation, path: Path, *, fixed: bool) -> Check:
    """Whether the brain surely lies otherwise than the header says, and what to do or was done."""
    if not orientation.contradicts_header:
        return Check("orientation")
    then = (
        "it was labeled as if the header were right; check which side is left."
        if fixed
        else "check its header, or label it as if the header were right, with --fix_orientation."
    )
    return Check("orientation", f"{path} shows a brain {orientation.in_words()}: {then}")


def check_shape(orientation: Orientation, path: Path) -> Check:
    """Whether an average brain fits in any orientation, and left is like right."""
    if orientation.fit < LEAST_FIT:
        return Check(
            "shape",
            f"{path} does not look like a brain: an average brain fits by {orientation.fit:.2f} at "
            f"best, expected at least {LEAST_FIT:g} of 2; check whether it is complete and "
            "skull-stripped.",
        )
    if orientation.symmetry < LEAST_SYMMETRY:
        return Check(
            "shape",
            f"{path} is not symmetric: its outline and the mirror image share "
            f"{orientation.symmetry:.0%}, expected {LEAST_SYMMETRY:.0%} or more; check whether a "
            "part is missing.",
        )
    return Check("shape")


def check_detail(
    image: Float32[np.ndarray, "x y z"],
    brain: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
    path: Path,
) -> Check:
    """Whether brightness changes within millimeters as it does in brains, not less nor more."""
    low, high = DETAIL
    share = detail(image, brain, spacing)
    if low <= share <= high:
        return Check("detail")
    what = "blurred, with almost no detail" if share < low else "made of noise"
    return Check(
        "detail",
        f"{path} looks {what}: {share:.1%} of its variance is finer than {2 * _FINE_MM:g} mm, "
        f"expected {low:.1%} to {high:.0%}.",
    )


def detail(
    image: Float32[np.ndarray, "x y z"],
    brain: Bool[np.ndarray, "x y z"],
    spacing: tuple[float, float, float],
) -> float:
    """Which share of the variance within a brain a Gaussian blur by 1.5 mm takes away."""
    box = crop_box(brain, 0.0, spacing)
    image, inside = image[box], brain[box].astype(np.float32)
    deviations = [_FINE_MM / size for size in spacing]
    weight = ndimage.gaussian_filter(inside, deviations)
    smooth = ndimage.gaussian_filter(image * inside, deviations) / np.maximum(weight, 1e-6)
    core = brain[box] & (weight > 0.9)  # The rim is part fluid, part what was stripped away.
    if np.count_nonzero(core) < _MANY:
        core = brain[box]
    total = float(np.var(image[core]))
    return float(np.mean((image - smooth)[core] ** 2)) / total if total > 0 else 0.0


def check_air(
    data: Float32[np.ndarray, "x y z"], foreground: Bool[np.ndarray, "x y z"], path: Path
) -> Check:
    """Whether the air around is darker than the brightest of what is not air."""
    data, foreground = data[::2, ::2, ::2], foreground[::2, ::2, ::2]
    outside = data[~foreground]
    if outside.size < _MANY or np.median(outside) < np.percentile(data[foreground], 98):
        return Check("air")
    return Check(
        "air",
        f"{path} is brighter around the brain than in it: its gray values seem to be inverted.",
    )


def check_contrast(
    image: Float32[np.ndarray, "x y z"], label_map: Integer[np.ndarray, "x y z"], path: Path
) -> Check | None:
    """Whether CSF is the darkest in what is called a T1w, or the brightest in a T2w.

    None where the name says neither, or a tissue has next to no voxels.
    """
    modality = stem(path).rsplit("_", 1)[-1]
    counts = [np.count_nonzero(label_map == tissue) for tissue in (CSF, GM, WM)]
    if modality not in ("T1w", "T2w") or min(counts) < _MANY:
        return None
    fluid, *solid = (float(np.median(image[label_map == tissue])) for tissue in (CSF, GM, WM))
    right = fluid < min(solid) if modality == "T1w" else fluid > max(solid)
    if right:
        return Check("contrast")
    where = "darker" if modality == "T1w" else "brighter"
    return Check(
        "contrast",
        f"{path} is named a {modality}, but the voxels labeled as CSF are not {where} than gray "
        "and white matter, as in such scans: does it have another contrast, is it inverted, or is "
        "it mislabeled?",
    )


def check_volumes(volumes: Mapping[str, float], age: Age | None, path: Path) -> Check:
    """Whether tissues have volumes, in ml, that brains of that age have; None: of any age."""
    odd = list(implausible_tissues(volumes, age))
    total = sum(volumes[tissue] for tissue in TISSUES)
    if total > 0 and volumes["CSF"] < LEAST_CSF * total:
        odd.append(f"CSF {volumes['CSF'] / total:.1%} of all tissue")
    about = "volumes for any age" if age is None else "volumes for the age"
    if not odd:
        return Check(about)
    at = "at any age" if age is None else f"at {age}"
    return Check(
        about,
        f"{path} has implausible tissue volumes {at}: {', '.join(odd)}; look at "
        "the label map, and check voxel size and age.",
    )


def check_labeled(
    label_map: Integer[np.ndarray, "x y z"], brain: Bool[np.ndarray, "x y z"], path: Path
) -> Check:
    """Whether most of a stripped brain was labeled tissue."""
    share = np.count_nonzero(label_map[brain]) / np.count_nonzero(brain)
    if share >= LEAST_LABELED:
        return Check("labeled share")
    return Check(
        "labeled share",
        f"{path} has {share:.0%} of everything but air labeled as tissue, expected "
        f"{LEAST_LABELED:.0%} of a brain at least: look at the label map.",
    )


def check_pieces(
    label_map: Integer[np.ndarray, "x y z"], spacing: tuple[float, float, float], path: Path
) -> Check:
    """Whether the brain is of one piece, and does not end in a plane."""
    brain = label_map != 0
    if not brain.any():
        return Check("wholeness")  # Which is told otherwise.
    brain = brain[crop_box(brain, 0.0, (1.0, 1.0, 1.0))]
    pieces = np.empty(brain.shape, np.int32)
    ndimage.label(brain, output=pieces)
    sizes = np.bincount(pieces.ravel())[1:]
    if sizes.max() < LEAST_IN_ONE_PIECE * sizes.sum():
        return Check(
            "wholeness",
            f"{path} has a brain labeled in several pieces, the largest with "
            f"{sizes.max() / sizes.sum():.0%} of it, expected {LEAST_IN_ONE_PIECE:.0%} at least: "
            "look at the label map.",
        )
    if ends_in_plane(pieces == 1 + sizes.argmax(), spacing):
        return Check(
            "wholeness", f"{path} has a brain that ends in a plane: check whether it is cut off."
        )
    return Check("wholeness")


def ends_in_plane(brain: Bool[np.ndarray, "x y z"], spacing: tuple[float, float, float]) -> bool:
    """Whether the section along an axis grows or shrinks abruptly, within 3 mm.

    Of a ball `n` voxels across, it changes by 4 k / n of the largest section within `k` voxels.
    """
    for axis, size in enumerate(spacing):
        areas = np.count_nonzero(brain, axis=tuple(other for other in range(3) if other != axis))
        areas = areas[areas > 0]
        within = max(1, round(_ABRUPT_MM / size))
        padded = np.pad(areas, within)
        change = np.abs(padded[within:] - padded[:-within]).max() / areas.max()
        if change > MOST_ABRUPT + 4 * within / areas.size:
            return True
    return False
