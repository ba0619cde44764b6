"""Time, memory and Dice of prediction, against MONAI and a plain loop with the same weights.

MONAI's `SlidingWindowInferer` (windows of 64 voxels, half overlapping, Gaussian weights, four at
once) and the loop (such windows one at a time, every 8 voxels) run the network in PyTorch; both are
given the scan as `infant-seg predict` prepares it. The loop predicts some of its windows, and its
time is extrapolated from theirs. Of ours, the command's first run compiles, and the second finds
what that compiled in the cache. Each runs in a process of its own.

    python benchmarks/predict.py --checkpoint=RUN --input=SCAN [--truth=LABELS] > predict.json

A run of one step is enough for times; for Dice, it should have learnt something. Needs torch and
monai.
"""

import argparse
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from infant_seg_jax.data.preprocessing import prepare_volume
from infant_seg_jax.data.schemas import find_schema
from infant_seg_jax.data.volumes import read_image, read_label_map, write_label_map
from infant_seg_jax.inference.predictor import Predictor
from infant_seg_jax.inference.segmentation import whole_label_map
from infant_seg_jax.inference.windows import window_starts
from infant_seg_jax.metrics.overlap import dice_per_tissue, mean_dice
from infant_seg_jax.models.skip_densenet import SkipDenseNet3D
from infant_seg_jax.models.torch_import import load_torch_state_dict

REPOSITORY = Path(__file__).parents[1]
WINDOW, STEP, BATCH = 64, 8, 4
LOOP_WINDOWS = 12

Seconds = dict[str, float]


def measure(work: Callable[[], Any], repeats: int) -> tuple[Any, Seconds]:
    """What the work returns, and the least wall and CPU seconds that it took."""
    seconds, result = [], None
    for _ in range(repeats):
        before, cpu_before = time.perf_counter(), time.process_time()
        result = work()
        seconds.append((time.perf_counter() - before, time.process_time() - cpu_before))
    wall, cpu = (min(column) for column in zip(*seconds, strict=True))
    return result, {"seconds": wall, "cpu_seconds": cpu}


def torch_network(model: SkipDenseNet3D, variables: dict[str, Any], channels: int) -> Any:
    """The PyTorch network with our variables, by way of where ours would come from in its own."""
    import torch

    sys.path.insert(0, str(REPOSITORY / "tests"))
    from torch_twin import TorchSkipDenseNet3D  # pyright: ignore[reportMissingImports]

    network = TorchSkipDenseNet3D(
        channels, model.num_classes, model.growth_rate, model.stem_features, model.block_layers
    )
    floats = {name: t for name, t in network.state_dict().items() if t.is_floating_point()}
    ends = np.cumsum([tensor.numel() for tensor in floats.values()])
    assert ends[-1] < 2**24, "float32 cannot number so many values"
    numbered = {
        name: np.arange(end - tensor.numel(), end, dtype=np.float32).reshape(tensor.shape)
        for (name, tensor), end in zip(floats.items(), ends, strict=True)
    }
    values = np.empty(ends[-1], np.float32)
    origins = load_torch_state_dict(numbered, model.num_classes)
    jax.tree.map(lambda at, ours: values.put(np.asarray(at, int), ours), origins, variables)
    state = {name: torch.from_numpy(values[at.astype(int)].copy()) for name, at in numbered.items()}
    network.load_state_dict(state, strict=False)  # Its counters of batches stay.
    return network.eval().to(memory_format=torch.channels_last_3d)


def run_ours(arguments: argparse.Namespace, predictor: Predictor) -> dict[str, Any]:
    prepared = prepare_volume(read_image(arguments.input), predictor.preparation)
    _, first = measure(lambda: predictor.probabilities(prepared.image), 1)
    _, seconds = measure(lambda: predictor.probabilities(prepared.image), arguments.repeats)
    return {"shape": prepared.shape, "first": first, "inference": seconds}


def run_monai(arguments: argparse.Namespace, predictor: Predictor) -> dict[str, Any]:
    import torch
    from monai.inferers import SlidingWindowInferer  # pyright: ignore[reportMissingImports]

    volume = read_image(arguments.input)
    prepared = prepare_volume(volume, predictor.preparation)
    network = torch_network(predictor.model, predictor.variables, volume.data.shape[-1])
    inferer = SlidingWindowInferer((WINDOW,) * 3, BATCH, overlap=0.5, mode="gaussian")
    image = torch.from_numpy(prepared.image).permute(3, 0, 1, 2)[None]

    def predict() -> np.ndarray:
        with torch.inference_mode():
            logits = inferer(image, network)
            assert isinstance(logits, torch.Tensor)
            return logits.softmax(1)[0].permute(1, 2, 3, 0).numpy()

    probabilities, seconds = measure(predict, arguments.repeats)
    label_map = whole_label_map(probabilities, prepared, volume.shape)
    write_label_map(arguments.output / "monai_dseg.nii.gz", label_map, volume.native)
    return {"inference": seconds}


def run_loop(arguments: argparse.Namespace, predictor: Predictor) -> dict[str, Any]:
    import torch

    prepared = prepare_volume(read_image(arguments.input), predictor.preparation)
    network = torch_network(predictor.model, predictor.variables, prepared.image.shape[-1])
    image = torch.from_numpy(prepared.image).permute(3, 0, 1, 2)[None]
    counts = [len(window_starts(extent, WINDOW, 1 - STEP / WINDOW)) for extent in prepared.shape]
    starts = (range(0, extent - WINDOW + 1, STEP) for extent in prepared.shape)
    some = list(itertools.product(*starts))
    some = some[:: -(-len(some) // LOOP_WINDOWS)]
    total = torch.zeros((1, predictor.model.num_classes, *prepared.shape))

    def predict() -> None:
        with torch.inference_mode():
            for start in some:
                box = (slice(None), slice(None), *(slice(a, a + WINDOW) for a in start))
                total[box] += network(image[box]).softmax(1)

    _, seconds = measure(predict, arguments.repeats)
    share = len(some) / np.prod(counts)
    return {
        "windows": int(np.prod(counts)),
        "windows_measured": len(some),
        "inference_extrapolated": {key: value / share for key, value in seconds.items()},
    }


PEERS = {"ours": run_ours, "monai": run_monai, "loop": run_loop}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--truth", type=Path, help="the scan's label map, for Dice")
    parser.add_argument("--schema", default="tissues", help="of the truth")
    parser.add_argument("--repeats", type=int, default=2, help="the least of so many times counts")
    parser.add_argument("--who", choices=PEERS, help="run one of them, in here")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if not arguments.who:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(compare(arguments, Path(folder)), indent=2))
        return
    found = PEERS[arguments.who](arguments, Predictor.from_run(arguments.checkpoint))
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


def compare(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all, and compare."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    found: dict[str, Any] = {}
    for who in PEERS:
        options = [f"--who={who}", f"--output={folder}"]
        text, seconds = _timed([sys.executable, *sys.argv, *options], environment)
        found[who] = json.loads(text.splitlines()[-1])
        if who == "monai":
            # Reading, loading, predicting and writing; the repetitions are taken off.
            spent = (arguments.repeats - 1) * found[who]["inference"]["seconds"]
            found[who]["command_seconds"] = seconds - spent
    command = [sys.executable, "-m", "infant_seg_jax", "predict", f"--input={arguments.input}"]
    command += [f"--checkpoint={arguments.checkpoint}"]
    for which in ("first_command_seconds", "command_seconds"):
        output = folder / which
        _, found["ours"][which] = _timed([*command, f"--output={output}"], environment)

    seconds = {who: found[who]["inference"]["seconds"] for who in ("ours", "monai")}
    loop = found["loop"]["inference_extrapolated"]["seconds"]
    found["ratio_to_ours"] = {
        "monai_inference": seconds["monai"] / seconds["ours"],
        "monai_inference_cpu_seconds": found["monai"]["inference"]["cpu_seconds"]
        / found["ours"]["inference"]["cpu_seconds"],
        "monai_command": found["monai"]["command_seconds"] / found["ours"]["command_seconds"],
        "monai_first_command": found["monai"]["command_seconds"]
        / found["ours"]["first_command_seconds"],
        "loop_inference": loop / seconds["ours"],
    }
    (ours,) = (folder / "command_seconds").rglob("*dseg.nii.gz")
    label_maps = {
        "ours": read_label_map(ours).data.astype(np.uint8),
        "monai": read_label_map(folder / "monai_dseg.nii.gz").data.astype(np.uint8),
    }
    dice = {"ours_to_monai": dice_per_tissue(label_maps["ours"], label_maps["monai"])}
    if arguments.truth:
        schema = find_schema(arguments.schema)
        truth = schema.to_classes(read_label_map(arguments.truth).data, arguments.truth)
        dice |= {who: dice_per_tissue(label_map, truth) for who, label_map in label_maps.items()}
    for values in dice.values():
        values["mean"] = mean_dice(values)
    found = {"cores": os.cpu_count(), "python": platform.python_version(), **found, "dice": dice}
    return _rounded(found)


def _timed(command: list[str], environment: dict[str, str]) -> tuple[str, float]:
    before = time.perf_counter()
    result = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, text=True, env=environment, cwd=REPOSITORY
    )
    return result.stdout, time.perf_counter() - before


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
