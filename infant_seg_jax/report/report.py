"""The page about runs, evaluations and predictions: what was found, then what it is drawn from."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from infant_seg_jax.data.bids.uris import extras_of
from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.score_files import read_table
from infant_seg_jax.progress import log, log_always
from infant_seg_jax.report.outputs import EVALUATION, PREDICTION, RUN, Output, find_outputs
from infant_seg_jax.report.pages.page import Section, write_page
from infant_seg_jax.report.pages.prediction import prediction_page
from infant_seg_jax.report.viewer.embedded import EmbeddedViewer

if TYPE_CHECKING:
    from infant_seg_jax.report.pages.training import RunPage

PAGE = "report.html"
_TITLES = {RUN: "Training", EVALUATION: "How good", PREDICTION: "Label maps"}
MAX_EVALUATIONS = 12
"""Of more than that, the first so many have a section of their own."""


def write_report(paths: Sequence[Path], page: Path | None = None, *, viewer: bool = False) -> Path:
    """Write one page about all that lies at `paths`.

    Args:
        paths: outputs of train, evaluate and predict, or folders of such, as a demo's.
        page: the file; `report.html` in the first of the paths unless given, of a BIDS dataset in
            its `docs`.
        viewer: whether it is to carry an interactive viewer, and the volumes of a few subjects.

    Raises:
        InputError: there is nothing to report of, something cannot be read, or the page cannot be
            written; or NiiVue is not installed.
    """
    outputs = find_outputs(paths)
    embedded = EmbeddedViewer() if viewer else None

    def of(kind: str) -> list[Output]:
        return [one for one in outputs if one.kind == kind]

    verdict: list[str] = []
    sections: list[Section] = []
    colors: dict[str, str] = {}
    evaluations = of(EVALUATION)
    if len(evaluations) > 1:
        # Not above: it loads SciPy's statistics, which take half a second.
        from infant_seg_jax.report.pages.comparison import comparison_page

        tables = {one.name: read_table(one.folder) for one in evaluations}
        if compared := comparison_page(tables):
            verdict += compared.verdict
            sections.append(Section("Which is better", "comparison.html", compared))
    for one in evaluations[:MAX_EVALUATIONS]:
        # Not above: it loads Matplotlib, which takes half a second.
        from infant_seg_jax.report.pages.evaluation import evaluation_page

        content = evaluation_page(one.folder, one.name, embedded)
        colors |= content.classes.colors
        verdict += [f"{one.name}: {' '.join(content.verdict)}"] if content.verdict else []
        sections.append(Section(f"How good: {one.name}", "evaluation.html", content))
    for one in of(PREDICTION):
        content = prediction_page(one.folder, one.name, embedded)
        colors |= content.classes.colors
        verdict.append(f"{one.name}: {' '.join(content.verdict)}")
        sections.append(Section(f"Labeled: {one.name}", "prediction.html", content))
    if runs := of(RUN):
        # Not above: it loads JAX, which takes seconds, and the other pages do not need it.
        from infant_seg_jax.report.pages.training import training_page

        # Those that were evaluated first: they have the same colors then as their scores.
        scored = [one.name for one in evaluations]
        runs.sort(key=lambda run: scored.index(run.name) if run.name in scored else len(scored))
        training = training_page({one.name: one.folder for one in runs})
        verdict = [*_starts(training.runs, scored), *verdict]
        sections.append(Section("Training", "training.html", training))
    if evaluations:
        verdict.append(
            "Dice says how well a tissue agrees with the truth: 1 is perfect agreement, 0 is none."
        )
    names = " and ".join(path.absolute().name for path in paths[:3])
    kinds = {one.kind for one in outputs}
    title = f"{_TITLES[kinds.pop()]}: {names}" if len(kinds) == 1 else names
    hint = shlex.join(["infant-seg", "report", *map(str, paths), "--viewer"])
    has_scans = bool(evaluations or of(PREDICTION))
    return write_page(
        page or extras_of(paths[0]) / PAGE,
        title,
        verdict,
        sections,
        embedded,
        hint if has_scans else "",
        has_truth=bool(evaluations),
        colors=colors or TISSUE_CLASSES.colors,
    )


def _starts(runs: Sequence["RunPage"], scored: Sequence[str]) -> list[str]:
    """From where those runs began that were evaluated, if they began from different weights."""
    starts = {run.name: Path(run.started_from).name for run in runs if run.name in scored}
    if len(set(starts.values())) < 2:
        return []
    sentences = [
        f"{name} started from {f'the weights of {start}' if start else 'random weights'}"
        for name, start in starts.items()
    ]
    return [f"{'; '.join(sentences)}."]


def print_report_path(paths: Sequence[Path], page: Path | None = None) -> None:
    """As `write_report`, at the end of a command, and say where the page is.

    The command does not fail if the page does: a sentence says why there is none.
    """
    try:
        log(f"Look at it: {write_report(paths, page)}")
    except Exception as error:  # Whatever it is: what was computed is written already.
        name = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        message = " ".join(f"{name}{error}".split())[:300]
        log_always(f"There is no report because it could not be drawn ({message}).")
