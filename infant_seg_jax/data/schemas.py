"""The label schemas that have names, and those that a person writes in a small file."""

import json
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from infant_seg_jax.data.class_sets import DRAWEM9_CLASSES
from infant_seg_jax.data.labels import (
    BACKGROUND,
    CSF,
    GM,
    IGNORE,
    TISSUE_CLASSES,
    WM,
    ClassSet,
    LabelSchema,
    class_of_name,
)
from infant_seg_jax.errors import InputError, some_of
from infant_seg_jax.files import read_text

_MAX_BYTES, _MAX_ID = 2**20, 2**31 - 1

TISSUE_SCHEMA = LabelSchema.of(TISSUE_CLASSES)
"""Our own ids, which IBSR's three-tissue segmentation shares."""

IBSR_SCHEMA = LabelSchema("ibsr", TISSUE_SCHEMA.table)

ISEG_SCHEMA = LabelSchema("iseg", {0: BACKGROUND, 10: CSF, 150: GM, 250: WM})
"""iSeg-2017 and iSeg-2019 (Wang et al., IEEE TMI 38, 2019)."""


def _table(*rows: tuple[int, Iterable[int]]) -> dict[int, int]:
    return {source: target for target, sources in rows for source in sources}


_DRAWEM9_CLASSES_SCHEMA = LabelSchema(
    "drawem9",
    dict(sorted({**LabelSchema.of(DRAWEM9_CLASSES).table, 4: BACKGROUND}.items())),
    DRAWEM9_CLASSES,
)
"""DrawEM's 4 is what is outside the brain, too."""

DRAWEM9_SCHEMA = _DRAWEM9_CLASSES_SCHEMA.of_tissues()
"""The nine tissues of dHCP's DrawEM (Makropoulos et al., NeuroImage 173, 2018): CSF, cortical GM,
WM, background, ventricles, cerebellum, deep GM, brainstem, hippocampus and amygdala. Cerebellum and
brainstem are not split into GM and WM there, so they are ignored."""

DRAWEM9_CORE_SCHEMA = LabelSchema(
    "drawem9-core", dict.fromkeys(range(10), BACKGROUND) | {1: CSF, 2: GM, 3: WM, 7: GM}
)
"""DrawEM's CSF (1), cortical GM (2), WM (3) and deep GM (7) alone; all else is background."""

_index = DRAWEM9_CLASSES.names.index

_DRAWEM87_CLASSES_SCHEMA = LabelSchema(
    "drawem87",
    _table(
        (BACKGROUND, (0, 84)),  # outside the skull
        (_index("CSF"), (83,)),
        (_index("VENT"), (49, 50)),
        (_index("CGM"), (*range(5, 17), *range(20, 40))),
        (_index("HA"), range(1, 5)),
        # 85, "intracranial background", is deep GM to DrawEM too.
        (_index("SGM"), (*range(40, 48), 85, 86, 87)),
        (_index("WM"), (*range(51, 83), 48)),  # the lobes', and the corpus callosum
        (_index("CBM"), (17, 18)),
        (_index("BS"), (19,)),
    ),
    DRAWEM9_CLASSES,
)

DRAWEM87_SCHEMA = _DRAWEM87_CLASSES_SCHEMA.of_tissues()
"""The 87 regions of dHCP's DrawEM (Gousias et al., NeuroImage 62, 2012, with tissues split)."""

FREESURFER_SCHEMA = LabelSchema(
    "freesurfer",
    _table(
        (BACKGROUND, (0,)),
        (CSF, (24, 4, 43, 5, 44, 14, 15, 72, 31, 63)),  # sulcal, ventricles, choroid plexus
        (GM, (3, 42, 8, 47)),  # cortex of cerebrum and cerebellum
        (GM, (9, 10, 11, 12, 13, 17, 18, 26, 27, 48, 49, 50, 51, 52, 53, 54, 58, 59)),  # deep
        (GM, (*range(1000, 1036), *range(2000, 2036), 172)),  # aparc's parcels; vermis
        (WM, (2, 41, 7, 46, 77, 78, 79, *range(251, 256), 85)),  # with callosum, optic chiasm
        (WM, (16, 173, 174, 175)),  # brainstem
        (IGNORE, (28, 60, 30, 62, 80, 81, 82)),  # ventral DC is of both; vessels; non-WM lesions
    ),
)
"""FreeSurfer's aseg and aparc+aseg (Fischl et al., Neuron 33, 2002), infant FreeSurfer's vermis
(172) and SynthSeg's CSF (24). Without 24, a label map holds no sulcal CSF."""

SYNTHSEG_SCHEMA = LabelSchema(
    "synthseg",
    dict(FREESURFER_SCHEMA.table)
    | _table(
        (CSF, (136, 137, 163, 164, 520)),  # choroid plexus of the ventricles; sulcal
        (IGNORE, (25, 57)),  # lesions
        (BACKGROUND, (501, 502, *range(506, 510), 511, 512, 514, 515, 516, 517, 530)),
    ),
)
"""The label maps that SynthSeg was trained with (Billot et al., Medical Image Analysis 86, 2023):
aseg's ids, and those of SimNIBS's charm for the head around the brain (air, vessels, eyes, muscle,
skin, spinal cord, bone, optic nerves). To FreeSurfer some of these numbers mean something else."""

BOUNTI_SCHEMA = LabelSchema(
    "bounti",
    _table(
        (BACKGROUND, (0,)),
        (GM, (*range(1, 13), *range(31, 37))),  # the lobes' cortex; caudate, lentiform, thalamus
        (WM, (*range(13, 26), 27)),  # the lobes' white matter, corpus callosum, brainstem
        (CSF, range(37, 44)),  # around the brain, ventricles
        (IGNORE, (26, 28, 29, 30)),  # what is left inside; a cerebellum drawn as one
    ),
)
"""The 43 structures of Multi-BOUNTI's newborn (King's College London; Uus et al., 2023)."""

FETAL_ATLAS_SCHEMA = LabelSchema(
    "fetal_atlas",
    _table((BACKGROUND, (0,)), (WM, (1, 7, 8)), (CSF, (2, 4)), (GM, (5, 6)), (IGNORE, (3,))),
)
"""The fetal atlas of Fidon et al. (Open Research Europe 1, 2021): white matter, ventricles,
cerebellum, fluid, cortex, deep gray matter, brainstem, corpus callosum."""

SCHEMAS = {
    schema.name: schema
    for schema in (
        *(TISSUE_SCHEMA, IBSR_SCHEMA, ISEG_SCHEMA, DRAWEM9_SCHEMA, DRAWEM9_CORE_SCHEMA),
        *(DRAWEM87_SCHEMA, FREESURFER_SCHEMA, SYNTHSEG_SCHEMA),
    )
}
_FINER_SCHEMAS = (_DRAWEM9_CLASSES_SCHEMA, _DRAWEM87_CLASSES_SCHEMA)
"""Of those with names, what they are to classes other than tissues."""

ANATOMY_SCHEMAS = {schema.name: schema for schema in (BOUNTI_SCHEMA, FETAL_ATLAS_SCHEMA)}
"""Of label maps to render from; their values are too much like others' to be guessed."""


def find_schema(name: str, classes: ClassSet = TISSUE_CLASSES) -> LabelSchema:
    """A schema by its name, or from a YAML or JSON file.

    The file maps ids to classes, `{0: background, 7: GM, 9: ignore}`, right away or below the key
    `table`, beside which `name` names the schema (the file's name does otherwise).

    Args:
        name: of the schema, of a class set for its own values, or of the file.
        classes: what it is to tell apart.

    Raises:
        InputError: there is no such name or file, the file holds something else, or it tells other
            classes apart.
    """
    named = SCHEMAS | ANATOMY_SCHEMAS
    for schema in (*named.values(), *_FINER_SCHEMAS, LabelSchema.of(classes)):
        if (schema.name, schema.classes) == (name, classes):
            return schema
    if name in named:
        raise InputError(
            f"The schema '{name}' distinguishes only tissues, expected {classes}: give a file with "
            f"lines such as '7: {classes.names[-1]}'."
        )
    path = Path(name)
    if not path.is_file():
        raise InputError(
            f"There is no label schema '{name}', expected one of {', '.join(named)}, or a YAML "
            "or JSON file that maps label ids to classes."
        )
    content = _read_mapping(path)
    table = content.get("table", content)
    if not isinstance(table, dict) or not table:
        raise InputError(f"{path} has no table, expected lines such as '7: GM' below 'table:'.")
    given = content.get("name")
    meanings = _meanings(table.items(), path, classes)
    return LabelSchema(given if isinstance(given, str) else path.stem, meanings, classes)


def parse_changes(text: str, classes: ClassSet = TISSUE_CLASSES) -> dict[int, int]:
    """Changes to a schema as written on a command line, `6:GM,8:WM`.

    Raises:
        InputError: it is written otherwise, names another class or an id twice.
    """
    parts = [part.partition(":") for part in text.split(",") if part]
    for part, colon, _ in parts:
        if not colon:
            raise InputError(f"'{part}' is not a change of a label, expected ID:CLASS as in 6:GM.")
    return _meanings(((source, target) for source, _, target in parts), f"'{text}'", classes)


def schema_of_names(
    name: str, labels: dict[int, str], path: Path, classes: ClassSet = TISSUE_CLASSES
) -> LabelSchema:
    """The schema of a dataset that names its labels itself.

    Args:
        name: names the schema.
        labels: the name of each id.
        path: where they were read.
        classes: what the names are to mean.

    Raises:
        InputError: a name is none that we know; the sentence lists them.
    """
    table = {index: class_of_name(label, classes) for index, label in labels.items()}
    unknown = [f"{index} {labels[index]}" for index, target in table.items() if target is None]
    if unknown:
        what = "any tissue" if classes == TISSUE_CLASSES else "any class"
        raise InputError(
            f"{path} has label names that could be {what} ({some_of(unknown, 10)}), expected "
            f"names such as {classes} or ignore: say what they mean with --schema=FILE, a file "
            "with lines such as '7: GM'."
        )
    return LabelSchema(
        name, {index: target for index, target in table.items() if target is not None}, classes
    )


def _read_mapping(path: Path) -> dict[Any, Any]:
    text = read_text(path, _MAX_BYTES)
    try:
        content = (
            json.loads(text, object_pairs_hook=_without_duplicates)
            if path.suffix.lower() == ".json"
            else yaml.load(text, _Yaml)
        )
    except (TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(
            f"{path} is not a label schema ({' '.join(str(error).split())}), expected YAML or JSON "
            "with lines such as '7: GM'."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} contains no table, expected lines such as '7: GM'.")
    return content


class _Yaml(yaml.SafeLoader):
    """Plain values, no code, and no key twice: YAML itself would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        def value_of(part: yaml.Node) -> Any:
            return self.construct_object(part, deep=True)

        return _without_duplicates([(value_of(key), value_of(value)) for key, value in node.value])


def _without_duplicates(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    content = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"{_brief(key)} is given twice")
        content[key] = value
    return content


def _meanings(
    entries: Iterable[tuple[Any, Any]], where: Path | str, classes: ClassSet
) -> dict[int, int]:
    """Ids and classes as a person wrote them."""
    table: dict[int, int] = {}
    for key, value in entries:
        try:
            index = int(str(key))
        except ValueError:
            index = None
        if index is None or abs(index) > _MAX_ID:
            raise InputError(
                f"{where} has the label id '{_brief(key)}', expected a whole number of at most "
                f"{_MAX_ID}."
            )
        if index in table:
            raise InputError(f"{where} gives the label id {index} twice, expected one class each.")
        target = class_of_name(value, classes) if isinstance(value, str) else None
        if target is None:
            raise InputError(
                f"{where} says that {index} is '{_brief(value)}', expected "
                f"{classes} or ignore (or a name for one)."
            )
        table[index] = target
    return table


def _brief(value: Any) -> str:
    """A value of a person's file, which may be long or, by YAML's aliases, endless."""
    plain = isinstance(value, str | int | float | None)
    return " ".join((str(value) if plain else type(value).__name__).split())[:50]
