"""look at scans and label maps: what is there, and what will cause trouble.

It reads files, or everything below folders. For each file it shows the kind (a scan, a label map or
a mask, judged by its voxels), shape, voxel size, orientation, stored type and range, and for label
maps the volume and the meaning of every value. Then it warns of problems: grids that do not match,
orientations that are not stored, broken voxels, volumes that no brain of that age has, one head
under two names. Functional and diffusion scans in a folder are counted and left out. Nothing is
changed. The exit status is 1 if a file cannot be read.

    infant-seg inspect SCANS
    infant-seg inspect img/img_001.nii.gz mask/mask_001.nii.gz
    infant-seg inspect --schema=drawem9 --output=report.json DHCP
"""

import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console
from rich.table import Table
from rich.text import Text

from infant_seg_jax.data.inspection import (
    LABEL_MAP,
    MASK,
    SCAN,
    FileReport,
    Inspection,
    LabelValue,
    inspect_paths,
)
from infant_seg_jax.data.inspection.reports import as_json
from infant_seg_jax.data.labels import TISSUES
from infant_seg_jax.data.schemas import SCHEMAS, find_schema
from infant_seg_jax.files import write_json
from infant_seg_jax.paths import define_path

ARGUMENTS = "PATH..."

_WIDTH = 80
_MOST_ALIKE = 5
_MOST_GRIDS = 20
_ORDER = (*TISSUES, "ignore", "background", "")


def define_flags(values: flags.FlagValues) -> None:
    define_path(
        "schema",
        "",
        f"What label values mean: {', '.join(SCHEMAS)}, or a YAML or JSON file with lines such as "
        "'7: GM'. By default, the schema that fits each label map best.",
        flag_values=values,
    )
    define_path(
        "output", "", "A JSON file to write all results to, for scripts.", flag_values=values
    )


def run(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    schema = find_schema(values.schema) if values.schema else None
    inspection = inspect_paths([Path(argument) for argument in arguments], schema)
    console = Console(highlight=False)
    for file in inspection.files:
        _print_file(console, file)
    _print_summary(console, inspection)
    _print_remarks(console, inspection, values.output)
    if values.output:
        write_json(Path(values.output), as_json(inspection))
        console.print(Text(f"\nWritten to {values.output}."), soft_wrap=True)
    if inspection.failures:
        total = len(inspection.files) + len(inspection.series) + len(inspection.failures)
        sys.exit(
            f"infant-seg: inspect: {len(inspection.failures)} of {total} files cannot be read; see "
            "above."
        )


def _print_file(console: Console, file: FileReport) -> None:
    """A block: the path, then a line for each thing there is to know."""
    console.print(Text(str(file.path), style="bold"), soft_wrap=True)  # so that paths stay whole
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=11)
    table.add_column(overflow="fold")
    what = {
        SCAN: f"of a {file.extent}, {_ml(file.outline_ml)}",
        MASK: _ml(file.outline_ml),
        LABEL_MAP: f"{len(file.labels)} values, {_meaning(file)}",
    }[file.kind]
    table.add_row(f"  {file.kind}", what)
    table.add_row("  grid", f"{_shape(file)} voxels of {_spacing(file)} mm, axes {file.axes}")
    table.add_row(
        "  values", f"{file.dtype}{_scaled(file)}, from {file.low:.6g} to {file.high:.6g}"
    )
    if file.age:
        table.add_row("  age", str(file.age))
    if file.kind == LABEL_MAP:
        for name in _ORDER:
            labels = [label for label in file.labels if label.name == name and label.value != 0]
            if labels:
                table.add_row(f"  {name or 'unknown'}", _volumes(labels))
    if file.remarks:
        about = ", ".join(dict.fromkeys(remark.about for remark in file.remarks))
        table.add_row("  warnings", f"{about}: see below", style="yellow")
    _print_table(console, table)
    console.print()


def _print_summary(console: Console, inspection: Inspection) -> None:
    counts = [(len(inspection.of_kind(kind)), kind) for kind in (SCAN, LABEL_MAP, MASK)]
    summary = ", ".join(f"{count} {kind}{'s' * (count != 1)}" for count, kind in counts)
    if inspection.series:
        files = f"{len(inspection.series)} file{'s' * (len(inspection.series) != 1)}"
        summary += f"; {files} with several volumes, left out"
    if inspection.failures:
        summary += f"; {len(inspection.failures)} cannot be read"
    console.print(Text(summary, style="bold"))

    grids = Counter(
        (file.kind, _shape(file), _spacing(file), file.axes, file.dtype)
        for file in inspection.files
    )
    table = _table("files", "what", "shape", "voxels, mm", "axes", "type")
    for row, count in grids.most_common(_MOST_GRIDS):
        table.add_row(str(count), *row)
    if grids:
        console.print()
        _print_table(console, table)
    if len(grids) > _MOST_GRIDS:
        console.print(Text(f"and {len(grids) - _MOST_GRIDS} further kinds of file"))

    label_maps = [file for file in inspection.of_kind(LABEL_MAP) if file.schema]
    if len(label_maps) > 1:
        table = _table("", "mean ml", "least", "most", first="left")
        for tissue in TISSUES:
            ml = [sum(v.ml for v in file.labels if v.name == tissue) for file in label_maps]
            table.add_row(tissue, *(f"{x:.1f}" for x in (sum(ml) / len(ml), min(ml), max(ml))))
        console.print()
        _print_table(console, table)


def _print_remarks(console: Console, inspection: Inspection, output: str) -> None:
    if inspection.failures:
        console.print(Text("\nCannot be read", style="bold red"))
        for failure in inspection.failures:
            _print_point(console, failure.sentence)
    remarks = inspection.all_remarks()
    if not remarks:
        console.print(Text("\nNo warnings.", style="bold green"))
        return
    console.print(Text("\nWarnings", style="bold yellow"))
    for about in dict.fromkeys(remark.about for remark in remarks):
        sentences = [remark.sentence for remark in remarks if remark.about == about]
        for sentence in sentences[:_MOST_ALIKE]:
            _print_point(console, sentence)
        if len(sentences) > _MOST_ALIKE:
            where = f"in {output}" if output else "with --output=FILE.json"
            more = len(sentences) - _MOST_ALIKE
            _print_point(console, f"and {more} more about {about}; see all of them {where}.")


def _print_point(console: Console, sentence: str) -> None:
    # Not rich's own wrapping, which would cut long paths in two.
    lines = textwrap.fill(
        sentence,
        min(console.width, _WIDTH),
        initial_indent="- ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    console.print(Text(lines), soft_wrap=True)


def _print_table(console: Console, table: Table) -> None:
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():  # which rich fills up with spaces
        print(line.rstrip(), file=console.file)


def _table(*columns: str, first: str = "right") -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        right = first == "left" and number > 0 or first == "right" and number == 0
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _meaning(file: FileReport) -> str:
    if not file.schema:
        return "meaning unknown"
    return f"schema '{file.schema}'{', assumed because it fits' * file.schema_assumed}"


def _volumes(labels: Sequence[LabelValue]) -> str:
    """The volume of a class, and of each of its values where there are several."""
    if len(labels) == 1:
        return f"{_ml(labels[0].ml)} (value {labels[0].value})"
    each = ", ".join(f"{label.value}={_digits(label.ml)}" for label in labels)
    return f"{_ml(sum(label.ml for label in labels))} (values {each})"


def _shape(file: FileReport) -> str:
    return "x".join(map(str, file.shape))


def _spacing(file: FileReport) -> str:
    return "x".join(f"{round(size, 3):g}" for size in file.spacing)


def _scaled(file: FileReport) -> str:
    return f" times {file.scale[0]:g} plus {file.scale[1]:g}" if file.scale else ""


def _ml(ml: float) -> str:
    return f"{_digits(ml)} ml"


def _digits(ml: float) -> str:
    return f"{ml:.1f}" if ml >= 0.1 else f"{ml:.1g}"
