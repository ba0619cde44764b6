"""One self-contained HTML file of sections: pictures within it, no network, no server.

What a page is given is escaped, and its content security policy lets nothing run but our own few
lines of script, by their hash, and nothing be loaded: a subject named `<script>` stays text.
"""

import base64
import hashlib
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from markupsafe import Markup

from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.files import write_text
from infant_seg_jax.report.drawing.slices import WRONG_COLOR
from infant_seg_jax.report.templates import environment, template_text
from infant_seg_jax.report.viewer.embedded import EmbeddedViewer

_DEFAULT = TISSUE_CLASSES.name


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


def write_page(
    path: Path,
    title: str,
    verdict: Sequence[str],
    sections: Sequence[Section],
    viewer: EmbeddedViewer | None = None,
    hint: str = "",
    *,
    has_truth: bool = True,
    colors: Mapping[str, str] = TISSUE_CLASSES.colors,  # noqa: B008 (never changed)
) -> Path:
    """Write the page, whole or not at all.

    Args:
        path: the file.
        title: its heading.
        verdict: what stands first, a sentence each.
        sections: in their order.
        viewer: what there is to look around in; of nothing, the page has no viewer.
        has_truth: whether any picture shows what is wrong.
        hint: the command that draws the page with one, which is shown where there is none.
        colors: of the classes, by name, for the legend.

    Raises:
        InputError: the folder cannot be written to.
    """
    viewer = viewer if viewer and viewer.looks else None
    script, style, viewer_script = template_text("page.js"), template_text("page.css"), ""
    if viewer:
        style += template_text("viewer.css")
        viewer_script = template_text("viewer.js") + template_text("viewer_embedded.js")
    text = (
        environment()
        .get_template("page.html")
        .render(
            title=title,
            verdict=verdict,
            sections=sections,
            script=Markup(script),
            viewer_script=Markup(viewer_script),
            hashes=[_hash(text) for text in (script, viewer_script) if text],
            style=Markup(style),
            viewer=viewer,
            hint="" if viewer else hint,
            tissues=colors,
            wrong=WRONG_COLOR if has_truth else "",
            version=version("infant_seg_jax"),
            made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        )
    )
    write_text(path, text)
    return path


def _hash(script: str) -> str:
    """By which a content security policy knows a script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}"


def view_command(paths: Sequence[Path], schema: str = "", classes: str = "") -> str:
    """What opens a scan and label maps of this schema in the viewer, to paste into a shell."""
    chosen = {"schema": schema, "classes": classes}
    flags = [f"--{key}={name}" for key, name in chosen.items() if name not in ("", _DEFAULT)]
    return shlex.join(["infant-seg", "view", *flags, *map(str, paths)])
