"""iSeg-2017 and iSeg-2019: infants of six months, T1w and T2w, skull-stripped.

The MICCAI grand challenges of Wang et al., IEEE TMI 38, 2019, and Sun et al., IEEE TMI 40, 2021.
`subject-N-T1.hdr` and `.img`, `subject-N-T2` and `subject-N-label`, at any depth below the folder
given, or what people convert them to, `subject-N-T1.nii.gz` and the like. Those to train on, 1 to
10, have labels; those to validate and test on have none.
"""

import re
from pathlib import Path

from infant_seg_jax.data.ages import Age
from infant_seg_jax.data.formats.names import ENDINGS, ending_of, stem
from infant_seg_jax.data.schemas import ISEG_SCHEMA
from infant_seg_jax.data.sources.modalities import choose_modalities
from infant_seg_jax.data.sources.source import Dataset, Query, Source, SourceCase
from infant_seg_jax.errors import InputError

_FILE = re.compile(r"subject-(?P<number>[0-9]+)-(?P<kind>T1|T2|label)")
_KINDS = {"T1w": "T1", "T2w": "T2"}
_AGE = Age(6.0, "months")  # of all subjects, to within a few days


def find(folder: Path, query: Query) -> Dataset:
    """The subjects below `folder`, by their numbers.

    Raises:
        InputError: the folder holds no subject, a subject lacks a modality, a file is there twice,
            or a modality is not iSeg's.
    """
    modalities = choose_modalities(query.modalities, tuple(_KINDS), folder)
    files = _files(folder)
    numbers = sorted({number for number, _ in files})
    if not numbers:
        raise InputError(
            f"{folder} contains no iSeg subject, expected subject-N-T1.hdr with subject-N-T1.img "
            "(or subject-N-T1.nii.gz) and so on somewhere below it."
        )
    cases = tuple(_case(number, modalities, files) for number in numbers)
    unlabeled = [case.case_id for case in cases if case.labels is None]
    notice = f"{len(unlabeled)} of {len(cases)} subjects have no label map: {', '.join(unlabeled)}."
    return Dataset(
        "iseg",
        folder,
        modalities,
        query.schema_or(ISEG_SCHEMA.name),
        cases,
        (notice,) if unlabeled else (),
    )


def _files(folder: Path) -> dict[tuple[int, str], Path]:
    """Each file by its subject's number and what it is: T1, T2 or label."""
    files: dict[tuple[int, str], Path] = {}
    for path in sorted(folder.rglob("subject-*")):
        match = _FILE.fullmatch(stem(path))
        if match and ending_of(path) in ENDINGS and path.is_file():
            number, kind = int(match["number"]), match["kind"]
            other = files.setdefault((number, kind), path)
            if other != path:
                raise InputError(
                    f"The {kind} of subject {number} exists twice, as {other} and as {path}, "
                    "expected one: give the folder of one of them, or remove one."
                )
    return files


def _case(
    number: int, modalities: tuple[str, ...], files: dict[tuple[int, str], Path]
) -> SourceCase:
    for name in modalities:
        if (number, _KINDS[name]) not in files:
            beside = next(path for (n, _), path in files.items() if n == number)
            raise InputError(
                f"Subject {number} has no {name} scan, expected subject-{number}-{_KINDS[name]} "
                f"beside {beside}."
            )
    name = f"subject-{number:02}"
    images = tuple(files[number, _KINDS[modality]] for modality in modalities)
    return SourceCase(name, name, images, files.get((number, "label")), age=_AGE)


ISEG = Source(
    "iseg",
    "iSeg-2017 and iSeg-2019, infants of six months",
    find,
    frozenset({"modalities"}),
)
