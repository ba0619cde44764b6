"""The options of the BIDS App: some of `predict`'s flags, with their types and sentences."""

from dataclasses import dataclass
from typing import Any

from absl import flags

from infant_seg_jax.commands.computing import define_computing
from infant_seg_jax.commands.predict_flags import define_flags

_FLAGS = (
    *("participant_label", "session_label", "modalities", "shard", "checkpoint", "mask"),
    *("mirror", "refine", "fix_orientation", "probabilities", "remove_islands", "schema"),
    *("max_memory", "threads", "device", "overwrite"),
)
_NAMES = {"modalities": "modality"}
"""What BIDS Apps call a flag."""


@dataclass(frozen=True)
class Option:
    """An option of the App.

    Attributes:
        flag: `predict`'s.
        name: the App's, with underscores; hyphens are as good.
        help: what it does.
        kind: of its value; of a `bool`, there is a `--no-` of the same name, too.
        choices: the values that it may have; empty for any.
        many: whether it may have several values.
        repeated: whether `predict` takes these as several flags, not joined by commas.
    """

    flag: str
    name: str
    help: str
    kind: type
    choices: tuple[str, ...]
    many: bool
    repeated: bool

    def as_flags(self, value: Any) -> list[str]:
        """What `predict` is given for a value; nothing for None."""
        if value is None:
            return []
        if self.kind is bool:
            return [f"--{self.flag}" if value else f"--no{self.flag}"]
        if self.repeated:
            return [f"--{self.flag}={one}" for one in value]
        return [f"--{self.flag}={','.join(value) if self.many else value}"]


def options() -> tuple[Option, ...]:
    """All of them."""
    values = flags.FlagValues()
    define_flags(values)
    define_computing(values)
    return tuple(_option(values[name]) for name in _FLAGS)


def _option(flag: flags.Flag) -> Option:
    kinds = ((flags.IntegerParser, int), (flags.FloatParser, float), (flags.BooleanParser, bool))
    kind = next((kind for parser, kind in kinds if isinstance(flag.parser, parser)), str)
    repeated = isinstance(flag, flags.MultiFlag)
    return Option(
        flag.name,
        _NAMES.get(flag.name, flag.name),
        (flag.help or "").split(";\n")[0],  # absl adds that a flag may be repeated
        kind,
        tuple(getattr(flag.parser, "enum_values", None) or ()),
        repeated or isinstance(flag.parser, flags.ListParser),
        repeated,
    )
