"""Measure a network on rendered scans, and write the statistics into its model.json.

Each scan is rendered from a label map: deformed at random, at an age that suits it, as T1w or T2w,
of a random quality, without its skull. The brain volume of every scan is measured. As many scans as
time allows are labeled. For those, the Dice and the signs that it is expected by are measured, and
every third is also predicted mirrored, for the agreement. At the end, the error of the expected
Dice is printed, as found by leaving out one label map at a time.

    python benchmarks/calibrate.py --minutes=20 infant_seg_jax/weights/contrast_agnostic \\
        fetal_atlas:FETAL/fetal_GA34_operated.nii.gz@1.17:0 \\
        freesurfer:MAPS/6mo_aseg_acpc.nii.gz:6 synthseg:ADULTS/training_seg_01.nii.gz:240

A label map's name is followed by its scale factor, if any, and its age in months.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, astuple, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from infant_seg_jax.compilation import use_compilation_cache
from infant_seg_jax.config import default_config
from infant_seg_jax.data.cropping import crop_affine, crop_box
from infant_seg_jax.data.preprocessing import PreparedVolume, prepare_volume
from infant_seg_jax.data.schemas import find_schema
from infant_seg_jax.data.volumes import Volume, voxel_ml
from infant_seg_jax.files import write_json
from infant_seg_jax.metrics.overlap import dice_per_tissue, mean_dice
from infant_seg_jax.prediction.confidence import signs_of
from infant_seg_jax.prediction.expected_dice import ScoredScan, expected_dice
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.prediction.reference_statistics import NOTHING_KNOWN
from infant_seg_jax.rendering import image
from infant_seg_jax.rendering.anatomy import Anatomy, is_brain, read_anatomy
from infant_seg_jax.rendering.cohort import render
from infant_seg_jax.rendering.contrast import MODALITIES, Prior
from infant_seg_jax.store.loading import open_predictor

MARGIN_MM = 12.0
POOR = image.Quality(maturation=0.10, regions=0.12, partial_volume=1.2, bias=0.25, noise=0.08)
"""The quality of training scans. Half of the scans have this quality, half are good."""


def read(text: str) -> tuple[Anatomy, float]:
    """A label map's anatomy, cropped to the brain, and its age in months."""
    schema, rest = text.split(":", 1)
    rest, months = rest.rsplit(":", 1)
    path, _, size = rest.partition("@")
    anatomy = read_anatomy(Path(path), find_schema(schema), size=float(size or 1))
    spacing = np.linalg.norm(anatomy.affine[:3, :3], axis=0)
    x, y, z = spacing.tolist()
    box = crop_box(is_brain(anatomy.structures), MARGIN_MM, (x, y, z))
    return replace(
        anatomy, structures=anatomy.structures[box], affine=crop_affine(anatomy.affine, box)
    ), float(months)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a model folder")
    parser.add_argument("label_maps", nargs="+", metavar="SCHEMA:FILE[@SIZE]:MONTHS")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--scans", type=int, default=100)
    arguments = parser.parse_args()
    use_compilation_cache()
    predictor = open_predictor(arguments.model)
    anatomies = [read(text) for text in arguments.label_maps]
    random = np.random.default_rng(0)
    until = time.monotonic() + 60 * arguments.minutes
    known = NOTHING_KNOWN
    sources: list[str] = []
    path = arguments.model / "model.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for number in range(arguments.scans):
        anatomy, months = anatomies[number % len(anatomies)]
        modality = MODALITIES[number // len(anatomies) % len(MODALITIES)]
        spread = 1 + 0.3 * months
        prior = Prior(modality, max(0.0, months - spread), months + spread, texture=0.08)
        quality = (image.GOOD, POOR)[int(random.integers(2))]
        drawn = render(anatomy, prior, quality, number, default_config().augmentation)
        volume = Volume(drawn.image[..., None], anatomy.affine, anatomy.native, anatomy.path)
        prepared = prepare_volume(volume, predictor.expects.preparation)
        size = round(np.count_nonzero(prepared.mask) * voxel_ml(prepared.affine), 1)
        known = replace(known, volume_ml=(*known.volume_ml, size))
        summary = f"{anatomy.path.name} {modality}: {size} ml"
        if time.monotonic() < until:
            scan = score(predictor, volume, prepared, drawn.label_map)
            sources.append(anatomy.path.name)
            known = replace(
                known,
                entropy=(*known.entropy, scan.entropy),
                scored=(*known.scored, scan),
            )
            summary += f", {scan}"
            if number % 3 == 0:
                found = replace(predictor, mirror=True).predict(prepared.image, anatomy.path)
                known = replace(known, agreement=(*known.agreement, round(found.agreement, 4)))
        print(summary, flush=True)
        content["familiar"] = asdict(known)
        write_json(path, content)
    print_errors(known.scored, sources)


def score(
    predictor: Predictor,
    volume: Volume,
    prepared: PreparedVolume,
    truth: UInt8[np.ndarray, "x y z"],
) -> ScoredScan:
    """Segment a scan whose true label map is known, and measure the result."""
    found = predictor.segment(volume)
    entropy, labels = found.confidence.entropy, found.label_map
    signs = signs_of(entropy, found.probabilities, prepared.crop_mask, volume.data, labels)
    values = *astuple(signs), mean_dice(dice_per_tissue(labels, truth))
    return ScoredScan(*(round(value, 4) for value in values))


def print_errors(scored: Sequence[ScoredScan], sources: Sequence[str]) -> None:
    """Print the error of the expected Dice of each label map's scans, learned from the others."""
    errors, inside = [], []
    for name in sorted(set(sources)):
        others = [s for s, source in zip(scored, sources, strict=True) if source != name]
        for scan in (s for s, source in zip(scored, sources, strict=True) if source == name):
            if expected := expected_dice(others, scan):
                errors.append(expected.mean - scan.dice)
                inside.append(expected.low <= scan.dice <= expected.high)
    if errors:
        print(
            f"Expected Dice of {len(errors)} scans: off by {np.mean(np.abs(errors)):.3f} "
            f"(mean difference {np.mean(errors):+.3f}), {np.mean(inside):.0%} in the range; their "
            f"Dice has an SD of {np.std([scan.dice for scan in scored]):.3f}."
        )


if __name__ == "__main__":
    main()
