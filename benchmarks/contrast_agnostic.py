"""Accuracy of a network where contrast changes: unseen adults, and infants drawn at any age.

IBSR's labels call only the ventricles CSF, and sulcal fluid gray matter. Of CSF, what is measured
is therefore what lies within 3 mm of the true ventricles; GM and WM are measured as they are.

Rendered scans are of label maps that the network's training has not seen, one for each age and
modality, stripped; their truth is the label map itself.

    python benchmarks/contrast_agnostic.py --output=scores --ibsr=IBSR
    python benchmarks/contrast_agnostic.py --output=scores --checkpoint=runs/adult \\
        --label-maps freesurfer:MAPS/2mo_aseg_acpc.nii.gz synthseg:MAPS/training_seg_06.nii.gz

OUTPUT keeps the scans, what was predicted, and scores.json; the tables are printed.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from infant_seg_jax.data.labels import IGNORE, TISSUES
from infant_seg_jax.metrics.overlap import dice_per_tissue

AGES = (0, 3, 6, 12, 24, 60)
MODALITIES = ("T1w", "T2w")
NEAR_MM = 3.0

Scores = dict[str, list[float]]


def infant_seg(*arguments: str | Path) -> None:
    """Run the command line as a person does."""
    subprocess.run([sys.executable, "-m", "infant_seg_jax", *map(str, arguments)], check=True)


def predict(scans: Iterable[Path], how: Sequence[str], output: Path) -> None:
    """Label scans, without mirrored ones, as `predict` does by itself."""
    inputs = [f"--input={scan}" for scan in scans]
    infant_seg("predict", *how, *inputs, f"--output={output}", "--noreport")


def read(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """The voxels of a label map, and their size in mm."""
    image = nib.Nifti1Image.from_filename(path)
    return np.asarray(image.dataobj).squeeze(), image.header.get_zooms()[:3]


def score_ibsr(folder: Path, how: Sequence[str], output: Path) -> Scores:
    """Dice of CSF near the true ventricles, of GM and of WM, by subject."""
    truths = sorted(folder.rglob("IBSR_??_seg.nii.gz"))
    scans = [truth.with_name(truth.name.replace("_seg", "")) for truth in truths]
    predict(scans, how, output)
    scores = {}
    for scan, truth in zip(scans, truths, strict=True):
        name = scan.name.removesuffix(".nii.gz")
        predicted, _ = read(output / f"{name}_dseg.nii.gz")
        true, spacing = read(truth)
        near = np.asarray(ndimage.distance_transform_edt(true != 1, sampling=spacing)) <= NEAR_MM
        csf = dice_per_tissue(predicted, np.where(near, true, IGNORE))["CSF"]
        scores[name] = [*{**dice_per_tissue(predicted, true), "CSF": csf}.values()]
    return scores


def score_rendered(
    label_maps: Sequence[str], how: Sequence[str], scans: Path, output: Path
) -> Mapping[str, Scores]:
    """Dice of each tissue by subject, for each modality and age in months."""
    for modality in MODALITIES:
        for age in AGES:
            for number, (schema, path) in enumerate(one.split(":", 1) for one in label_maps):
                folder = scans / f"{modality}_{age}" / str(number)
                if not folder.exists():
                    infant_seg(
                        "render",
                        path,
                        f"--schema={schema}",
                        f"--modality={modality}",
                        f"--age={age}",
                        f"--seed={age}",
                        f"--output={folder}",
                    )
    found = {}
    for modality in MODALITIES:
        for age in AGES:
            what = f"{modality}_{age}"
            truths = sorted((scans / what).rglob("*_dseg.nii.gz"))
            drawn = [truth.with_name(truth.name.replace("dseg", modality)) for truth in truths]
            predict(drawn, how, output / what)
            found[what] = {
                scan.name: _score_one(scan, truth, output / what)
                for scan, truth in zip(drawn, truths, strict=True)
            }
    return found


def _score_one(scan: Path, truth: Path, output: Path) -> list[float]:
    predicted, _ = read(output / re.sub(r"\.nii\.gz$", "_dseg.nii.gz", scan.name))
    true, _ = read(truth)
    return [*dice_per_tissue(predicted, true).values()]


def row(name: str, scores: Scores) -> str:
    """Of a Markdown table: the mean over subjects of each tissue and of all."""
    means = np.mean(list(scores.values()), axis=0)
    cells = [f"{value:.3f}" for value in (*means, means.mean())]
    return f"| {name} ({len(scores)}) | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="shipped", help="a run or a model folder")
    parser.add_argument("--refine", action=argparse.BooleanOptionalAction, help="as for predict")
    parser.add_argument("--ibsr", type=Path, help="the folder of IBSR's 15 labelled scans or some")
    parser.add_argument("--label-maps", nargs="*", default=[], help="SCHEMA:FILE, unseen ones")
    parser.add_argument("--scans", type=Path, help="where rendered ones are kept; else in OUTPUT")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    refine = {None: [], True: ["--refine"], False: ["--norefine"]}[arguments.refine]
    how = [f"--checkpoint={arguments.checkpoint}", *refine]
    found: dict[str, Scores] = {}
    if arguments.ibsr:
        output = arguments.output / "ibsr"
        found["IBSR"] = score_ibsr(arguments.ibsr, how, output)
    if arguments.label_maps:
        scans = arguments.scans or arguments.output / "scans"
        output = arguments.output / "rendered"
        found |= score_rendered(arguments.label_maps, how, scans, output)
    (arguments.output / "scores.json").write_text(json.dumps(found, indent=1))
    print(f"| scans | {' | '.join(TISSUES)} | mean |\n|---|---|---|---|---|")
    for name, scores in found.items():
        print(row(name.replace("_", ", months "), scores))


if __name__ == "__main__":
    main()
