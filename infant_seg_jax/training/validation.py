"""Dice on whole volumes during training, through the same code as `predict`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from infant_seg_jax.data.prepared import PreparedCase
from infant_seg_jax.evaluation.runs import score_cases
from infant_seg_jax.evaluation.score_table import MEAN, ScoreTable, dice_table
from infant_seg_jax.prediction.predictor import Predictor
from infant_seg_jax.store.state import TrainState
from infant_seg_jax.training.parallel import local_value


@dataclass(frozen=True)
class Scores:
    """What a validation found.

    Attributes:
        metrics: Dice by tissue and their mean, of the raw weights and, as `averaged_...`, of their
            moving average; `score` is the one that chooses the best checkpoint. Empty where there
            is nothing to validate on.
    """

    metrics: dict[str, float]

    @property
    def chosen(self) -> float:
        """The mean Dice that chooses the best checkpoint: the average's where there is one."""
        return self.metrics.get("score", math.nan)

    def __str__(self) -> str:
        dice = {
            key.removeprefix("dice_"): value
            for key, value in self.metrics.items()
            if key.startswith("dice_")
        }
        tissues = ", ".join(f"{name} {value:.3f}" for name, value in dice.items())
        averaged = self.metrics.get("averaged_mean_dice")
        more = "" if averaged is None else f"; with averaged weights {averaged:.3f}"
        return f"validation Dice {self.metrics['mean_dice']:.3f} ({tissues}){more}"


def validate(
    cases: Sequence[PreparedCase],
    state: TrainState,
    to_predictor: Callable[[dict[str, Any]], Predictor],
) -> Scores:
    """Predict each case and measure it; processes that train together share the cases."""
    if not cases:
        return Scores({})
    metrics: dict[str, float] = {}
    found = {"": state.variables} | ({} if state.average is None else {"averaged_": state.average})
    for prefix, variables in found.items():
        on_one = jax.device_put(jax.tree.map(local_value, variables), jax.local_devices()[0])
        table = _score(cases, to_predictor(on_one))
        dice = {row: found.mean for row, found in table.summary["dice"].items()}
        metrics |= {f"{prefix}dice_{tissue}": dice[tissue] for tissue in table.classes.foreground}
        metrics |= {f"{prefix}mean_dice": dice[MEAN], "score": dice[MEAN]}
    return Scores(metrics)


def _score(cases: Sequence[PreparedCase], predictor: Predictor) -> ScoreTable:
    processes = jax.process_count()
    if processes == 1:
        return score_cases(predictor, cases)
    mine = cases[jax.process_index() :: processes]
    classes = predictor.expects.classes
    tissues = classes.foreground
    rows = np.full((math.ceil(len(cases) / processes), len(tissues)), np.nan)
    for row, scores in enumerate(score_cases(predictor, mine).subjects.values()):
        rows[row] = [scores[tissue]["dice"] for tissue in tissues]
    gathered = multihost_utils.process_allgather(rows)
    scores = {}
    for index, case in enumerate(cases):
        row = gathered[index % processes, index // processes]
        scores[case.case_id] = dict(zip(tissues, map(float, row), strict=True))
    return dice_table(scores, classes)
