"""A hook of MkDocs: pages of the site that have their source elsewhere, and links among all pages.

Pages link to each other, and to code, by paths in the repository. On the site these links lead to
the site's pages; what is no page there, such as code, is named without a link.
"""

import io
import posixpath
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import infant_seg_jax
from infant_seg_jax.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[1]
FROM_REPOSITORY = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changes.md": "CHANGELOG.md",
    "speed.md": "benchmarks/NOTES.md",
}
LINK = re.compile(r"(!?)\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]+)?\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    pages = {name: (ROOT / path).read_text("utf-8") for name, path in FROM_REPOSITORY.items()}
    pages |= {"commands.md": _commands(), "api.md": _api()}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: Any, files: Files) -> str:
    """Turn paths in the repository into links between pages."""
    here = page.file.src_uri
    pages = {_in_repository(file.src_uri): file.src_uri for file in files}

    def on_site(link: re.Match[str]) -> str:
        image, text, target, anchor = link.groups(default="")
        if "://" in target:
            return link[0]
        folder = posixpath.dirname(_in_repository(here))
        path = posixpath.normpath(posixpath.join(folder, target))
        if path not in pages:
            return text
        target = posixpath.relpath(pages[path], posixpath.dirname(here) or ".")
        return f"{image}[{text}]({target}{anchor})"

    return LINK.sub(on_site, markdown)


def _in_repository(page: str) -> str:
    return FROM_REPOSITORY.get(page, f"docs/{page}")


def _commands() -> str:
    """What `--help` prints, of the program and of each command."""
    parts = ["# Commands", f"```text\n{_help('--help')}\n```"]
    for name in COMMANDS:
        parts += [f"## {name}", _as_markdown(_help(name, "--help"))]
    return "\n\n".join(parts)


def _help(*arguments: str) -> str:
    with redirect_stdout(io.StringIO()) as printed, patch("sys.argv", ["infant-seg"]):
        main(arguments)
    return printed.getvalue().strip()


def _as_markdown(text: str) -> str:
    """The help of a command: paragraphs, indented examples, then a list of flags."""
    lines = []
    for line in text.splitlines():
        if line.startswith("  --"):
            lines += ["", f"`{line.strip()}`", ""]
        elif line.startswith(" " * 6) and lines[-1] == "":
            lines.append(f":   {_escaped(line.strip())}")
        elif line.startswith(" " * 6) and lines[-1].startswith(":   "):
            lines[-1] += f" {_escaped(line.strip())}"
        else:
            lines.append(line if line.startswith("    ") else _escaped(line))
    return "\n".join(lines)


def _escaped(line: str) -> str:
    """Text without markup, but for what is between backticks."""
    parts = line.split("`")
    parts[::2] = [re.sub(r"([*_<\[\]])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def _api() -> str:
    names = [name for name in infant_seg_jax.__all__ if not name.startswith("_")]
    return "\n\n".join(
        [
            "# Python API",
            "[From Python](python.md) shows how these are used. "
            "All of them are names of `infant_seg_jax`.",
            *(f"::: infant_seg_jax.{name}" for name in names),
        ]
    )
