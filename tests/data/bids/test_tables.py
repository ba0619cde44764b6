import pytest

from infant_seg_jax.data.bids import tables
from infant_seg_jax.data.bids.tables import read_sidecar, read_table
from infant_seg_jax.errors import InputError
from tests.input_errors import input_error


@pytest.fixture
def table(tmp_path):
    """Writes a table and gives its path."""

    def write(content: bytes | str):
        path = tmp_path / "t.tsv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_columns_asked_for_are_read_by_name(table):
    path = table("ID\tsex\tAge \n01\tF\t6 \n02\tn/a\tn/a\n")
    assert read_table(path, ("id",), ("age", "height")) == [
        {"id": "01", "age": "6", "height": ""},
        {"id": "02", "age": "", "height": ""},
    ]


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffid\tage\n1\t2\n",  # as spreadsheets write it
        "id\tage\r\n1\t2\r\n",
        "id\tage\r1\t2\r",
        '"id"\t"age"\n"1"\t"2"\n',
        "id\tage\n\n1\t2\n\t\n",
        "id\tage\n1\t2",
    ],
)
def test_the_same_table_in_other_hands(table, content):
    assert read_table(table(content), ("id", "age")) == [{"id": "1", "age": "2"}]


def test_a_stray_quote_swallows_no_lines(table):
    path = table('id\tnote\n1\t"5 feet\n2\tb\n')
    assert [row["id"] for row in read_table(path, ("id",))] == ["1", "2"]


@pytest.mark.parametrize(
    "content, sentence",
    [
        ("", "has no column 'id', found none, expected columns separated by tabs."),
        (
            "id,age\n1,2\n",
            "has no column 'id', found 'id,age', expected columns separated by tabs.",
        ),
        (
            "id\tage\n1\t2\n3\n",
            "has 1 cells in line 3, expected 2 as in the first line, separated by tabs.",
        ),
        (
            "id\tage\n1\t2\t3\n",
            "has 3 cells in line 2, expected 2 as in the first line, separated by tabs.",
        ),
        ("id\n\xe9\n".encode("latin-1"), "is not UTF-8 text: save it as UTF-8."),
        ("id\n1\n".encode("utf-16"), "is not UTF-8 text: save it as UTF-8."),
        (
            "id\n" + "x" * 200_000,
            "is not a readable table (field larger than field limit (131072)).",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_said(table, content, sentence):
    path = table(content)
    with pytest.raises(InputError) as caught:
        read_table(path, ("id",), ("age",))
    assert str(caught.value) == f"{path} {sentence}"


def test_a_table_that_is_not_there(tmp_path):
    with input_error(tmp_path / "t.tsv"):
        read_table(tmp_path / "t.tsv", ())


def test_huge_tables_are_refused(table, monkeypatch):
    monkeypatch.setattr(tables, "MAX_ROWS", 3)
    assert len(read_table(table("id\n1\n2\n3\n"), ("id",))) == 3
    path = table("id\n1\n2\n3\n4\n")
    with input_error(path, "3 rows"):
        read_table(path, ("id",))
    monkeypatch.setattr(tables, "MAX_BYTES", 10)
    with input_error(path, "10 bytes"):
        read_table(path, ("id",))


@pytest.mark.parametrize(
    "content, expected", [('{"a": 1}', {"a": 1}), ("[1]", {}), ("\ufeff{}", {})]
)
def test_a_sidecar_is_a_mapping_or_says_nothing(table, content, expected):
    assert read_sidecar(table(content)) == expected


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, b"\xff\xfe", "9" * 5000])
def test_a_damaged_sidecar_is_an_error(table, content):
    path = table(content)
    with pytest.raises(InputError) as caught:
        read_sidecar(path)
    assert str(path) in str(caught.value)
