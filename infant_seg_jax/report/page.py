"""One self-contained HTML file of sections: pictures within it, no network, no server.

What a page is given is escaped, and its content security policy lets nothing run but our own few
lines of script, by their hash, and nothing be loaded: a subject named `<script>` stays text.
"""

import base64
import hashlib
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from infant_seg_jax.data.labels import TISSUE_COLOURS
from infant_seg_jax.files import atomic_path
from infant_seg_jax.report.slices import WRONG_COLOUR

_TEMPLATES = "templates"


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading.
        template: the file in `templates` that draws it.
        content: what that calls `content`.
    """

    title: str
    template: str
    content: object


@dataclass(frozen=True)
class Row:
    """A row of a table: what it is of, and for each column the number and its words."""

    name: str
    cells: tuple[tuple[float | None, str], ...]


def number(value: float) -> float | None:
    """What a table sorts by; nothing for NaN."""
    return None if math.isnan(value) else value


def write_page(path: Path, title: str, verdict: Sequence[str], sections: Sequence[Section]) -> Path:
    """Write the page, whole or not at all.

    Args:
        path: the file.
        title: its heading.
        verdict: what stands first, a sentence each.
        sections: in their order.

    Raises:
        InputError: the folder cannot be written to.
    """
    script = template_text("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    text = (
        environment()
        .get_template("page.html")
        .render(
            title=title,
            verdict=verdict,
            sections=sections,
            script=Markup(script),
            script_hash=f"sha256-{digest}",
            style=Markup(template_text("page.css")),
            tissues=TISSUE_COLOURS,
            wrong=WRONG_COLOUR,
            version=version("infant_seg_jax"),
            made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        )
    )
    with atomic_path(path) as temporary:
        # Names of files that are no text are shown with what stands for each such byte.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def view_command(paths: Sequence[Path]) -> str:
    """What opens these files in the viewer, to paste into a shell."""
    return shlex.join(["infant-seg", "view", *map(str, paths)])


def environment() -> Environment:
    """Our templates, in which everything is escaped that is not marked as HTML."""
    return Environment(
        loader=PackageLoader("infant_seg_jax.report", _TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def template_text(name: str) -> str:
    """A file beside the templates, as it is."""
    return (files("infant_seg_jax.report") / _TEMPLATES / name).read_text(encoding="utf-8")
