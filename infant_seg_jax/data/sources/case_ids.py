"""Ids of cases: from what names one on disk to what may name a folder, and who was scanned."""

import re
from collections.abc import Iterable

from infant_seg_jax.data.sources.source import SourceCase
from infant_seg_jax.errors import InputError

_UNSAFE = re.compile(r"^[.-]|[^\w.-]+|\.$")
_PARTICIPANT = re.compile(r"(?<![A-Za-z0-9])sub-[A-Za-z0-9]+")
_MAX_BYTES = 200  # of the 255 that file systems allow


def case_id_of(key: str) -> str:
    """`key` with `_` for all that a folder's name should not hold: spaces, slashes, a first dot.

    Raises:
        InputError: nothing is left, or it is too long to name a folder.
    """
    case_id = _UNSAFE.sub("_", key)
    if not case_id or len(case_id.encode()) > _MAX_BYTES:
        raise InputError(
            f"{key[:_MAX_BYTES]!r} is the name of a case, expected 1 to {_MAX_BYTES} bytes that "
            "can be the name of a folder: rename it."
        )
    return case_id


def participant_of(text: str) -> str | None:
    """The last `sub-XXX` in a path or name; None where there is none."""
    found = _PARTICIPANT.findall(text)
    return found[-1] if found else None


def sort_cases(cases: Iterable[SourceCase]) -> tuple[SourceCase, ...]:
    """The cases by their ids.

    Raises:
        InputError: two share an id.
    """
    sorted_cases = tuple(sorted(cases, key=lambda case: case.case_id))
    for one, other in zip(sorted_cases, sorted_cases[1:], strict=False):
        if one.case_id == other.case_id:
            raise InputError(
                f"{one.images[0]} and {other.images[0]} would both be the case {one.case_id}, "
                "expected one scan for each: rename one of them."
            )
    return sorted_cases
