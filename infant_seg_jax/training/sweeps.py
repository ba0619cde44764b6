"""Many runs of one config: folds and seeds, and transfer against training from scratch.

Runs that are finished are not trained again, and one that was interrupted goes on, so a sweep that
was stopped goes on when it is started again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infant_seg_jax.config import Config
from infant_seg_jax.data.prepared import open_prepared
from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.runs import evaluate_run
from infant_seg_jax.evaluation.score_files import write_dice
from infant_seg_jax.evaluation.score_table import MEAN, ScoreTable, dice_table
from infant_seg_jax.metrics.paired import PairedDifference, paired_difference
from infant_seg_jax.progress import log_always
from infant_seg_jax.training.loop import train_and_evaluate

ENCODER = ("params/stem", "params/block", "params/transition")
"""What comes before the upsampling: what an adult network may have to teach."""

SCRATCH, WHOLE, HEAD_ONLY = "scratch", "fine_tuned", "frozen_encoder"


def train_folds(config: Config, workdir: Path, seeds: int = 1) -> ScoreTable:
    """Train every fold of the config's prepared set, with `seeds` seeds each; gather their scores.

    Each subject is scored by the networks that did not train on it, at the end of their runs: the
    best checkpoint would have been chosen by these very subjects. With several seeds a subject's
    Dice is the mean over them. `scores/` holds the table.

    Raises:
        InputError: as `train_and_evaluate`.
    """
    tables = []
    for fold in range(len(open_prepared(Path(config.data.path)).folds)):
        for seed in range(seeds):
            one = config.copy_and_resolve_references()
            one.data.fold, one.seed = fold, config.seed + seed
            name = f"fold{fold}_seed{one.seed}"
            tables.append(_train_and_score(one, workdir / name, "validation"))
    table = _mean_of(tables)
    write_dice(workdir / "scores", table)
    return table


@dataclass(frozen=True)
class TransferResult:
    """What transfer brought with so many training subjects.

    Attributes:
        train_subjects: how many; 0 for all.
        tables: Dice on the test subjects by arm, each the mean over seeds.
        differences: each other arm against from scratch, by the subjects' mean Dice.
    """

    train_subjects: int
    tables: dict[str, ScoreTable]
    differences: dict[str, PairedDifference]


def compare_transfer(
    config: Config,
    workdir: Path,
    counts: Sequence[int] = (0,),
    seeds: int = 1,
    starts: Mapping[str, str] | None = None,
) -> tuple[TransferResult, ...]:
    """Train from scratch, fine-tuned whole, and with the encoder frozen, on the same subjects.

    With `starts`, instead: from scratch, and fine-tuned whole from each of them.

    The arms share the split, the seeds, the patches and the number of steps; only `config.init`
    differs. Each is scored on the set's test subjects at the end of its run.

    Args:
        config: `config.init.checkpoint` names the run to start from, if `starts` do not.
        workdir: a run folder for each arm, count and seed is made in it.
        counts: with the first so many training subjects; 0: all.
        seeds: how many.
        starts: runs or model folders to start from, by the name of the arm.

    Raises:
        InputError: no checkpoint is named, a name of `starts` is taken, or as `train_and_evaluate`.
    """
    if not starts and not config.init.checkpoint:
        raise InputError(
            "config.init.checkpoint is empty, expected the run whose weights to compare with "
            "training from scratch."
        )
    if taken := {SCRATCH, HEAD_ONLY} & set(starts or ()):
        raise InputError(
            f"A network to start from is called '{taken.pop()}', expected another name, because "
            "that one is reserved."
        )
    checkpoints = starts or {arm: config.init.checkpoint for arm in (WHOLE, HEAD_ONLY)}
    results = []
    for count in counts:
        tables = {}
        for arm, checkpoint in {SCRATCH: "", **checkpoints}.items():
            found = []
            for seed in range(seeds):
                one = _arm(config, checkpoint, frozen=arm == HEAD_ONLY)
                one.data.train_subjects, one.seed = count, config.seed + seed
                name = f"{arm}_{count or 'all'}_seed{one.seed}"
                found.append(_train_and_score(one, workdir / name, "test"))
            tables[arm] = _mean_of(found)
            write_dice(workdir / "scores" / f"{arm}_{count or 'all'}", tables[arm])
        means = {arm: table.of("dice", MEAN) for arm, table in tables.items()}
        differences = {arm: paired_difference(means[arm], means[SCRATCH]) for arm in checkpoints}
        results.append(TransferResult(count, tables, differences))
    return tuple(results)


def _arm(config: Config, checkpoint: str, frozen: bool) -> Config:
    one = config.copy_and_resolve_references()
    one.init.checkpoint = checkpoint
    if not checkpoint:
        one.init.freeze = one.init.multipliers = one.init.reinitialise = ()
    if frozen:
        one.init.freeze = ENCODER
        one.init.batch_norm = "freeze"  # or the frozen layers' outputs would drift
    return one


def _train_and_score(config: Config, run: Path, split: str) -> ScoreTable:
    log_always(f"Run {run.name}:")
    train_and_evaluate(config, run)
    return evaluate_run(run, Path(config.data.path), split, config.data.fold, which="latest")


def _mean_of(tables: Sequence[ScoreTable]) -> ScoreTable:
    """Each subject's Dice, the mean over the tables that have it."""
    found: dict[str, list[Mapping[str, Mapping[str, float]]]] = {}
    for table in tables:
        for subject, tissues in table.subjects.items():
            found.setdefault(subject, []).append(tissues)
    means = {
        subject: {
            tissue: float(np.mean([one[tissue]["dice"] for one in rows])) for tissue in rows[0]
        }
        for subject, rows in found.items()
    }
    return dice_table(means, tables[0].classes)
