"""Many scans, one after another: what `predict` and `strip` have in common."""

import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from tqdm import tqdm

from infant_seg_jax.errors import InputError
from infant_seg_jax.progress import detailed, log, log_always, progress

if TYPE_CHECKING:
    from infant_seg_jax.labeling.labeling import Outcome, Segment
    from infant_seg_jax.labeling.provenance import ModelIdentity
    from infant_seg_jax.labeling.scans import Inputs
    from infant_seg_jax.prediction.predictor import Predictor

_UNITS = {"B": 1, **{f"{letter}B": 1000**n for n, letter in enumerate("KMGT", 1)}}
_UNITS |= {f"{letter}IB": 1024**n for n, letter in enumerate("KMGT", 1)}
_REPORT = "infant_seg_jax.report.report"
_TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Start:
    """What is known before any network is loaded.

    Attributes:
        values: the flags, of `define_scans` at least.
        named: the files and folders.
        max_memory: in bytes; None for what is free.
        shard: which part of how many; None for all.
    """

    values: flags.FlagValues
    named: Sequence[str]
    max_memory: int | None
    shard: tuple[int, int] | None

    @property
    def output(self) -> Path:
        """Where the results go."""
        return Path(self.values.output)

    def find(self, modalities: Sequence[str], masks: str = "") -> "Inputs":
        """The scans for a network of such modalities; what is odd about them is said.

        Raises:
            InputError: as `find_inputs`.
        """
        from infant_seg_jax.labeling.inputs import find_inputs

        values = self.values
        inputs = find_inputs(
            *(self.named, self.output, modalities, values.modalities, masks),
            *(values.participant_label, values.session_label),
        )
        if self.shard:
            inputs = inputs.shard(*self.shard)
        for sentence in (*inputs.notices, *inputs.failures):
            log_always(sentence)
        return inputs


def begin(values: flags.FlagValues) -> Start:
    """Read what is asked for, as far as that takes no network.

    Raises:
        InputError: a flag makes no sense, or a file or folder is missing.
    """
    from infant_seg_jax.compilation import note_slow_convolutions, use_compilation_cache
    from infant_seg_jax.labeling.input_lists import expand_lists
    from infant_seg_jax.labeling.inputs import check_inputs

    max_memory = parse_bytes(values.max_memory) if values.max_memory else None
    shard = parse_shard(values.shard) if values.shard else None
    named = expand_lists(values.input)
    check_inputs(named)
    use_compilation_cache()
    note_slow_convolutions()
    return Start(values, named, max_memory, shard)


def as_ensemble(
    predictors: "list[Predictor]", paths: Sequence[str]
) -> "tuple[Segment, tuple[ModelIdentity, ...]]":
    """What segments by the mean of several networks, and which they are, given their `paths`."""
    from infant_seg_jax.labeling.provenance import identify
    from infant_seg_jax.prediction.ensemble import Ensemble
    from infant_seg_jax.store.loading import model_path

    one = predictors[0] if len(predictors) == 1 else Ensemble(predictors)
    identities = (
        identify(predictor, model_path(path))
        for predictor, path in zip(predictors, paths, strict=True)
    )
    return one.segment, tuple(identities)


def parse_bytes(text: str) -> int:
    """Bytes from `4GB`, `500MiB` or a plain number.

    Raises:
        InputError: it is none of these, or nothing.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?I?B)?\s*", text.upper())
    unit = (match[2] or "B") if match else ""
    size = int(float(match[1]) * _UNITS[unit]) if match and unit in _UNITS else 0
    if size <= 0:
        raise InputError(
            f"'{text}' is not an amount of memory, expected one such as 4GB or 500MiB."
        )
    return size


def parse_shard(text: str) -> tuple[int, int]:
    """Which part of how many, from `3/16`.

    Raises:
        InputError: it is none of them.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if match and 1 <= int(match[1]) <= int(match[2]):
        return int(match[1]), int(match[2])
    raise InputError(
        f"--shard is {text}, expected which part of how many, as in 3/16, from 1/16 to 16/16."
    )


def go_through(
    work: "Callable[[Inputs, Path], Generator[Outcome, None, None]]",
    inputs: "Inputs",
    start: Start,
    command: str,
    *,
    what: str = "label maps",
    table: Path | None = None,
    report: bool = False,
) -> None:
    """Do the work for every scan, say how it goes and how it went, and draw the report.

    Args:
        work: as `Labeler.label`.
        inputs: the scans.
        start: where the results go.
        command: its name.
        what: it writes.
        table: of volumes, which the work writes; None where there is none.
        report: whether to draw one.

    Exits with 1 if there was a scan for which it could not be done.
    """
    from infant_seg_jax.errors import some_of
    from infant_seg_jax.labeling.labeling import SKIPPED, WRITTEN
    from infant_seg_jax.prediction.memory import more_than_allowed

    if report:  # Loaded while the network works.
        threading.Thread(target=import_module, args=(_REPORT,), daemon=True).start()
    outcomes: list[Outcome] = []
    output, max_memory = start.output, start.max_memory
    started = time.monotonic()
    detailed.set(len(inputs.scans) == 1)
    try:
        with (
            _stopped_by_sigterm(),
            progress("predicting", len(inputs.scans), unit="scan", lines=False) as bar,
            closing(work(inputs, output)) as labeled,
        ):
            for outcome in labeled:
                outcomes.append(outcome)
                for notice in outcome.notices:
                    log_always(notice)
                if outcome.failed:
                    log_always(outcome.what)
                else:
                    bar.write(str(outcome.scan.label_map), file=sys.stdout)
                bar.set_postfix_str(outcome.scan.prefix, refresh=False)
                bar.update()
                if bar.disable:
                    log(_line(outcome, len(outcomes), len(inputs.scans), started))
                elif outcome.volumes_ml:
                    log(f"{_result(outcome)}.")
    except (KeyboardInterrupt, SystemExit):
        there = sum(scan.label_map.exists() for scan in inputs.scans)
        log_always(
            f"Stopped: {there} of {len(inputs.scans)} {what} are in {output}. Run the same "
            "command again to continue."
        )
        raise
    failed = [outcome.scan.prefix for outcome in outcomes if outcome.failed]
    failures, total = len(failed) + len(inputs.failures), len(outcomes) + len(inputs.failures)
    written, skipped = (sum(o.what == what for o in outcomes) for what in (WRITTEN, SKIPPED))
    there = written + skipped > 0
    where = f"; volumes in {table}" if table and there else ""
    log_always(
        f"{written} written, {skipped} skipped (already finished), {failures} failed{where}."
    )
    too_much = more_than_allowed(max_memory) if written else ""
    if too_much:
        log_always(too_much)
    if report and there:
        import_module(_REPORT).print_report_path([output])
        if not too_much and more_than_allowed(max_memory):
            log_always(
                "The report used more memory than --max_memory allows; --noreport leaves it out."
            )
    if failures:
        names = f" ({some_of(failed, 10)})" if failed else ""
        sys.exit(f"infant-seg: {command}: {failures} of {total} scans failed{names}; see above.")


def _line(outcome: "Outcome", done: int, total: int, started: float) -> str:
    """What a bar would have shown, for output that is no terminal."""
    line = f"{done} of {total}: {_result(outcome)}"
    each = (time.monotonic() - started) / done
    left = tqdm.format_interval(each * (total - done))
    return line + (f"; {each:.1f} s a scan, {left} left" if done < total else "")


def _result(outcome: "Outcome") -> str:
    """What became of a scan, with its volumes and the Dice to expect."""
    volumes = ", ".join(f"{name} {ml:.1f} ml" for name, ml in outcome.volumes_ml.items())
    what = "failed" if outcome.failed else outcome.what
    expected = f"; expected Dice {outcome.expected_dice}" if outcome.expected_dice else ""
    return f"{outcome.scan.prefix} {what}{f' ({volumes})' if volumes else ''}{expected}"


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """End in order when schedulers say so; in the main thread, where signals are heard."""

    def stop(number: int, frame: object) -> None:
        del number, frame
        sys.exit(_TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
