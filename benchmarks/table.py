"""Rows of all benchmarks in one table, as Markdown and as JSON."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measuring import Row, describe_machine

COLUMNS = {
    "benchmark": "benchmark",
    "case": "work",
    "who": "by",
    "seconds": "seconds",
    "ratio": "to the first",
    "peak_mib": "peak MiB",
    "gpu_mib": "GPU MiB",
    "compile_seconds": "compiling, cold",
    "cached_seconds": "compiling, cached",
}
"""Fields of a row, and what the table calls them."""

EXPLANATION = (
    "Seconds are the least of all turns; `to the first` divides them by those of the first line of "
    "the same work. Compiling is in seconds, with nothing cached, and with what that had cached."
)

Content = dict[str, Any]
"""`{"measured": {benchmark: what describe_machine says}, "rows": [...]}`"""


def join(content: Content, benchmark: str, rows: Iterable[Row], machine: Mapping) -> Content:
    """The content with a benchmark's rows in place of those that it had of it."""
    measured = {**content.get("measured", {}), benchmark: dict(machine)}
    kept = [row for row in content.get("rows", []) if row["benchmark"] != benchmark]
    order = list(measured)
    found = [*kept, *map(asdict, rows)]
    return {
        "measured": measured,
        "rows": sorted(found, key=lambda row: order.index(row["benchmark"])),
    }


def to_markdown(content: Content) -> str:
    """The table, below where and with what it was measured."""
    together: dict[str, list[str]] = {}
    for benchmark, machine in content["measured"].items():
        together.setdefault(_describe(machine), []).append(benchmark)
    rows = content["rows"]
    columns = [name for name in COLUMNS if any(row.get(name) not in (None, "") for row in rows)]
    lines = [f"- {', '.join(names)}: {machine}." for machine, names in together.items()]
    lines += ["", EXPLANATION, ""]
    lines += [_line([*(COLUMNS[name] for name in columns), "also"])]
    lines += [f"|{'---|' * (len(columns) + 1)}"]
    for row in rows:
        also = ", ".join(f"{name} {_show(value)}" for name, value in row["also"].items())
        remark = f"skipped: {row['skipped']}" if row["skipped"] else also
        lines.append(_line([*(_show(row.get(name)) for name in columns), remark]))
    return "\n".join(lines) + "\n"


def write(output: Path, content: Content) -> None:
    """Write `table.json` and `table.md` to a folder."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "table.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (output / "table.md").write_text(to_markdown(content), encoding="utf-8")


def read(output: Path) -> Content:
    """What `write` wrote there, or nothing."""
    path = output / "table.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def print_one(benchmark: str, rows: Iterable[Row]) -> None:
    """Print a benchmark's JSON, and its table on standard error."""
    machine = describe_machine()
    content = join({}, benchmark, rows, machine)
    print(to_markdown(content), file=sys.stderr)
    print(json.dumps(content, indent=2))


def _describe(machine: Mapping[str, Any]) -> str:
    about = dict(machine)
    where = f"{about.pop('machine', None)}, {about.pop('cores', None)} cores"
    return ", ".join([where, *(f"{name} {value}" for name, value in about.items() if value)])


def _show(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
