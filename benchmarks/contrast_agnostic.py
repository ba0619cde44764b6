"""Accuracy of a network where contrast changes: unseen adults, and infants drawn at any age.

IBSR's labels call only the ventricles CSF, and sulcal fluid gray matter. Of CSF, what is measured
is therefore what lies within 3 mm of the true ventricles; GM and WM are measured as they are.

Rendered scans are of label maps that the network's training has not seen, one for each age and
modality, stripped; their truth is the label map itself.

Every scan is predicted once, and its labels are measured as the network says them and refined. Of
the refined ones, the mean Dice is compared with the one that was expected without the truth.

    python benchmarks/contrast_agnostic.py --output=scores --ibsr=IBSR
    python benchmarks/contrast_agnostic.py --output=scores --checkpoint=runs/adult \\
        --label-maps freesurfer:MAPS/2mo_aseg_acpc.nii.gz synthseg:MAPS/training_seg_06.nii.gz

OUTPUT keeps the drawn scans and scores.json; the tables are printed.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from infant_seg_jax.compilation import use_compilation_cache
from infant_seg_jax.data.cropping import uncrop
from infant_seg_jax.data.labels import IGNORE, TISSUES
from infant_seg_jax.data.preprocessing import most_probable, prepare_volume
from infant_seg_jax.data.volumes import read_image, read_label_map, spacing_of
from infant_seg_jax.metrics.overlap import dice_per_tissue
from infant_seg_jax.prediction.confidence import signs_of
from infant_seg_jax.prediction.expected_dice import ExpectedDice, expected_dice
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.prediction.refinement import refine_scan
from infant_seg_jax.progress import progress
from infant_seg_jax.store.loading import open_predictor

AGES = (0, 3, 6, 12, 24, 60)
MODALITIES = ("T1w", "T2w")
NEAR_MM = 3.0
NETWORK, REFINED = "network", "refined"

Case = tuple[str, Path, Path]
Scores = dict[str, dict[str, list[float]]]
"""Of each group of scans and each of them, Dice of the tissues."""


def ibsr_cases(folder: Path) -> Iterator[Case]:
    """IBSR's labeled scans: of what group, the scan, its truth."""
    for truth in sorted(folder.rglob("IBSR_??_seg.nii.gz")):
        yield "IBSR", truth.with_name(truth.name.replace("_seg", "")), truth


def rendered_cases(label_maps: Sequence[str], folder: Path) -> Iterator[Case]:
    """Scans of label maps in each modality and age in months, drawn unless they are there."""
    for modality in MODALITIES:
        for age in AGES:
            for number, (schema, path) in enumerate(one.split(":", 1) for one in label_maps):
                output = folder / f"{modality}_{age}" / str(number)
                if not output.exists():
                    drawing = [path, f"--schema={schema}", f"--modality={modality}"]
                    drawing += [f"--age={age}", f"--seed={age}", f"--output={output}"]
                    command = [sys.executable, "-m", "infant_seg_jax", "render", *drawing]
                    subprocess.run(command, check=True)
                (truth,) = output.rglob("*_dseg.nii.gz")
                scan = truth.with_name(truth.name.replace("dseg", modality))
                yield f"{modality}, months {age}", scan, truth


def measure(predictor: Predictor, case: Case) -> tuple[dict[str, list[float]], ExpectedDice | None]:
    """Dice of the tissues, of what the network says and of what is made of it; the expected one."""
    group, scan, path = case
    volume, truth = read_image(scan), read_label_map(path)
    plain = predictor.segment(volume)
    prepared = prepare_volume(volume, predictor.expects.preparation)
    refined = refine_scan(plain.probabilities, prepared, volume)
    label_maps = {
        NETWORK: plain.label_map,
        REFINED: uncrop(most_probable(refined), prepared.box, volume.shape),
    }
    entropy, mask = plain.confidence.entropy, prepared.crop_mask
    signs = signs_of(entropy, refined, mask, volume.data, label_maps[REFINED])
    expected = expected_dice(predictor.reference.scored, signs)
    found = {}
    for name, label_map in label_maps.items():
        dice = dice_per_tissue(label_map, truth.data)
        if group == "IBSR":
            outside = np.asarray(truth.data != 1)
            apart = ndimage.distance_transform_edt(outside, sampling=spacing_of(truth.affine))
            near = np.where(np.asarray(apart) <= NEAR_MM, truth.data, IGNORE)
            dice["CSF"] = dice_per_tissue(label_map, near)["CSF"]
        found[name] = [dice[tissue] for tissue in TISSUES]
    return found, expected


def row(name: str, scores: dict[str, list[float]]) -> str:
    """Of a Markdown table: the mean over subjects of each tissue and of all."""
    means = np.mean(list(scores.values()), axis=0)
    cells = [f"{value:.3f}" for value in (*means, means.mean())]
    return f"| {name} ({len(scores)}) | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="bundled", help="a run or a model folder")
    parser.add_argument("--ibsr", type=Path, help="the folder of IBSR's 15 labeled scans or some")
    parser.add_argument("--label-maps", nargs="*", default=[], help="SCHEMA:FILE, unseen ones")
    parser.add_argument("--scans", type=Path, help="where rendered ones are kept; else in OUTPUT")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    use_compilation_cache()
    arguments.output.mkdir(parents=True, exist_ok=True)
    predictor = replace(open_predictor(Path(arguments.checkpoint)), refine=False)
    cases = list(ibsr_cases(arguments.ibsr)) if arguments.ibsr else []
    kept = arguments.scans or arguments.output / "scans"
    cases += rendered_cases(arguments.label_maps, kept)
    found: dict[str, Scores] = {NETWORK: {}, REFINED: {}}
    expectations: dict[str, list[tuple[ExpectedDice, float]]] = {}
    with progress("measuring", len(cases), unit="scan") as bar:
        for case in cases:
            scores, expected = measure(predictor, case)
            for how, dice in scores.items():
                found[how].setdefault(case[0], {})[case[1].name] = dice
            if expected:
                pair = expected, float(np.mean(scores[REFINED]))
                expectations.setdefault(case[0], []).append(pair)
            bar.update()
    (arguments.output / "scores.json").write_text(json.dumps(found, indent=1))
    for how, groups in found.items():
        print(f"\n| {how} | {' | '.join(TISSUES)} | mean |\n|---|---|---|---|---|")
        for name, scores in groups.items():
            print(row(name, scores))
    for name, pairs in expectations.items():
        error = np.mean([abs(expected.mean - dice) for expected, dice in pairs])
        within = sum(expected.low <= dice <= expected.high for expected, dice in pairs)
        print(f"{name}: expected Dice off by {error:.3f}, {within} of {len(pairs)} in the range")


if __name__ == "__main__":
    main()
