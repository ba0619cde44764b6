"""docs/config.md: every setting, as it is declared."""

from dataclasses import fields, is_dataclass
from typing import Any

from infant_seg_jax.config.sections import Run
from infant_seg_jax.config.settings import Setting

_HEAD = """\
# Settings of a training run

Each setting is a key of a config (`configs/*.py`). It can also be given on the command line as
`--config.KEY=VALUE`, for example `--config.optimizer.learning_rate=1e-3`.
`python -m infant_seg_jax.config.reference` generates this page from
[`sections.py`](../infant_seg_jax/config/sections.py).
"""


def reference() -> str:
    """The page, in Markdown."""
    run = Run()
    plain = [entry for entry in fields(run) if not is_dataclass(getattr(run, entry.name))]
    parts = [_HEAD, _table("The run", "", run, plain)]
    for entry in fields(run):
        section = getattr(run, entry.name)
        if is_dataclass(section):
            intro = (section.__doc__ or "").replace("\n    ", "\n").strip()
            parts.append(_table(f"`{entry.name}`", intro, section, fields(section)))
    return "\n".join(parts)


def _table(title: str, intro: str, section: Any, entries: Any) -> str:
    rows = ["| key | default | what it is | allowed |", "|---|---|---|---|"]
    for entry in entries:
        setting: Setting = entry.metadata["setting"]
        default = getattr(section, entry.name)
        allowed = setting.allowed.words if setting.allowed else ""
        shown = default if isinstance(default, str) else repr(default)
        rows.append(
            f"| `{entry.name}` | {f'`{shown}`' if shown else ''} | {setting.sentence} | {allowed} |"
        )
    return "\n".join([f"## {title}", *([f"\n{intro}"] if intro else []), "", *rows, ""])


if __name__ == "__main__":
    print(reference(), end="")
