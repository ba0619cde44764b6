"""Scores that `evaluate` wrote, and those of folds and sweeps, which have Dice alone."""

import csv
import math
from pathlib import Path

from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.score_files import CSV_NAME, classes_beside, read_scores
from infant_seg_jax.evaluation.score_table import ScoreTable

DICE_NAME = "dice.csv"
_MAX_BYTES = 2**26


def has_scores(folder: Path) -> bool:
    """Whether there is a table of scores in this folder."""
    return (folder / CSV_NAME).is_file() or (folder / DICE_NAME).is_file()


def read_table(folder: Path) -> ScoreTable:
    """All that `evaluate` measured, or else the Dice of each subject.

    Raises:
        InputError: the table cannot be read.
    """
    if (folder / CSV_NAME).is_file():
        return read_scores(folder)
    path = folder / DICE_NAME
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file.read(_MAX_BYTES).splitlines())
            rows = list(reader)
        classes = classes_beside(path, set(reader.fieldnames or ()) - {"subject", "mean"})
        subjects = {
            row["subject"]: {
                name: {"dice": float(row[name] or "nan")} for name in classes.foreground
            }
            for row in rows
        }
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path} is no table of Dice as the trainings write it ({error!r}): train again."
        ) from error
    return ScoreTable(subjects, math.nan, classes)
