"""Brain masks of whole heads: Dice with the truth of scans that are rendered from label maps.

The truth is all that is brain or fluid within the skull in the label map. Around brains whose label
maps end there, a head is grown (`infant_seg_jax.rendering.heads`).

    python benchmarks/brain_mask.py --output=masks.json --ages 240 \\
        --label-maps synthseg:MAPS/training_seg_06.nii.gz
    python benchmarks/brain_mask.py --output=masks.json --ages 2 7 \\
        --label-maps freesurfer:MAPS/2mo_aseg_acpc.nii.gz freesurfer:MAPS/7mo_aseg_acpc.nii.gz

A table is printed: Dice of the mask, Dice of what is labeled, and ml labeled apart from the rest.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from infant_seg_jax.compilation import use_compilation_cache
from infant_seg_jax.data.schemas import find_schema
from infant_seg_jax.data.volumes import spacing_of, volume_of
from infant_seg_jax.prediction.brain_mask import brain_mask
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.progress import progress
from infant_seg_jax.rendering import image
from infant_seg_jax.rendering.anatomy import Anatomy, is_brain, read_anatomy
from infant_seg_jax.rendering.cohort import BRIGHTNESS, render
from infant_seg_jax.rendering.contrast import Prior
from infant_seg_jax.rendering.heads import grow_head
from infant_seg_jax.rendering.structures import Structure
from infant_seg_jax.store.loading import open_predictor

MARGIN = 25
"""Voxels around a brain in which a head is grown."""

Case = tuple[Anatomy, str, float]


def with_head(schema: str, path: str) -> Anatomy:
    """A label map's anatomy with the head around it, its own or a grown one."""
    anatomy = read_anatomy(Path(path), find_schema(schema), head=True)
    if (anatomy.structures >= Structure.BONE).any():
        return anatomy
    structures = np.pad(anatomy.structures, MARGIN)
    spacing = float(np.cbrt(np.prod(spacing_of(anatomy.affine))))
    return replace(
        anatomy, structures=grow_head(structures, spacing, np.random.default_rng(len(path)))
    )


def cases(label_maps: Sequence[str], ages: Sequence[float]) -> Iterator[Case]:
    """Every label map in each modality and age."""
    for one in label_maps:
        anatomy = with_head(*one.split(":", 1))
        for modality in ("T1w", "T2w"):
            for age in ages:
                yield anatomy, modality, age


def dice(one: Bool[np.ndarray, "x y z"], other: Bool[np.ndarray, "x y z"]) -> float:
    """Dice of two masks."""
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def measure(predictor: Predictor, case: Case, seed: int) -> dict[str, float]:
    """Dice of the mask and of what is labeled, and what of it lies apart, in ml."""
    anatomy, modality, age = case
    rendered = render(anatomy, Prior(modality, age, age), image.GOOD, seed)
    scan = volume_of(BRIGHTNESS * rendered.image, np.diag([*spacing_of(anatomy.affine), 1.0]))
    labeled = predictor.segment(scan).label_map > 0
    truth = is_brain(anatomy.structures)
    pieces = np.empty(labeled.shape, np.int32)
    ndimage.label(labeled, np.ones((3, 3, 3)), output=pieces)
    sizes = np.bincount(pieces.ravel())[1:]
    voxel_ml = float(np.prod(scan.spacing)) / 1000
    return {
        "mask": dice(brain_mask(labeled, scan.spacing), truth),
        "labeled": dice(labeled, truth),
        "apart": float(sizes.sum() - sizes.max(initial=0)) * voxel_ml,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="bundled", help="a run or a model folder")
    parser.add_argument("--label-maps", nargs="+", required=True, help="SCHEMA:FILE")
    parser.add_argument("--ages", nargs="+", type=float, required=True, help="in months")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    use_compilation_cache()
    predictor = open_predictor(Path(arguments.checkpoint))
    found = {}
    total = 2 * len(arguments.label_maps) * len(arguments.ages)
    print(
        "| label map | modality | months | mask | labeled | apart, ml |\n|---|---|---|---|---|---|"
    )
    with progress("measuring", total, unit="scan") as bar:
        for case in cases(arguments.label_maps, arguments.ages):
            anatomy, modality, age = case
            scores = measure(predictor, case, arguments.seed)
            found[f"{anatomy.path.name} {modality} {age:g}"] = scores
            cells = f"{scores['mask']:.3f} | {scores['labeled']:.3f} | {scores['apart']:.1f}"
            print(f"| {anatomy.path.name} | {modality} | {age:g} | {cells} |", flush=True)
            arguments.output.write_text(json.dumps(found, indent=1))
            bar.update()


if __name__ == "__main__":
    main()
