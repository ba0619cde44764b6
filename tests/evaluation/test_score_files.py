"""The files of a score table as others read them, and what may be wrong with them."""

import csv
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infant_seg_jax.data.class_sets import DRAWEM9_CLASSES
from infant_seg_jax.data.labels import TISSUE_CLASSES, TISSUES, ClassSet
from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.score_files import read_scores, to_json, write_scores
from infant_seg_jax.evaluation.score_table import ScoreTable
from infant_seg_jax.metrics.measures import METRICS
from tests.input_errors import input_error

VALUES = st.one_of(
    st.floats(0, 1e4).map(lambda value: float(f"{value:.7g}")),
    st.just(math.nan),
    st.just(math.inf),
)
TABLES = st.dictionaries(
    st.text("abc09-_,\"' äπ", min_size=1).filter(lambda name: name == name.strip()),
    st.fixed_dictionaries(
        {tissue: st.fixed_dictionaries({name: VALUES for name in METRICS}) for tissue in TISSUES}
    ),
    min_size=1,
    max_size=4,
)
ONE = {
    "sub-01": {tissue: dict.fromkeys(METRICS, 0.5) for tissue in TISSUES},
    "sub,02": {tissue: dict.fromkeys(METRICS, math.nan) for tissue in TISSUES},
}


def no_constants(name):
    raise AssertionError(f"{name} is no JSON")


def loaded(folder):
    text = (folder / "metrics.json").read_text(encoding="utf-8")
    return json.loads(text, parse_constant=no_constants)


@given(subjects=TABLES, tolerance=st.sampled_from([0.5, 1.0, 2.0]))
def test_read_again_is_the_table(tmp_path_factory, subjects, tolerance):
    folder = tmp_path_factory.mktemp("scores")
    write_scores(folder, ScoreTable(subjects, tolerance), {})
    for path in (folder, folder / "metrics.csv"):
        found = read_scores(path)
        assert found.tolerance == tolerance and list(found.subjects) == list(subjects)
        for subject, tissues in subjects.items():
            for tissue in TISSUES:
                values = found.subjects[subject][tissue]
                assert values == pytest.approx(tissues[tissue], rel=1e-6, nan_ok=True)


def test_csv_has_a_row_for_each_subject_and_tissue(tmp_path):
    write_scores(tmp_path, ScoreTable(ONE, 2.0), {})
    with (tmp_path / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == ("subject", "tissue", *METRICS, "tolerance_mm")
    assert [(row["subject"], row["tissue"]) for row in rows] == [
        (subject, tissue) for subject in ONE for tissue in TISSUES
    ]
    assert rows[0]["dice"] == "0.5" and rows[3]["dice"] == ""
    assert {row["tolerance_mm"] for row in rows} == {"2.0"}


def test_json_has_what_it_is_about_and_the_summary(tmp_path):
    write_scores(tmp_path, ScoreTable(ONE, 2.0), {"prediction": "there", "failures": {"x": "Bad."}})
    content = loaded(tmp_path)
    assert content["prediction"] == "there" and content["failures"] == {"x": "Bad."}
    assert content["tolerance_mm"] == 2.0
    assert content["metrics"]["assd_mm"] == {"unit": "mm", "higher_is_better": False}
    assert content["subjects"]["sub-01"]["GM"]["dice"] == 0.5
    assert content["subjects"]["sub,02"]["GM"]["dice"] is None
    assert content["summary"]["dice"]["mean"] == {
        **{"subjects": 1, "mean": 0.5},
        **dict.fromkeys(("sd", "low", "high")),
    }


def test_what_json_has_no_numbers_for():
    content = {"a": (math.nan, math.inf, [-math.inf, 3, True, "x", None]), "b": {"c": 1.23456789}}
    expected = {"a": [None, "inf", ["-inf", 3, True, "x", None]], "b": {"c": 1.234568}}
    assert to_json(content) == expected


def test_reads_other_tables_of_that_shape(tmp_path):
    """Columns in any order, further ones, a tissue that is missing, a byte order mark."""
    path = tmp_path / "theirs.csv"
    path.write_text("\ufefftissue,age,hausdorff_mm,subject\nGM,6,inf,a\nCSF,6,,a\n\nGM,7,2.5,b\n")
    found = read_scores(path)
    assert found.metrics == ("hausdorff_mm",) and math.isnan(found.tolerance)
    assert found.of("hausdorff_mm", "GM") == {"a": math.inf, "b": 2.5}
    assert math.isnan(found.subjects["b"]["WM"]["hausdorff_mm"])


HEAD = "subject,tissue,dice,tolerance_mm\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "metrics.csv is empty, expected a table of scores."),
        (b"\xff\xfe\x00", "metrics.csv is not UTF-8 text"),
        (b'subject,tissue,dice\n"' + b"x" * 200_000, "metrics.csv is not a CSV file"),
        (b"subject,CSF,GM,WM\na,1,1,1\n", "has the columns subject, CSF, GM, WM, expected subject"),
        (b"subject,tissue,other\na,GM,1\n", "expected subject, tissue and some of dice, jaccard"),
        (HEAD + "a,GM,often,1\n", "row 2, dice has 'often', expected a number."),
        (HEAD + "a,GM,1,1\na,bone,1,1\n", "row 3 has the subject 'a' and the tissue 'bone'"),
        (HEAD + "a,GM,1,1\na,GM,1,1\n", "row 3 has the subject 'a' and the tissue 'GM'"),
        (HEAD + ",GM,1,1\n", "row 2 has the subject '' and the tissue 'GM', expected each"),
        (HEAD + "a\n", "row 2 has the subject 'a' and the tissue ''"),
        (HEAD + "a,GM,1,1\nb,GM,1,2\n", "has the tolerances 1, 2 mm, expected one for all rows."),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path: Path, content: bytes | str, sentence: str):
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "metrics.csv").write_bytes(raw)
    with pytest.raises(InputError) as error:
        read_scores(tmp_path)
    assert sentence in str(error.value) and str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_huge_files_are_refused(tmp_path, monkeypatch):
    with input_error(tmp_path / "metrics.csv"):
        read_scores(tmp_path)
    (tmp_path / "metrics.csv").write_text(HEAD)
    monkeypatch.setattr("infant_seg_jax.evaluation.score_files._MAX_BYTES", 10)
    with input_error(tmp_path / "metrics.csv"):
        read_scores(tmp_path)


def test_table_without_a_row_has_nobody(tmp_path):
    (tmp_path / "metrics.csv").write_text(HEAD)
    assert read_scores(tmp_path).subjects == {}


def test_finer_classes_come_back_and_are_said_in_the_json(tmp_path):
    own = ClassSet("own", (*TISSUE_CLASSES.classes[:1], *DRAWEM9_CLASSES.classes[4:]))
    for number, classes in enumerate((DRAWEM9_CLASSES, own, TISSUE_CLASSES)):
        folder = tmp_path / str(number)
        values = {name: dict.fromkeys(METRICS, 0.5) for name in classes.foreground}
        write_scores(folder, ScoreTable({"a": values}, 1.0, classes), {})
        found = read_scores(folder)
        assert found.classes == classes and found.rows == (*classes.foreground, "mean")
        assert found.subjects == {"a": values}
        assert ("classes" in loaded(folder)) == (classes != TISSUE_CLASSES)
    # Without the JSON, names tell as far as they are those of a set with a name.
    for number in (0, 1):
        (tmp_path / str(number) / "metrics.json").write_text("{")
    assert read_scores(tmp_path / "0").classes == DRAWEM9_CLASSES
    (tmp_path / "1" / "metrics.csv").write_text("subject,tissue,dice\na,VENT,1\na,bone,1\n")
    with input_error("'VENT'", "CSF, GM"):
        read_scores(tmp_path / "1")
