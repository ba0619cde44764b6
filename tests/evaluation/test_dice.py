"""A table of Dice alone: in words, and its files as others read them."""

import csv
import json
import math
import statistics

import pytest

from infant_seg_jax.evaluation.score_files import read_table, write_dice
from infant_seg_jax.evaluation.score_table import dice_in_words, dice_table

SCORES = {
    "sub-01": {"CSF": 0.8, "GM": 0.9, "WM": 1 / 3},
    "sub,02": {"CSF": 0.5, "GM": 0.25, "WM": math.nan},
    'sub "03"': {"WM": 0.75, "GM": 0.125, "CSF": 0.0},
}
EXPECTED_ROWS = {
    "sub-01": [0.8, 0.9, 1 / 3, (0.8 + 0.9 + 1 / 3) / 3],
    "sub,02": [0.5, 0.25, math.nan, 0.375],
    'sub "03"': [0.0, 0.125, 0.75, 0.875 / 3],
}
COLUMNS = ("CSF", "GM", "WM", "mean")


def no_constants(name):
    raise AssertionError(f"{name} is no JSON")


def written(folder, table):
    """Both files as a strict reader finds them."""
    write_dice(folder, table)
    with (folder / "dice.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    text = (folder / "dice.json").read_text(encoding="utf-8")
    return rows, json.loads(text, parse_constant=no_constants)


def known(column):
    index = COLUMNS.index(column)
    return [row[index] for row in EXPECTED_ROWS.values() if not math.isnan(row[index])]


def test_rows_hold_each_tissue_and_the_mean_of_those_there_are():
    assert dice_table(SCORES).rows == COLUMNS
    rows = dice_table(SCORES).by_subject("dice")
    assert [subject for subject, _ in rows] == list(SCORES)
    for subject, row in rows:
        assert row == pytest.approx(EXPECTED_ROWS[subject], nan_ok=True)


def test_summary_equals_the_statistics_of_the_known():
    summary = dice_table(SCORES).summary["dice"]
    assert tuple(summary) == COLUMNS
    assert len(known("WM")) == 2
    for column in COLUMNS:
        expected = statistics.mean(known(column)), statistics.stdev(known(column))
        assert (summary[column].mean, summary[column].sd) == pytest.approx(expected)


def test_one_subject_has_no_deviation_and_an_absent_tissue_no_mean():
    table = dice_table({"a": {"CSF": 0.5, "GM": 0.7, "WM": math.nan}})
    summary = table.summary["dice"]
    assert summary["CSF"].mean == 0.5 and math.isnan(summary["CSF"].sd)
    assert math.isnan(summary["WM"].mean) and math.isnan(summary["WM"].sd)
    assert summary["mean"].mean == pytest.approx(0.6)


def test_csv_read_again_is_the_table(tmp_path):
    (header, *rows), _ = written(tmp_path, dice_table(SCORES))
    assert header == ["subject", *COLUMNS]
    assert [row[0] for row in rows] == list(SCORES)
    for subject, *cells in rows:
        values = [float(cell) if cell else math.nan for cell in cells]
        assert values == pytest.approx(EXPECTED_ROWS[subject], abs=1e-6, nan_ok=True)
    assert rows[1][3] == ""
    for subject, tissues in read_table(tmp_path).subjects.items():
        for tissue, value in SCORES[subject].items():
            assert tissues[tissue]["dice"] == pytest.approx(value, abs=1e-6, nan_ok=True)


def test_json_read_again_is_the_table(tmp_path):
    table = dice_table(SCORES)
    _, content = written(tmp_path, table)
    assert set(content) == {"subjects", "mean", "sd"}
    assert list(content["subjects"]) == list(SCORES)
    for subject, row in EXPECTED_ROWS.items():
        found = content["subjects"][subject]
        assert tuple(found) == COLUMNS
        values = [math.nan if value is None else value for value in found.values()]
        assert values == pytest.approx(row, abs=1e-6, nan_ok=True)
    for key in ("mean", "sd"):
        summary = table.summary["dice"].items()
        expected = {column: getattr(found, key) for column, found in summary}
        assert content[key] == pytest.approx(expected, abs=1e-6)


def test_what_is_not_a_number_is_empty_and_null(tmp_path):
    nothing = {"CSF": math.nan, "GM": math.nan, "WM": math.nan}
    (_, row), content = written(tmp_path, dice_table({"a": nothing}))
    assert row == ["a", "", "", "", ""]
    assert content["subjects"]["a"] == dict.fromkeys(COLUMNS)
    assert content["mean"] == content["sd"] == dict.fromkeys(COLUMNS)


def test_table_in_words_lines_up():
    lines = dice_in_words(dice_table(SCORES)).splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == ["subject", *SCORES, "mean", "sd"]
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["subject", *COLUMNS]
    assert lines[1].split() == ["sub-01", "0.800", "0.900", "0.333", "0.678"]
    assert lines[2].split() == ["sub,02", "0.500", "0.250", "nan", "0.375"]
    means = [statistics.mean(known(column)) for column in COLUMNS]
    assert lines[-2].split() == ["mean", *(f"{mean:.3f}" for mean in means)]


def test_table_of_nobody_is_empty(tmp_path):
    table = dice_table({})
    assert tuple(table.summary["dice"]) == COLUMNS
    assert all(math.isnan(found.mean) for found in table.summary["dice"].values())
    assert [line.split()[0] for line in dice_in_words(table).splitlines()] == [
        "subject",
        "mean",
        "sd",
    ]
    rows, content = written(tmp_path, table)
    assert rows == [["subject", *COLUMNS]]
    assert content["subjects"] == {} and content["mean"] == dict.fromkeys(COLUMNS)
