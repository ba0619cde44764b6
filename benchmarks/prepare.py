"""Time and memory of `infant-seg prepare` on a dataset, against a plain loop over its files.

The peer does, one case after the other, the least that any tool must: nibabel reads the scan and
the label map as canonical floats, NumPy crops to what is not 0 and normalises, and both are saved.

    python benchmarks/prepare.py --source=ibsr --input=IBSR [--labelled] > prepare.json
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.sources import SOURCES, Dataset


def run_peer(dataset: Dataset, output: Path) -> None:
    """Read, crop, normalise and save each case in turn."""
    for case in dataset.cases:
        scan = nib.as_closest_canonical(nib.Nifti1Image.from_filename(case.images[0]))
        image = np.squeeze(scan.get_fdata())
        inside = np.nonzero(image)
        box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in inside)
        image = image[box]
        brain = image != 0
        image[brain] = (image[brain] - image[brain].mean()) / image[brain].std()
        (output / case.case_id).mkdir(parents=True)
        np.save(output / case.case_id / "image.npy", image.astype(np.float32))
        if case.labels:
            drawn = nib.as_closest_canonical(nib.Nifti1Image.from_filename(case.labels))
            labels = np.squeeze(drawn.get_fdata())[box]
            np.save(output / case.case_id / "labels.npy", labels.astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--source", choices=sorted(SOURCES), default="ibsr")
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--labelled", action="store_true", help="only the cases with labels")
    parser.add_argument("--who", choices=["ours", "peer"], help="run one of the two, in here")
    arguments = parser.parse_args()
    if not arguments.who:
        found = {who: _in_a_process(who) for who in ("peer", "ours")}
        found["ratio"] = {
            key: round(found["ours"][key] / found["peer"][key], 2)
            for key in ("seconds", "peak_mib")
        }
        print(json.dumps({"cores": os.cpu_count(), **found}, indent=2))
        return

    dataset = SOURCES[arguments.source].open(arguments.input)
    if arguments.labelled:
        dataset = replace(dataset, cases=tuple(case for case in dataset.cases if case.labels))
    with tempfile.TemporaryDirectory() as folder:
        before = time.perf_counter()
        if arguments.who == "ours":
            prepare(dataset, Path(folder) / "set")
        else:
            run_peer(dataset, Path(folder) / "set")
        seconds = time.perf_counter() - before
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cases": len(dataset.cases), "seconds": seconds, "peak_mib": peak_mib}))


def _in_a_process(who: str) -> dict[str, float]:
    """Run one of the two in a process of its own, for its peak memory is that of the process."""
    command = [sys.executable, *sys.argv, "--who", who]
    result = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return {key: round(value, 2) for key, value in json.loads(result.stdout).items()}


if __name__ == "__main__":
    main()
