import json
from pathlib import Path

import numpy as np
import pytest

from infant_seg_jax.data.labels import (
    BACKGROUND,
    CSF,
    GM,
    IGNORE,
    WM,
    LabelSchema,
    class_of_name,
    count_classes,
)
from infant_seg_jax.data.schemas import (
    ANATOMY_SCHEMAS,
    DRAWEM9_CORE_SCHEMA,
    DRAWEM9_SCHEMA,
    DRAWEM87_SCHEMA,
    FREESURFER_SCHEMA,
    IBSR_SCHEMA,
    ISEG_SCHEMA,
    SCHEMAS,
    SYNTHSEG_SCHEMA,
    TISSUE_SCHEMA,
    find_schema,
    parse_changes,
    schema_of_names,
)
from infant_seg_jax.data.volumes import read_label_map
from infant_seg_jax.errors import InputError

DRAWEM9 = (
    *("outside", "CSF", "cortical GM", "WM", "background", "ventricles", "cerebellum"),
    *("deep GM", "brainstem", "hippocampus and amygdala"),
)
# Which of the 87 regions make up each of the nine tissues (ALL_LABELS_TO_TISSUE_LABELS in DrawEM).
REGIONS = {
    1: [83],
    2: [*range(5, 17), *range(20, 40)],
    3: [48, *range(51, 83)],
    4: [84],
    5: [49, 50],
    6: [17, 18],
    7: [*range(40, 48), 85, 86, 87],
    8: [19],
    9: [1, 2, 3, 4],
}
# FreeSurferColorLUT.txt: left and right ids, or one; what each is; what it is to us.
ASEG = """
0      Unknown                    background
2 41   Cerebral-White-Matter      WM
3 42   Cerebral-Cortex            GM
4 43   Lateral-Ventricle          CSF
5 44   Inf-Lat-Vent               CSF
7 46   Cerebellum-White-Matter    WM
8 47   Cerebellum-Cortex          GM
9 48   Thalamus                   GM
10 49  Thalamus-Proper            GM
11 50  Caudate                    GM
12 51  Putamen                    GM
13 52  Pallidum                   GM
14     3rd-Ventricle              CSF
15     4th-Ventricle              CSF
16     Brain-Stem                 WM
17 53  Hippocampus                GM
18 54  Amygdala                   GM
24     CSF                        CSF
26 58  Accumbens-area             GM
27 59  Substancia-Nigra           GM
28 60  VentralDC                  ignore
30 62  vessel                     ignore
31 63  choroid-plexus             CSF
72     5th-Ventricle              CSF
77     WM-hypointensities         WM
78 79  WM-hypointensities         WM
80     non-WM-hypointensities     ignore
81 82  non-WM-hypointensities     ignore
85     Optic-Chiasm               WM
172    Vermis                     GM
173    Midbrain                   WM
174    Pons                       WM
175    Medulla                    WM
251    CC_Posterior               WM
252    CC_Mid_Posterior           WM
253    CC_Central                 WM
254    CC_Mid_Anterior            WM
255    CC_Anterior                WM
"""
# What the head around SynthSeg's brains is labeled with, by SimNIBS's charm.
CHARM = {
    **{501: "air", 502: "artery", 506: "eyes", 507: "other tissue", 508: "rectus muscles"},
    **{509: "mucosa", 511: "skin", 512: "spinal cord", 514: "vein", 515: "cortical bone"},
    **{516: "cancellous bone", 517: "background", 530: "optic nerve"},
}


def error_of(function, *args) -> str:
    with pytest.raises(InputError) as caught:
        function(*args)
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message
    return message


def write(path: Path, content: str) -> str:
    path.write_text(content, encoding="utf-8")
    return str(path)


def test_named_schemas_are_found_by_name():
    assert list(SCHEMAS) == [
        *("tissues", "ibsr", "iseg", "drawem9", "drawem9-core", "drawem87", "freesurfer"),
        "synthseg",
    ]
    for name, schema in SCHEMAS.items():
        assert find_schema(name) is schema and schema.name == name
        assert set(schema.table.values()) <= {BACKGROUND, CSF, GM, WM, IGNORE}


def test_tissues_ibsr_and_iseg():
    assert TISSUE_SCHEMA.table == IBSR_SCHEMA.table == {0: 0, 1: CSF, 2: GM, 3: WM}
    assert ISEG_SCHEMA.table == {0: BACKGROUND, 10: CSF, 150: GM, 250: WM}
    classes = np.array([[[0, 1, 2, 3]]], np.uint8)
    written = ISEG_SCHEMA.to_ids(classes)
    assert written.dtype == np.uint8 and written.tolist() == [[[0, 10, 150, 250]]]


def test_the_nine_tissues_of_drawem():
    def meaning(tissue):
        known = {
            **{"outside": "background", "cerebellum": "ignore", "brainstem": "ignore"},
            "hippocampus and amygdala": "GM",
        }
        return class_of_name(known[tissue] if tissue in known else tissue)

    assert DRAWEM9_SCHEMA.table == {i: meaning(tissue) for i, tissue in enumerate(DRAWEM9)}
    kept = ("CSF", "cortical GM", "WM", "deep GM")
    assert DRAWEM9_CORE_SCHEMA.table == {
        i: meaning(tissue) if tissue in kept else BACKGROUND for i, tissue in enumerate(DRAWEM9)
    }
    settable = DRAWEM9_SCHEMA.changed(parse_changes("6:GM,8:WM"))
    assert settable.table == {**DRAWEM9_SCHEMA.table, 6: GM, 8: WM}


def test_the_87_regions_of_drawem_mean_what_their_tissues_do():
    expected = {0: BACKGROUND}
    for tissue, regions in REGIONS.items():
        expected |= dict.fromkeys(regions, DRAWEM9_SCHEMA.table[tissue])
    assert sorted(expected) == list(range(88))
    assert DRAWEM87_SCHEMA.table == expected


def test_freesurfer_s_structures():
    expected = {}
    for line in ASEG.split("\n")[1:-1]:
        *ids, _, meaning = line.split()
        assert not set(map(int, ids)) & set(expected)
        expected |= dict.fromkeys(map(int, ids), class_of_name(meaning))
    parcels = [hemisphere + parcel for hemisphere in (1000, 2000) for parcel in range(36)]
    assert FREESURFER_SCHEMA.table == expected | dict.fromkeys(parcels, GM)


def test_synthseg_s_heads():
    further = dict(SYNTHSEG_SCHEMA.table.items() - FREESURFER_SCHEMA.table.items())
    assert further == {
        **dict.fromkeys(CHARM, BACKGROUND),
        **dict.fromkeys((25, 57), IGNORE),  # lesions
        520: CSF,
        # Left and right choroid plexus, learned as the ventricle that each lies in.
        **{136: FREESURFER_SCHEMA.table[4], 137: FREESURFER_SCHEMA.table[5]},
        **{163: FREESURFER_SCHEMA.table[43], 164: FREESURFER_SCHEMA.table[44]},
    }
    assert FREESURFER_SCHEMA.table.items() <= SYNTHSEG_SCHEMA.table.items()


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("own.yaml", "0: background\n7: Gray Matter\n-1: ignore\n", "own"),
        ("own.yml", "# ours\nname: ours\ntable:\n  0: bg\n  7: cgm\n  -1: ignore\n", "ours"),
        ("own.json", '{"0": "background", "7": "GM", "-1": "ignore"}', "own"),
        ("own.JSON", '{"name": "x y", "table": {"0": "bg", "7": "gm", "-1": "ignore"}}', "x y"),
        ("tabs.json", '{\n\t"0": "background",\n\t"7": "GM", "-1": "ignore"\n}', "tabs"),
        ("flow.txt", "{0: background, '7': GM, -1: ignore}", "flow"),
        ("odd.yaml", "name: [1]\ntable: {0: none, 7: cortex, -1: Ignore}", "odd"),
    ],
)
def test_schemas_from_files(tmp_path, name, content, expected):
    schema = find_schema(write(tmp_path / name, content))
    assert schema == LabelSchema(expected, {0: BACKGROUND, 7: GM, -1: IGNORE})


def test_a_file_may_not_run_code(tmp_path):
    proof = tmp_path / "ran"
    for tag in (
        f"!!python/object/apply:os.mkdir ['{proof}']",
        f"!!python/object/new:os.mkdir ['{proof}']",
        "!!python/name:os.system",
    ):
        for content in (f"0: {tag}", f"table: {tag}", f"? {tag}\n: GM"):
            message = error_of(find_schema, write(tmp_path / "bad.yaml", content))
            assert message.startswith(
                f"{tmp_path / 'bad.yaml'} is not a label schema (could not det"
            )
            assert not proof.exists()


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("a.yaml", "", "contains no table, expected lines such as '7: GM'."),
        ("a.yaml", "- 0\n- 1\n", "contains no table, expected lines such as '7: GM'."),
        ("a.json", "[]", "contains no table, expected lines such as '7: GM'."),
        ("a.yaml", "{}", "has no table, expected lines such as '7: GM' below 'table:'."),
        ("a.yaml", "table: 7", "has no table, expected lines such as '7: GM' below 'table:'."),
        ("a.yaml", "table: {}", "has no table, expected lines such as '7: GM' below 'table:'."),
        *(
            (
                "a.yaml",
                f"{key}: GM",
                f"has the label id '{shown}', expected a whole number of at most 2147483647.",
            )
            for key, shown in (
                *(("cortex", "cortex"), ("1.5", "1.5"), ("yes", "True"), ("~", "None")),
                *((2**31, 2**31), (-(2**31), -(2**31)), ("2024-01-01", "date")),
                ("a" * 99, "a" * 50),
            )
        ),
        *(
            (
                "a.yaml",
                f"7: {value}",
                f"says that 7 is '{shown}', expected background, CSF, GM, WM or ignore (or a name "
                "for one).",
            )
            for value, shown in (
                *(("brainstem", "brainstem"), ("2", "2"), ("", "None"), ("no", "False")),
                *(("[GM]", "list"), ("{0: 1}", "dict"), ("b" * 99, "b" * 50)),
                ('"two\\nlines"', "two lines"),
            )
        ),
        ("a.yaml", "7: GM\n'7': WM", "gives the label id 7 twice, expected one class each."),
        (
            "a.json",
            '{"7": "GM", "07": "WM"}',
            "gives the label id 7 twice, expected one class each.",
        ),
        *(
            (
                name,
                content,
                "is not a label schema (7 is given twice), expected YAML or JSON with lines such "
                "as '7: GM'.",
            )
            for name, content in (
                ("a.yaml", "7: GM\n7: WM"),
                ("a.yaml", "table: {7: GM, 7: WM}"),
                ("a.json", '{"7": "GM", "7": "WM"}'),
            )
        ),
    ],
)
def test_files_that_hold_something_else_are_one_sentence(tmp_path, name, content, sentence):
    path = tmp_path / name
    assert error_of(find_schema, write(path, content)) == f"{path} {sentence}"


@pytest.mark.parametrize(
    "name, content",
    [
        *(("a.json", text) for text in ("{", "{'7': 'GM'}", "[" * 1_000, '{"7": GM}')),
        *(
            ("a.yaml", text)
            for text in ("7: [", "7: GM\n 8: WM", "\t7: GM", "[" * 1_000, "? []\n: GM")
        ),
        ("a.yaml", "7: &a {0: *a}"),
        ("a.yaml", f"{'9' * 5000}: GM"),
    ],
)
def test_files_that_are_not_yaml_or_json_are_one_sentence(tmp_path, name, content):
    message = error_of(find_schema, write(tmp_path / name, content))
    assert message.startswith(f"{tmp_path / name} is not a label schema (")
    assert message.endswith("), expected YAML or JSON with lines such as '7: GM'.")
    assert len(message) < 600


def test_aliases_that_multiply_do_not_flood_memory_or_screen(tmp_path):
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 40)]
    content = "\n".join(["l0: &l0 GM", *levels, "table: {7: *l39}"])
    message = error_of(find_schema, write(tmp_path / "bomb.yaml", content))
    assert "says that 7 is 'list', expected" in message


def test_files_that_cannot_be_read_are_one_sentence(tmp_path):
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (2**20 + 1))
    assert error_of(find_schema, str(path)) == (
        f"{path} is too large to read, expected at most 1048576 bytes."
    )
    path.write_bytes(b"7: \xff\xfe")
    assert error_of(find_schema, str(path)).startswith(f"{path} is not UTF-8 text ('utf-8' codec")
    for missing in ("drawem10", "", str(tmp_path), str(tmp_path / "none.yaml")):
        named = ", ".join(SCHEMAS | ANATOMY_SCHEMAS)
        assert error_of(find_schema, missing) == (
            f"There is no label schema '{missing}', expected one of {named}, or a YAML or JSON "
            "file that maps label ids to classes."
        )


def test_changes_as_written_on_a_command_line():
    assert parse_changes("") == {}
    assert parse_changes("6:GM") == {6: GM}
    assert parse_changes("6:gm, 8: White Matter,-3:ignore,") == {6: GM, 8: WM, -3: IGNORE}


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("6", "'6' is not a change of a label, expected ID:CLASS as in 6:GM."),
        ("6:GM,8=WM", "'8=WM' is not a change of a label, expected ID:CLASS as in 6:GM."),
        (
            "x:GM",
            "'x:GM' has the label id 'x', expected a whole number of at most 2147483647.",
        ),
        (
            "6:GM,8:stem",
            "'6:GM,8:stem' says that 8 is 'stem', expected background, CSF, GM, WM or ignore (or "
            "a name for one).",
        ),
        ("6:GM,6:WM", "'6:GM,6:WM' gives the label id 6 twice, expected one class each."),
    ],
)
def test_changes_that_are_none_are_one_sentence(text, sentence):
    assert error_of(parse_changes, text) == sentence


def test_names_of_a_dataset_s_own_labels():
    labels = {0: "background", 1: "Gray_Matter", 4: "csf", 255: "ignore"}
    schema = schema_of_names("mine", labels, Path("dataset.json"))
    assert schema == LabelSchema("mine", {0: BACKGROUND, 1: GM, 4: CSF, 255: IGNORE})
    labels = {0: "background", 1: "tumour"} | {i: "brainstem" for i in range(2, 20)}
    message = error_of(schema_of_names, "mine", labels, Path("/data/dataset.json"))
    assert message.startswith(
        "/data/dataset.json has label names that could be any tissue (1 tumour, 2 brainstem, "
    )
    assert "10 brainstem and 9 more), expected names such as background, CSF, GM, WM" in message


def check_real(path: Path, schema: LabelSchema, ml: tuple[float, float], csf: bool = True):
    label_map = read_label_map(path)
    voxels = count_classes(schema.to_classes(label_map.data, path))
    volume = {name: count * np.prod(label_map.spacing) / 1000 for name, count in voxels.items()}
    assert ml[0] < volume["GM"] + volume["WM"] < ml[1], path
    assert 0.25 < volume["WM"] / volume["GM"] < 1.5, path
    assert volume["CSF"] > (1 if csf else 0), path
    assert json.dumps(voxels)  # plain integers, for manifests


def test_real_label_maps_pass_through_their_schemas(real_data):
    check_real(real_data / "infant_label_maps/6mo_aseg_acpc.nii.gz", FREESURFER_SCHEMA, (500, 1000))
    check_real(
        real_data / "infant_tissue_maps/sub001_infant_infantile.nii.gz", TISSUE_SCHEMA, (200, 800)
    )
    check_real(
        real_data / "ibsr18/Training_Set/IBSR_01/IBSR_01_seg.nii.gz", IBSR_SCHEMA, (1000, 1700)
    )


@pytest.mark.slow
def test_all_real_label_maps_pass_through_their_schemas(real_data):
    for folder, schema, count, ml in (
        ("infant_label_maps/*.nii.gz", FREESURFER_SCHEMA, 11, (300, 1300)),
        ("infant_tissue_maps/*.nii.gz", TISSUE_SCHEMA, 3, (200, 1300)),
        ("ibsr18/*/*/*_seg.nii.gz", IBSR_SCHEMA, 15, (900, 1700)),
        ("adult_label_maps/*.nii.gz", SYNTHSEG_SCHEMA, 6, (600, 1500)),
    ):
        paths = sorted(real_data.glob(folder))
        assert len(paths) == count
        for path in paths:
            check_real(path, schema, ml)
    heads = sorted(real_data.glob("adult_label_maps/*.nii.gz"))
    assert "507 (" in error_of(
        FREESURFER_SCHEMA.to_classes, read_label_map(heads[0]).data, heads[0]
    )
