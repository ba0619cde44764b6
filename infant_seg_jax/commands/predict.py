"""label scans, with the bundled model or with one of your own.

Each scan gets a label map with its own shape, affine and orientation: 0 background, 1 CSF, 2 gray
matter, 3 white matter, or the finer classes that a network of your own has learnt. The volume of
each in ml, and how sure the network is, are in tissue_volumes.tsv, what the values mean in
dseg.tsv, and how a label map was made in the JSON beside it.

    infant-seg predict --input=scan.nii.gz --output=labels
    infant-seg predict --input=scan.nii.gz --output=labels.nii.gz
    infant-seg predict --input=@scans.txt --output=labels
    infant-seg predict --checkpoint=runs/infant --input=scans --output=labels --mirror
    infant-seg predict --checkpoint=runs/infant --input=bids --output=bids/derivatives/infantseg
    infant-seg predict --checkpoint=runs/both --input=T1w.nii.gz,T2w.nii.gz --output=labels
    infant-seg predict --checkpoint=runs/fold-0 --checkpoint=runs/fold-1 --input=scans \\
        --mask='masks/{}_mask.nii.gz' --output=labels

The bundled model takes a T1w or a T2w of any age, of the whole head or of the brain
alone; docs/model_card.md says what it is good for. One of your own should be given what its
training data showed: if those scans were stripped of their skulls, strip yours or give its mask.

A folder is searched for volumes (.nii, .nii.gz, .mgz, .mgh, .hdr with .img), and the output mirrors
it; of nnU-Net's imagesTs, CASE_0000 and CASE_0001 are one case. A BIDS tree, or a
subject's or session's folder of one, becomes a BIDS derivative:
sub-*/ses-*/anat/*_desc-infantseg_dseg.nii.gz.

When the same command is run again, it goes on with what is not finished. A scan that cannot be
labelled stops no other; the exit status is 1 if there was one. Where OUTPUT is a file, it and its
JSON are all that is written.
"""

import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from tqdm import tqdm

from infant_seg_jax.data.schemas import SCHEMAS, find_schema
from infant_seg_jax.errors import InputError
from infant_seg_jax.paths import define_path
from infant_seg_jax.progress import detailed, note, progress, say

if TYPE_CHECKING:
    from infant_seg_jax.data.labels import ClassSet, LabelSchema
    from infant_seg_jax.labelling.labelling import Labeller, Outcome
    from infant_seg_jax.labelling.scans import Inputs
    from infant_seg_jax.prediction.predictor import Predictor

MEANT = ("input", "output")

_UNITS = {"B": 1, **{f"{letter}B": 1000**n for n, letter in enumerate("KMGT", 1)}}
_UNITS |= {f"{letter}IB": 1024**n for n, letter in enumerate("KMGT", 1)}
_SOURCE = "source"
_REPORT = "infant_seg_jax.report.report"
_TERMINATED = 128 + signal.SIGTERM


def define_flags(values: flags.FlagValues) -> None:
    define_path(
        "checkpoint",
        ["bundled"],
        "The folder of a training run or of an exported model, or 'bundled' for the model "
        "in this package; may be repeated, for the mean of several networks, as of the folds of "
        "one training.",
        repeated=True,
        flag_values=values,
    )
    define_path(
        "input",
        None,
        "A scan, a folder of scans, nnU-Net's imagesTs, a BIDS tree or a part of one, as sub-01; "
        "may be repeated, but for several trees. The modalities of one subject are joined by "
        "commas. @FILE stands for what a text or CSV file lists: a scan on each line, its "
        "modalities in columns.",
        required=True,
        repeated=True,
        flag_values=values,
    )
    define_path(
        "output",
        None,
        "The folder for the label maps; or, of one scan, the label map, as labels.nii.gz.",
        required=True,
        flag_values=values,
    )
    define_path(
        "mask",
        "",
        "The scan's brain mask; {} in it stands for the scan's name without its ending. Of a BIDS "
        "tree also the folder of a derivative with masks, or a pattern below the tree.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "modalities",
        [],
        "Of a BIDS tree: which images to label, as in T2w, if not those that the network names. "
        "Without this flag, a network of any modality uses a session's T1w and T2w together if "
        "they are on one grid, else the T1w, or else the T2w; where a session lacks the one "
        "modality of a network, its T1w or T2w is labelled, and is flagged.",
        flag_values=values,
    )
    define_path(
        "schema",
        "",
        f"Write the label values of this schema ({', '.join(SCHEMAS)}, or a YAML or JSON file) "
        "instead of our own; 'source': of the one in which the training's labels were drawn.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "probabilities",
        None,
        ["uint8", "float16", "float32"],
        "Write a map of each tissue's probability, too, in so many bits a voxel. NIfTI has no "
        "float16: those 16 bits are whole numbers, which the header scales.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "remove_islands",
        0.0,
        "Give every piece of a tissue smaller than so many ml to what it touches most; the largest "
        "piece of each tissue stays.",
        lower_bound=0.0,
        flag_values=values,
    )
    flags.DEFINE_bool(
        "mirror",
        False,
        "Predict each scan a second time with left and right exchanged, and average: slower, a "
        "little better, and it tells how far the two agree.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "refine",
        None,
        "Find the tissues again by the intensities of the scan itself, from where the network "
        "expects them; as the network's config says unless given: with the bundled one, "
        "and with no other.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "fix_orientation",
        False,
        "Where front and top of the brain surely are not where the scan's header says, label it as "
        "if they were; the label map lies on the scan as it is all the same. Left and right are "
        "never told apart.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "max_memory",
        "",
        "How much memory prediction may take, as in 4GB or 500MiB, which decides how much of a "
        "scan is predicted at once; by default what the machine and the device have free.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "overlap",
        None,
        "Share of a window that the next covers again; as the run's config says unless given.",
        lower_bound=0.0,
        upper_bound=0.95,
        flag_values=values,
    )
    flags.DEFINE_enum(
        "which",
        "best",
        ["best", "latest"],
        "Of a run, the checkpoint of the best validation Dice, or the latest.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "weights",
        None,
        ["raw", "averaged"],
        "Which weights, of a run with a moving average of them; averaged unless given.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "overwrite",
        False,
        "Label again what is labelled already. Without it, finished scans are skipped, and label "
        "maps that were made with other networks or settings are an error.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "report",
        True,
        "Draw OUTPUT/report.html, a page of slices, volumes and warnings, if OUTPUT is a folder.",
        flag_values=values,
    )


def run(values: flags.FlagValues) -> None:
    from infant_seg_jax.compilation import note_slow_convolutions, use_compilation_cache
    from infant_seg_jax.labelling.input_lists import expand_lists
    from infant_seg_jax.labelling.inputs import check_inputs, find_inputs

    max_memory = parse_bytes(values.max_memory) if values.max_memory else None
    named = expand_lists(values.input)
    check_inputs(named)
    use_compilation_cache()
    note_slow_convolutions()
    predictors = _predictors(values, max_memory)
    output = Path(values.output)
    modalities = predictors[0].expects.modalities
    inputs = find_inputs(named, output, modalities, values.modalities, values.mask)
    for sentence in (*inputs.notices, *inputs.failures):
        say(sentence)
    labeller = _labeller(values, predictors)
    detailed.set(len(inputs.scans) == 1)
    with _stopped_by_sigterm():
        _label(labeller, inputs, output, values.report and not inputs.is_one_file, max_memory)


def parse_bytes(text: str) -> int:
    """Bytes from `4GB`, `500MiB` or a plain number.

    Raises:
        InputError: it is none of these, or nothing.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?I?B)?\s*", text.upper())
    unit = (match[2] or "B") if match else ""
    size = int(float(match[1]) * _UNITS[unit]) if match and unit in _UNITS else 0
    if size <= 0:
        raise InputError(f"'{text}' is no amount of memory, expected one such as 4GB or 500MiB.")
    return size


def _schema(values: flags.FlagValues, classes: "ClassSet") -> "LabelSchema":
    """What to write of a network's classes: their own values, another schema's, or tissues.

    Raises:
        InputError: there is no such schema, or it has no value for a class.
    """
    from infant_seg_jax.data.labels import IGNORE, LabelSchema

    if values.schema == _SOURCE:
        from infant_seg_jax.store.loading import source_schema

        return source_schema(Path(values.checkpoint[0]))
    if not values.schema:
        return LabelSchema.of(classes)
    try:
        return find_schema(values.schema, classes)
    except InputError:
        schema = find_schema(values.schema)
    mixed = [one.name for one in classes.classes if one.tissue == IGNORE]
    if mixed and IGNORE not in schema.table.values():
        raise InputError(
            f"The schema '{schema.name}' has no value for {' and '.join(mixed)}, which are of no "
            "single tissue, expected one for 'ignore': write it into a file for --schema."
        )
    return schema


def _predictors(values: flags.FlagValues, max_memory: int | None) -> "list[Predictor]":
    from infant_seg_jax.store.loading import open_predictors

    return open_predictors(
        values.checkpoint,
        values.which,
        values.weights,
        mirror=values.mirror,
        max_memory=max_memory,
        fix_orientation=values.fix_orientation,
        overlap=values.overlap,
        refine=values.refine,
    )


def _labeller(values: flags.FlagValues, predictors: "list[Predictor]") -> "Labeller":
    from infant_seg_jax.labelling.labelling import Labeller
    from infant_seg_jax.labelling.provenance import Settings, identify, label_ids
    from infant_seg_jax.prediction.ensemble import Ensemble
    from infant_seg_jax.store.loading import model_path

    schema = _schema(values, predictors[0].expects.classes)
    segmenter = predictors[0] if len(predictors) == 1 else Ensemble(predictors)
    identities = tuple(
        identify(predictor, model_path(path))
        for predictor, path in zip(predictors, values.checkpoint, strict=True)
    )
    settings = Settings(
        mirror=values.mirror,
        overlap=predictors[0].overlap,
        label_ids=label_ids(schema),
        remove_islands_ml=values.remove_islands,
        probabilities=values.probabilities or "",
        masked=bool(values.mask),
        refine=all(predictor.refine for predictor in predictors),
        fix_orientation=values.fix_orientation,
    )
    return Labeller(segmenter.segment, identities, settings, schema, values.overwrite)


def _label(
    labeller: "Labeller", inputs: "Inputs", output: Path, report: bool, max_memory: int | None
) -> None:
    """Label everything, say how it goes and how it went, and draw the report.

    Exits with 1 if there was a scan that could not be labelled.
    """
    from infant_seg_jax.data.bids.names import some_of
    from infant_seg_jax.labelling.labelling import SKIPPED, WRITTEN
    from infant_seg_jax.prediction.memory import more_than_allowed

    if report:  # Loaded while the network works.
        threading.Thread(target=import_module, args=(_REPORT,), daemon=True).start()
    outcomes: list[Outcome] = []
    started = time.monotonic()
    try:
        with (
            progress("predicting", len(inputs.scans), unit="scan", lines=False) as bar,
            closing(labeller.label(inputs, output)) as labelled,
        ):
            for outcome in labelled:
                outcomes.append(outcome)
                for notice in outcome.notices:
                    say(notice)
                if outcome.failed:
                    say(outcome.what)
                else:
                    bar.write(str(outcome.scan.label_map), file=sys.stdout)
                bar.set_postfix_str(outcome.scan.prefix, refresh=False)
                bar.update()
                if bar.disable:
                    note(_line(outcome, len(outcomes), len(inputs.scans), started))
    except (KeyboardInterrupt, SystemExit):
        there = sum(scan.label_map.exists() for scan in inputs.scans)
        say(
            f"Stopped: {there} of {len(inputs.scans)} label maps are in {output}; the same command "
            "goes on with the others."
        )
        raise
    failed = [outcome.scan.prefix for outcome in outcomes if outcome.failed]
    failures, total = len(failed) + len(inputs.failures), len(outcomes) + len(inputs.failures)
    written, skipped = (sum(o.what == what for o in outcomes) for what in (WRITTEN, SKIPPED))
    there = written + skipped > 0
    where = f"; volumes in {output / 'tissue_volumes.tsv'}"
    say(
        f"{written} written, {skipped} skipped since they were finished, {failures} failed"
        f"{where * (there and not inputs.is_one_file)}."
    )
    too_much = more_than_allowed(max_memory) if written else ""
    if too_much:
        say(too_much)
    if report and there:
        import_module(_REPORT).tell_report([output])
        if not too_much and more_than_allowed(max_memory):
            say("The report took more memory than --max_memory allows: --noreport leaves it out.")
    if failures:
        names = f" ({some_of(failed, 10)})" if failed else ""
        sys.exit(f"infant-seg: predict: {failures} of {total} scans failed{names}, as said above.")


def _line(outcome: "Outcome", done: int, total: int, started: float) -> str:
    """What a bar would have shown, for output that is no terminal."""
    volumes = ", ".join(f"{name} {ml:.1f} ml" for name, ml in outcome.volumes_ml.items())
    what = "failed" if outcome.failed else outcome.what
    said = f"{done} of {total}: {outcome.scan.prefix} {what}{f' ({volumes})' if volumes else ''}"
    each = (time.monotonic() - started) / done
    left = tqdm.format_interval(each * (total - done))
    return said + (f"; {each:.1f} s a scan, {left} left" if done < total else "")


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
