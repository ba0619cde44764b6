"""What one file holds, and what is odd about it."""

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float32, Shaped

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.cropping import crop_box
from infant_seg_jax.data.foreground import BRAIN
from infant_seg_jax.data.formats.grid import Grid, times
from infant_seg_jax.data.formats.reader import read_layout
from infant_seg_jax.data.inspection.kinds import kind_of
from infant_seg_jax.data.inspection.meanings import (
    guess_schema,
    name_labels,
    tissue_volumes,
    unnamed,
)
from infant_seg_jax.data.inspection.reports import LABEL_MAP, SCAN, FileReport, LabelValue, Remark
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.orientation import orientation_of
from infant_seg_jax.data.plausibility import implausible_brain, implausible_tissues
from infant_seg_jax.data.preprocessing import describe_outliers, shown_in, sound_range
from infant_seg_jax.data.volumes import LabelMap, Volume, read_image, spacing_of, voxel_ml
from infant_seg_jax.errors import some_of

_MM = 0.25, 2.5
_MOST_ANISOTROPY = 2.5
_MOST_COSINE = 0.01
_FARTHEST_MM = 300.0


def inspect_file(
    path: Path, schema: LabelSchema | None = None, age: Age | None = None
) -> FileReport:
    """Inspect one file.

    Args:
        path: the file; of a pair, either of the two.
        schema: what the values of a label map mean; by default the schema that fits best.
        age: at the scan, by which volumes are judged.

    Raises:
        InputError: as `read_image`: the file cannot be read, or is empty.
    """
    return examine(path, schema, age)[0]


def examine(path: Path, schema: LabelSchema | None, age: Age | None) -> tuple[FileReport, LabelMap]:
    """As `inspect_file`, with the outline: 1 where there is no background, on the RAS+ grid."""
    layout = read_layout(path)
    volume = read_image(path)
    data, ml = volume.data[..., 0], voxel_ml(volume.affine)
    kind, counts = kind_of(data)
    remarks = [*(Remark("header", notice) for notice in volume.notices)]
    remarks += _remarks_on_grid(layout.grid, path)

    extent, found, labels = "", None, ()
    if kind == SCAN:
        foreground = shown_in(volume)
        inside, extent = foreground.mask, foreground.extent
        remarks += _remarks_on_scan(data, inside, extent, ml, age, path)
        remarks += _remarks_on_orientation(volume, inside) if extent == BRAIN else ()
    else:
        inside = data != 0
        if kind == LABEL_MAP:
            found = schema or guess_schema(counts, ml, age)
        labels = name_labels(counts, ml, found)
        remarks += _remarks_on_labels(labels, found, age, path) if kind == LABEL_MAP else ()

    box = crop_box(inside, 0.0, volume.spacing)
    report = FileReport(
        path=path,
        kind=kind,
        shape=layout.grid.shape,
        spacing=spacing_of(layout.grid.affine),
        axes="".join(map(str, nib.aff2axcodes(layout.grid.affine))),
        dtype=layout.dtype.name,
        scale=layout.scale,
        low=float(data.min()),
        high=float(data.max()),
        outline_ml=np.count_nonzero(inside) * ml,
        extent=extent,
        labels=labels,
        schema=found.name if found else "",
        schema_assumed=found is not None and schema is None,
        age=age,
        voxels_sha256=_sha256(data[box]),
        outline_sha256=_sha256(inside[box]),
        remarks=tuple(remarks),
    )
    outline = LabelMap(inside.view(np.uint8), volume.affine, volume.native, path)
    return report, outline


def _remarks_on_grid(grid: Grid, path: Path) -> list[Remark]:
    remarks = []
    affine, (low, high) = grid.affine, _MM
    spacing = [round(size, 3) for size in spacing_of(affine)]  # 2.5 may be stored as 2.5000002
    if not low <= min(spacing) <= max(spacing) <= high or (
        max(spacing) > _MOST_ANISOTROPY * min(spacing)
    ):
        sentence = (
            f"{path} has voxels of {times(spacing)} mm, expected {low:g} to {high:g} mm and no "
            f"side more than {_MOST_ANISOTROPY:g} times another: is that right?"
        )
        remarks.append(Remark("spacing", sentence))
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = np.abs(axes.T @ axes - np.eye(3)).max()
    if cosine > _MOST_COSINE:
        sentence = (
            f"{path} has axes {90 - np.degrees(np.arcsin(min(cosine, 1))):.0f} degrees apart, "
            "expected right angles: other tools may read it differently, so resample it to a grid "
            "with right angles."
        )
        remarks.append(Remark("affine", sentence))
    if np.array_equal(affine, np.eye(4)):
        sentence = (
            f"{path} has the identity as its affine, like files that have lost their orientation "
            "and voxel size: check in a viewer that left is left and that voxels are 1 mm wide."
        )
        remarks.append(Remark("affine", sentence))
    center = (affine @ [*((np.array(grid.shape) - 1) / 2), 1])[:3]
    if np.linalg.norm(center) > _FARTHEST_MM:
        sentence = (
            f"{path} has its center {np.linalg.norm(center):.0f} mm from the origin of its "
            f"coordinates, expected at most {_FARTHEST_MM:.0f}: is the affine this scan's own?"
        )
        remarks.append(Remark("affine", sentence))
    return remarks


def _remarks_on_scan(
    data: Float32[np.ndarray, "x y z"],
    inside: Bool[np.ndarray, "x y z"],
    extent: str,
    ml: float,
    age: Age | None,
    path: Path,
) -> list[Remark]:
    values = data[inside]
    remarks = []
    low, high = sound_range(values)
    if count := int(np.count_nonzero((values < low) | (values > high))):
        remarks.append(Remark("intensities", describe_outliers(path, count)))
    odd = implausible_brain(values.size * ml, age) if extent == BRAIN else ""
    if odd:
        sentence = (
            f"{path} is implausible {_at(age)}: {odd}; check its voxel size, its age and whether "
            "it is skull-stripped."
        )
        remarks.append(Remark("volumes", sentence))
    return remarks


def _remarks_on_orientation(volume: Volume, brain: Bool[np.ndarray, "x y z"]) -> list[Remark]:
    found = orientation_of(volume, brain)
    if found is None or not found.contradicts_header:
        return []
    sentence = (
        f"{volume.path} shows a brain {found.in_words()}: check its header, or label it as if the "
        "header were right, with `infant-seg predict --fix_orientation`."
    )
    return [Remark("orientation", sentence)]


def _remarks_on_labels(
    labels: tuple[LabelValue, ...], schema: LabelSchema | None, age: Age | None, path: Path
) -> list[Remark]:
    remarks = []
    unknown = unnamed(labels)
    if unknown:
        values = some_of((f"{label.value} ({label.ml:.3g} ml)" for label in unknown), 8)
        where = f"the schema '{schema.name}'" if schema else "every named schema"
        sentence = (
            f"{path} has values outside {where}: {values}; say what they mean with "
            "--schema=NAME, or with --schema=FILE, a file with lines such as '7: GM'."
        )
        remarks.append(Remark("labels", sentence))
    odd = implausible_tissues(tissue_volumes(labels), age) if schema else ()
    if schema and odd:
        sentence = (
            f"{path} is implausible {_at(age)}: {', '.join(odd)}; check its voxel size, its "
            f"age and whether its values are those of the schema '{schema.name}'."
        )
        remarks.append(Remark("volumes", sentence))
    return remarks


def _at(age: Age | None) -> str:
    return "at any age" if age is None else f"at {age}"


def _sha256(array: Shaped[np.ndarray, "x y z"]) -> str:
    digest = hashlib.sha256(repr(array.shape).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
