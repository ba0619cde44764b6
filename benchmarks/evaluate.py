"""Time and memory of `infant-seg evaluate` on one pair, against distance transforms with scipy.

The peer is the usual recipe (MedPy's, and MONAI's on a CPU): nibabel reads both label maps, and of
every tissue's surface scipy's exact Euclidean distance transform is taken over the whole volume,
from the prediction and from the truth. It has the same surfaces and the same five statistics of
their distances, so `largest_difference` should be 0. `ours` reads and measures the pair;
`command` is all of `infant-seg evaluate`, from starting Python to the files written.

Without files, the pair is a phantom of 256x256x256 voxels of 1 mm, and the same one warped by a
smooth random displacement.

    python benchmarks/evaluate.py [--prediction=A.nii.gz --truth=B.nii.gz] > evaluate.json
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from infant_seg_jax.data.labels import CLASS_NAMES, TISSUES
from infant_seg_jax.data.phantom import render_phantom
from infant_seg_jax.inference.label_map_pairs import measure_label_maps

Values = dict[str, dict[str, float]]

SIDE, BRAIN = 256, (160, 192, 160)
WARP_VOXELS, WARP_SMOOTHNESS = 0.8, 5.0
DISTANCES = ("hausdorff_mm", "hausdorff95_mm", "modified_hausdorff_mm", "assd_mm", "surface_dice")


def make_pair(prediction: Path, truth: Path) -> Values:
    """Write a phantom's label map, and what a network might have made of it."""
    phantom = render_phantom(0, shape=BRAIN, spacing=1.0)
    rng = np.random.default_rng(0)
    places = np.indices(BRAIN, np.float32)
    for axis in places:
        noise = ndimage.gaussian_filter(rng.normal(size=BRAIN), WARP_SMOOTHNESS)
        axis += WARP_VOXELS * (noise / noise.std()).astype(np.float32)
    warped = ndimage.map_coordinates(phantom.label_map, places, order=0, mode="nearest")
    around = [((SIDE - size) // 2, (SIDE - size) // 2) for size in BRAIN]
    for path, label_map in ((prediction, warped), (truth, phantom.label_map)):
        nib.save(nib.Nifti1Image(np.pad(label_map, around), phantom.affine), path)
    return {}


def run_peer(prediction: Path, truth: Path) -> Values:
    """Distance transforms of the whole volume."""
    images = [nib.Nifti1Image.from_filename(path) for path in (prediction, truth)]
    maps = [np.squeeze(np.asanyarray(image.dataobj)) for image in images]
    spacing = [float(size) for size in images[1].header.get_zooms()[:3]]
    found: Values = {}
    for tissue in TISSUES:
        masks = [label_map == CLASS_NAMES.index(tissue) for label_map in maps]
        surfaces = [mask ^ ndimage.binary_erosion(mask) for mask in masks]
        away = [np.asarray(ndimage.distance_transform_edt(~s, sampling=spacing)) for s in surfaces]
        a, b = away[1][surfaces[0]], away[0][surfaces[1]]
        both = np.concatenate([a, b])
        statistics = (
            both.max(),
            max(np.percentile(a, 95), np.percentile(b, 95)),
            max(a.mean(), b.mean()),
            both.mean(),
            np.mean(both <= 1.0 + 1e-4),
        )
        overlap = np.count_nonzero(masks[0] & masks[1])
        found[tissue] = dict(zip(DISTANCES, map(float, statistics), strict=True))
        found[tissue]["dice"] = 2 * overlap / sum(map(np.count_nonzero, masks))
    return found


def run_ours(prediction: Path, truth: Path) -> Values:
    """What `evaluate` does with a pair."""
    (found,) = measure_label_maps(prediction, truth).scores.subjects.values()
    return {
        tissue: {name: values[name] for name in (*DISTANCES, "dice")}
        for tissue, values in found.items()
    }


def run_command(prediction: Path, truth: Path) -> Values:
    """All of the command, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        flags = (f"--prediction={prediction}", f"--truth={truth}", f"--output={folder}")
        command = [sys.executable, "-m", "infant_seg_jax", "evaluate", *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {}


COMPARED = {"peer": run_peer, "ours": run_ours, "command": run_command}
RUNS = {"pair": make_pair, **COMPARED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--prediction", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--who", choices=RUNS, help="run one of them, in here")
    arguments = parser.parse_args()
    if arguments.who:
        _time(arguments.who, arguments.prediction, arguments.truth)
        return
    with tempfile.TemporaryDirectory() as folder:
        pair = arguments.prediction, arguments.truth
        if None in pair:
            pair = Path(folder) / "prediction.nii.gz", Path(folder) / "truth.nii.gz"
            _in_a_process("pair", *pair)
        shape = nib.Nifti1Image.from_filename(pair[1]).shape
        found = {who: _in_a_process(who, *pair) for who in COMPARED}
    peer, ours = found["peer"].pop("values"), found["ours"].pop("values")
    del found["command"]["values"]
    differences = [abs(ours[t][n] - value) for t in peer for n, value in peer[t].items()]
    ratio = {key: round(found["ours"][key] / found["peer"][key], 3) for key in found["peer"]}
    print(
        json.dumps(
            {
                "cores": os.cpu_count(),
                "shape": list(shape),
                "dice": {tissue: round(values["dice"], 3) for tissue, values in ours.items()},
                **found,
                "ratio": ratio,
                "largest_difference": round(max(differences), 9),
            },
            indent=2,
        )
    )


def _time(who: str, prediction: Path, truth: Path) -> None:
    """Run one of them in here and print what it took, as JSON."""
    whose = resource.RUSAGE_CHILDREN if who == "command" else resource.RUSAGE_SELF
    before, cpu_before = time.perf_counter(), _cpu_seconds(whose)
    values = RUNS[who](prediction, truth)
    seconds, cpu_seconds = time.perf_counter() - before, _cpu_seconds(whose) - cpu_before
    peak_mib = resource.getrusage(whose).ru_maxrss / 1024
    rounded = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": peak_mib}
    print(json.dumps({key: round(value, 2) for key, value in rounded.items()} | {"values": values}))


def _cpu_seconds(whose: int) -> float:
    usage = resource.getrusage(whose)
    return usage.ru_utime + usage.ru_stime


def _in_a_process(who: str, prediction: Path, truth: Path) -> dict:
    """Run one of them in a process of its own, for its peak memory is that of the process.

    This one stays small: Linux counts a parent's memory as its child's.
    """
    flags = [f"--who={who}", f"--prediction={prediction}", f"--truth={truth}"]
    result = subprocess.run(
        [sys.executable, sys.argv[0], *flags], stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(result.stdout)


if __name__ == "__main__":
    main()
