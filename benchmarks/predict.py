"""Time, memory and Dice of prediction, against MONAI and a plain loop with the same weights.

MONAI's `SlidingWindowInferer` (windows of 64 voxels, half overlapping, Gaussian weights, four at
once) and the loop (such windows one at a time, every 8 voxels) run the network in PyTorch; both are
given the scan as `infant-seg predict` prepares it. The loop predicts some of its windows, and its
time is extrapolated from theirs. Of ours, the command's first run compiles, and the second finds
what that compiled in the cache; MONAI's command is its whole process, from starting Python to the
file. Each runs in a process of its own, in turns.

    python benchmarks/predict.py [--checkpoint=RUN] --input=SCAN [--truth=LABELS] > predict.json
    python benchmarks/predict.py [--checkpoint=RUN] --sides 128 192 256 > predict.json

Without a run, the network is the paper's with random weights: enough for times, not for Dice.
`--sides` are of volumes of random numbers. Prints JSON, and a table beside it on standard error.
Needs torch and monai.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from inputs import make_model_folder, torch_network
from measuring import (
    PLATFORMS,
    Environment,
    Failed,
    Found,
    Row,
    compare,
    empty_cache,
    in_a_process,
    least,
    run_command,
)
from table import print_one

WINDOW, STEP, BATCH = 64, 8, 4
LOOP_WINDOWS = 12
MONAI_LABELS = "monai_dseg.nii.gz"


def convert_weights(checkpoint: str, folder: str) -> Found:
    """Write the network for PyTorch: its weights, by way of where ours would come from in its own.

    What prepares its scans is written beside them, so that its process needs no JAX.
    """
    from dataclasses import asdict

    import jax
    import torch
    from safetensors.torch import save_file

    from infant_seg_jax.models.torch_import import load_torch_state_dict
    from infant_seg_jax.store.loading import open_predictor

    predictor = open_predictor(Path(checkpoint))
    model, channels = predictor.model, len(predictor.expects.modalities)
    sizes = {
        name: getattr(model, name)
        for name in ("num_classes", "growth_rate", "stem_features", "block_layers")
    }
    network = torch_network(channels, **sizes)
    floats = {name: t for name, t in network.state_dict().items() if t.is_floating_point()}
    ends = np.cumsum([tensor.numel() for tensor in floats.values()])
    assert ends[-1] < 2**24, "float32 cannot number so many values"
    numbered = {
        name: np.arange(end - tensor.numel(), end, dtype=np.float32).reshape(tensor.shape)
        for (name, tensor), end in zip(floats.items(), ends, strict=True)
    }
    values = np.empty(ends[-1], np.float32)
    origins = load_torch_state_dict(numbered, model.num_classes)
    jax.tree.map(
        lambda at, ours: values.put(np.asarray(at, int), ours), origins, predictor.variables
    )
    state = {name: torch.from_numpy(values[at.astype(int)].copy()) for name, at in numbered.items()}
    save_file(state, Path(folder) / "weights.safetensors")
    about = {
        "channels": channels,
        "sizes": sizes,
        "preparation": asdict(predictor.expects.preparation),
    }
    (Path(folder) / "network.json").write_text(json.dumps(about))
    return {}


def run_ours(checkpoint: str, scan: str, side: int) -> Found:
    import jax

    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.store.loading import open_predictor

    use_compilation_cache()
    predictor = open_predictor(Path(checkpoint))
    channels, preparation = len(predictor.expects.modalities), predictor.expects.preparation
    image = _prepare(scan, preparation)[1].image if scan else make_image(side, channels)
    _, first = least(lambda: predictor.probabilities(image))
    _, found = least(lambda: predictor.probabilities(image))
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        found["gpu_mib"] = statistics["peak_bytes_in_use"] / 2**20
    return {**found, "compile_seconds": max(0.0, first["seconds"] - found["seconds"])}


def run_ours_command(checkpoint: str, scan: str, labels: str) -> Found:
    """The whole command twice; the first time it compiles, in the first turn."""
    found: Found = {}
    with tempfile.TemporaryDirectory() as folder:
        for run in ("first", "second"):
            flags = [f"--checkpoint={checkpoint}", f"--input={scan}", f"--output={folder}/{run}"]
            before, found = found, run_command("predict", *flags)
        (written,) = Path(folder, "second").rglob("*dseg.nii.gz")
        Path(labels).write_bytes(written.read_bytes())
    return {**found, "compile_seconds": max(0.0, before["seconds"] - found["seconds"])}


def run_monai(converted: str, scan: str, side: int, window: int, device: str) -> Found:
    import torch
    from monai.inferers.inferer import SlidingWindowInferer

    network, preparation, channels = read_network(converted, device)
    volume, prepared = _prepare(scan, preparation) if scan else (None, None)
    image = prepared.image if prepared else make_image(side, channels)
    inferer = SlidingWindowInferer((window,) * 3, BATCH, overlap=0.5, mode="gaussian")
    x = torch.from_numpy(image).permute(3, 0, 1, 2)[None].to(PLATFORMS[device])

    def predict() -> np.ndarray:
        with torch.inference_mode():
            logits = inferer(x, network)
            assert isinstance(logits, torch.Tensor)
            return logits.softmax(1)[0].permute(1, 2, 3, 0).cpu().numpy()

    probabilities, found = least(predict)
    if volume and prepared:
        from infant_seg_jax.data.preprocessing import restore_label_map
        from infant_seg_jax.data.volumes import write_label_map

        label_map = restore_label_map(probabilities, prepared, volume.shape)
        write_label_map(Path(converted) / MONAI_LABELS, label_map, volume.native)
    return found


def run_loop(converted: str, scan: str, window: int, device: str) -> Found:
    import torch

    from infant_seg_jax.prediction.windows import window_starts

    network, preparation, _ = read_network(converted, device)
    _, prepared = _prepare(scan, preparation)
    x = torch.from_numpy(prepared.image).permute(3, 0, 1, 2)[None].to(PLATFORMS[device])
    counts = [len(window_starts(extent, window, 1 - STEP / window)) for extent in prepared.shape]
    starts = (range(0, extent - window + 1, STEP) for extent in prepared.shape)
    some = list(itertools.product(*starts))
    some = some[:: -(-len(some) // LOOP_WINDOWS)]
    with torch.inference_mode():
        classes = network(x[:, :, :window, :window, :window]).shape[1]
    total = torch.zeros((1, classes, *prepared.shape), device=x.device)

    def predict() -> None:
        with torch.inference_mode():
            for start in some:
                box = (slice(None), slice(None), *(slice(a, a + window) for a in start))
                total[box] += network(x[box]).softmax(1)
        float(total[0, 0, 0, 0, 0])  # Until the device is done.

    _, found = least(predict)
    all_windows = int(np.prod(counts))
    share = len(some) / all_windows
    cpu_seconds = round(found["also"]["cpu_seconds"] / share, 1)
    also = {"windows": all_windows, "of them measured": len(some), "cpu_seconds": cpu_seconds}
    return {**found, "seconds": found["seconds"] / share, "also": also}


def measure_dice(labels: str, truth: str, schema: str) -> Found:
    """Dice of a label map of ours and another, which is in the values of a schema."""
    from infant_seg_jax.data.schemas import find_schema
    from infant_seg_jax.data.volumes import read_label_map
    from infant_seg_jax.metrics.overlap import dice_per_tissue, mean_dice

    found = read_label_map(Path(labels)).data.astype(np.uint8)
    expected = find_schema(schema).to_classes(read_label_map(Path(truth)).data, Path(truth))
    dice = dice_per_tissue(found, expected)
    also = {**dice, "mean": mean_dice(dice)}
    return {"also": {name: round(value, 4) for name, value in also.items()}}


def make_image(side: int, channels: int) -> np.ndarray:
    """A volume of random numbers."""
    random = np.random.default_rng(0)
    return random.standard_normal((side, side, side, channels), dtype=np.float32)


def _prepare(scan: str, preparation: Any) -> tuple[Any, Any]:
    """The scan as read, and as the network sees it."""
    from infant_seg_jax.data.preprocessing import prepare_volume
    from infant_seg_jax.data.volumes import read_image

    volume = read_image(Path(scan))
    return volume, prepare_volume(volume, preparation)


def read_network(folder: str, device: str) -> tuple[Any, Any, int]:
    """What `convert_weights` wrote: the network in PyTorch, the preparation, and the channels."""
    from safetensors.torch import load_file

    from infant_seg_jax.data.preprocessing import preparation_from_record

    about = json.loads((Path(folder) / "network.json").read_text())
    low, high = about["preparation"]["clip_percentiles"]
    about["preparation"]["clip_percentiles"] = (low, high)
    network = torch_network(about["channels"], **about["sizes"])
    network.load_state_dict(load_file(Path(folder) / "weights.safetensors"), strict=False)
    network = network.eval().to(PLATFORMS[device])
    return network, preparation_from_record(about["preparation"]), about["channels"]


def whole_process(environment: Environment, **arguments: Any) -> Found:
    """MONAI's process from its start to its end, in place of inference alone."""
    found = in_a_process(run_monai, environment, **arguments)
    return {"seconds": found["process_seconds"], "peak_mib": found["peak_mib"]}


def rows(
    benchmark: str,
    *,
    checkpoint: Path | None = None,
    scan: Path | None = None,
    truth: Path | None = None,
    schema: str = "tissues",
    sides: Sequence[int] = (),
    window: int = WINDOW,
    device: str = "cpu",
    rounds: int = 2,
    tiny: bool = False,
) -> Iterator[Row]:
    """What prediction takes: of a scan, and of volumes of random numbers.

    Args:
        benchmark: what the rows are of.
        checkpoint: a run or a model folder; None: random weights of the paper's network.
        scan: what to label.
        truth: its label map, for Dice.
        schema: of the truth.
        sides: of volumes, in voxels.
        window: of MONAI and the loop.
        device: `"cpu"` or `"gpu"`.
        rounds: turns of each.
        tiny: another network in place of the paper's, to try this out.
    """
    with tempfile.TemporaryDirectory() as folder, empty_cache() as aside:
        if checkpoint is None:
            checkpoint = Path(folder) / "model"
            in_a_process(make_model_folder, aside, folder=checkpoint, tiny=tiny)
        # What is not there may be the name of a network that the package brings.
        given = {"checkpoint": checkpoint.resolve() if checkpoint.exists() else checkpoint}
        with suppress(Failed):  # Without PyTorch, say, as each peer says in its row.
            in_a_process(convert_weights, aside, **given, folder=folder)
        monai = {"converted": folder, "window": window, "device": device}
        if scan:
            place = {"scan": scan.resolve()}
            yield from compare(
                benchmark,
                f"inference, {scan.name}",
                {
                    "ours": partial(in_a_process, run_ours, **given, **place, side=0),
                    "MONAI": partial(in_a_process, run_monai, **monai, **place, side=0),
                    "the loop, extrapolated": partial(in_a_process, run_loop, **monai, **place),
                },
                rounds,
                device,
            )
            labels = Path(folder) / "ours_dseg.nii.gz"
            command = {**given, **place, "labels": labels}
            yield from compare(
                benchmark,
                f"the whole command, {scan.name}",
                {
                    "ours": partial(in_a_process, run_ours_command, **command),
                    "MONAI": partial(whole_process, **monai, **place, side=0),
                },
                rounds,
                device,
            )
            maps = {"ours": labels, "MONAI": Path(folder) / MONAI_LABELS}
            pairs = [("ours to MONAI's", maps["ours"], maps["MONAI"], "tissues")]
            if truth:
                pairs += [(who, path, truth.resolve(), schema) for who, path in maps.items()]
            for who, ours, other, values in pairs:
                arguments = {"labels": ours, "truth": other, "schema": values}
                try:
                    also = in_a_process(measure_dice, aside, **arguments)["also"]
                    yield Row(benchmark, f"Dice, {scan.name}", who, also=also)
                except Failed as error:
                    yield Row(benchmark, f"Dice, {scan.name}", who, skipped=str(error))
        for side in sides:
            yield from compare(
                benchmark,
                f"inference, {side}-cubed",
                {
                    "ours": partial(in_a_process, run_ours, **given, scan="", side=side),
                    "MONAI": partial(in_a_process, run_monai, **monai, scan="", side=side),
                },
                rounds,
                device,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--checkpoint", type=Path, help="a run or a model folder")
    parser.add_argument("--input", type=Path, dest="scan", metavar="INPUT", help="a scan")
    parser.add_argument("--truth", type=Path, help="the scan's label map, for Dice")
    parser.add_argument("--schema", default="tissues", help="of the truth")
    parser.add_argument("--sides", type=int, nargs="+", default=[], help="voxels of a side")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each")
    parser.add_argument("--device", choices=PLATFORMS, default="cpu")
    parser.add_argument("--tiny", action="store_true", help="a tiny network, to try this out")
    arguments = parser.parse_args()
    if not arguments.scan and not arguments.sides:
        parser.error("give --input or --sides")
    print_one("predict", rows("predict", **vars(arguments)))


if __name__ == "__main__":
    main()
