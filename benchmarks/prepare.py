"""Time and memory of `infant-seg prepare` on a dataset, against a plain loop over its files.

The peer does, one case after the other, the least that any tool must: nibabel reads the scan and
the label map as canonical floats, NumPy crops to what is not 0 and normalizes, and both are saved.

    python benchmarks/prepare.py --source=ibsr --input=IBSR [--labeled] > prepare.json

Prints JSON, and a table beside it on standard error.
"""

import argparse
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from measuring import Found, Row, compare, in_a_process, least
from table import print_one


def run_ours(source: str, data: str, labeled: bool) -> Found:
    from infant_seg_jax.data.preparing import prepare

    dataset = _open(source, data, labeled)
    with tempfile.TemporaryDirectory() as folder:
        _, found = least(lambda: prepare(dataset, Path(folder) / "set"))
    found["also"]["cases"] = len(dataset.cases)
    return found


def run_loop(source: str, data: str, labeled: bool) -> Found:
    dataset = _open(source, data, labeled)
    with tempfile.TemporaryDirectory() as folder:
        _, found = least(lambda: _prepare_plainly(dataset, Path(folder)))
    return found


def _prepare_plainly(dataset: Any, output: Path) -> None:
    """Read, crop, normalize and save each case in turn."""
    import nibabel as nib
    import numpy as np

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


def _open(source: str, data: str, labeled: bool) -> Any:
    from dataclasses import replace

    from infant_seg_jax.data.sources import SOURCES

    dataset = SOURCES[source].open(Path(data))
    if labeled:
        dataset = replace(dataset, cases=tuple(case for case in dataset.cases if case.labels))
    return dataset


def rows(
    benchmark: str, *, source: str, data: Path, labeled: bool = False, rounds: int = 2
) -> Iterator[Row]:
    """What preparing a dataset takes.

    Args:
        benchmark: what the rows are of.
        source: of the data, as `infant-seg prepare` names it.
        data: the dataset's folder.
        labeled: whether only the cases with labels are prepared.
        rounds: turns of each.
    """
    given = {"source": source, "data": data.resolve(), "labeled": labeled}
    ways = {
        "ours": partial(in_a_process, run_ours, **given),
        "a plain loop": partial(in_a_process, run_loop, **given),
    }
    yield from compare(benchmark, f"preparing, {source}", ways, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--source", default="ibsr", help="as of infant-seg prepare")
    parser.add_argument("--input", type=Path, dest="data", metavar="INPUT", required=True)
    parser.add_argument("--labeled", action="store_true", help="only the cases with labels")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each")
    print_one("prepare", rows("prepare", **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
