"""What transfer brought: as words, as JSON and as a picture."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import cycle
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from infant_seg_jax.evaluation.score_table import MEAN
from infant_seg_jax.files import atomic_path, write_json
from infant_seg_jax.report.drawing.charts import SERIES_COLORS
from infant_seg_jax.training.sweeps import HEAD_ONLY, SCRATCH, WHOLE, TransferResult

_NAMES = {SCRATCH: "from scratch", WHOLE: "fine-tuned", HEAD_ONLY: "encoder frozen"}


def describe(results: Sequence[TransferResult]) -> str:
    """A table of mean Dice by arm, with the paired differences from scratch below."""
    columns = next(iter(results[0].tables.values())).rows
    lines = ["  ".join([f"{'subjects':8}", f"{'start':14}", *(f"{name:>6}" for name in columns)])]
    for result in results:
        for arm, table in result.tables.items():
            row = [table.summary["dice"][name].mean for name in columns]
            values = (f"{value:6.3f}" for value in row)
            lines.append("  ".join([f"{_count(result):8}", f"{_name(arm):14}", *values]))
    for result in results:
        for arm, difference in result.differences.items():
            lines.append(f"{_count(result)} subjects, {_name(arm)} - from scratch: {difference}")
    return "\n".join(lines)


def write_transfer(path: Path, results: Sequence[TransferResult]) -> None:
    """Write all of it as JSON; NaN is null."""
    write_json(
        path,
        [
            {
                "train_subjects": result.train_subjects or "all",
                "dice": {
                    arm: {row: _number(found.mean) for row, found in table.summary["dice"].items()}
                    for arm, table in result.tables.items()
                },
                "subjects": {
                    arm: {s: [_number(v) for v in row] for s, row in table.by_subject("dice")}
                    for arm, table in result.tables.items()
                },
                "minus_scratch": {
                    arm: {key: _number(value) for key, value in asdict(difference).items()}
                    for arm, difference in result.differences.items()
                },
            }
            for result in results
        ],
    )


def draw_transfer(path: Path, results: Sequence[TransferResult]) -> None:
    """Mean Dice of each arm against the number of training subjects, every test subject a dot."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    places = np.arange(len(results))
    arms = list(results[0].tables)
    for offset, (arm, color) in enumerate(zip(arms, cycle(SERIES_COLORS), strict=False)):
        at = places + (offset - (len(arms) - 1) / 2) * 0.12
        means = [result.tables[arm].summary["dice"][MEAN].mean for result in results]
        axes.plot(at, means, "o-", color=color, label=_name(arm))
        for place, result in zip(at, results, strict=True):
            dots = list(result.tables[arm].of("dice", MEAN).values())
            axes.plot([place] * len(dots), dots, ".", color=color, alpha=0.35)
    axes.set_xticks(places, [_count(result) for result in results])
    axes.set_xlabel("training subjects")
    axes.set_ylabel("mean Dice of the test subjects")
    figure.legend(loc="outside upper center", ncols=len(arms), frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)


def _name(arm: str) -> str:
    return _NAMES.get(arm, f"from {arm}")


def _count(result: TransferResult) -> str:
    return str(result.train_subjects or "all")


def _number(value: float | int) -> float | int | None:
    return None if np.isnan(value) else round(value, 6)
