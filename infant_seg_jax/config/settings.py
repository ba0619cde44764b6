"""A setting, declared once: its default, what it is, and which values it may have."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any


@dataclass(frozen=True)
class Allowed:
    """The values that a setting may have.

    Attributes:
        words: them in words, as in "at least 1".
        accepts: whether a value is one of them.
        names: them, where they are a few names.
    """

    words: str
    accepts: Callable[[Any], bool]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """What is known of a setting beside its default.

    Attributes:
        sentence: what it is, with its unit.
        allowed: which values it may have; None: all of the default's type.
        is_path: whether it is a path, in which a `~` at the start is the home folder.
    """

    sentence: str
    allowed: Allowed | None = None
    is_path: bool = False


def setting(default: Any, sentence: str, allowed: Allowed | None = None) -> Any:
    """A field of a section, which is a frozen dataclass."""
    return field(default=default, metadata={"setting": Setting(sentence, allowed)})


def path_setting(default: str, sentence: str) -> Any:
    """As `setting`, of a path."""
    return field(default=default, metadata={"setting": Setting(sentence, is_path=True)})


def at_least(least: int) -> Allowed:
    """Numbers from `least` on, but no infinite one."""
    return Allowed(f"at least {least}", lambda value: least <= value < math.inf)


def one_of(*names: str) -> Allowed:
    """One of a few names."""
    return Allowed(" or ".join(map(repr, names)), lambda value: value in names, names)


CHANCE = Allowed("a chance from 0 to 1", lambda value: 0 <= value <= 1)
SHARE = Allowed("at least 0 and below 1", lambda value: 0 <= value < 1)
POSITIVE = Allowed("above 0", lambda value: 0 < value < math.inf)


def settings_of(section: Any, prefix: str = "") -> Iterator[tuple[str, Setting, Any]]:
    """The settings of a section and of those in it, by their dotted keys, with their defaults."""
    for entry in fields(section):
        value = getattr(section, entry.name)
        if is_dataclass(value):
            yield from settings_of(value, f"{prefix}{entry.name}.")
        else:
            yield f"{prefix}{entry.name}", entry.metadata["setting"], value
