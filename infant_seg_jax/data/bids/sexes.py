"""The sex of participants of BIDS trees, from `participants.tsv`."""

from collections.abc import Sequence
from pathlib import Path

from infant_seg_jax.data.bids.names import Session, bare
from infant_seg_jax.data.bids.tables import read_table
from infant_seg_jax.errors import InputError

_SEXES = {first: sex for sex in ("female", "male", "other") for first in (sex, sex[0])}


def read_sexes(sessions: Sequence[Session], tree: Path) -> dict[str, str]:
    """`female`, `male` or `other` for each session whose participant's is known, by `case_id`.

    It is read from the column `sex`, as BIDS spells it (`F`, `female`, ...). A participant with two
    that contradict each other has none, nor has anybody where the table cannot be read.
    """
    try:
        rows = read_table(tree / "participants.tsv", ("participant_id",), ("sex",))
    except InputError:
        return {}
    found: dict[str, set[str]] = {}
    for row in rows:
        if sex := _SEXES.get(row["sex"].lower()):
            found.setdefault(bare(row["participant_id"]), set()).add(sex)
    of = {session.case_id: found.get(bare(session.participant), ()) for session in sessions}
    return {case_id: next(iter(sexes)) for case_id, sexes in of.items() if len(sexes) == 1}
