"""Which of a dataset's modalities a person wants."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from infant_seg_jax.errors import InputError


def choose_modalities(
    wanted: Sequence[str], offered: Sequence[str], where: Path
) -> tuple[str, ...]:
    """The modalities wanted, in the order wanted; all that are offered if none is.

    Args:
        wanted: names, as given to `--modalities`.
        offered: the dataset's own.
        where: the dataset, named in errors.

    Raises:
        InputError: one is not offered, or is wanted twice.
    """
    for name in wanted:
        if name not in offered:
            raise InputError(
                f"--modalities names '{name}', which {where} does not have, expected some of "
                f"{', '.join(offered)}."
            )
    check_distinct(wanted)
    return tuple(wanted or offered)


def check_distinct(wanted: Sequence[str]) -> None:
    """Refuse a modality that is named twice.

    Raises:
        InputError: one is.
    """
    for name, count in Counter(wanted).items():
        if count > 1:
            raise InputError(f"--modalities names '{name}' {count} times, expected each name once.")
