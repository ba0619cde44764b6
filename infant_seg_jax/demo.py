"""The whole path on phantoms: adults, infants from the adult's weights and from scratch, a figure.

The question it puts: with few labeled infants and the same infant training, do the adult's
weights help? Both infant runs see the same patches for as many steps; the test phantoms are seen by
none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from infant_seg_jax import recipes
from infant_seg_jax.config import Config, default_config
from infant_seg_jax.data.phantom import (
    ADULT,
    ADULT_T1,
    INFANT,
    INFANT_T1,
    Anatomy,
    Contrast,
    write_cohort,
)
from infant_seg_jax.data.prepared import PreparedSet
from infant_seg_jax.data.preparing import prepare
from infant_seg_jax.data.sources.phantom import PHANTOM
from infant_seg_jax.data.volumes import read_image, read_label_map, write_label_map
from infant_seg_jax.evaluation.runs import measure_run
from infant_seg_jax.evaluation.score_files import write_dice, write_scores
from infant_seg_jax.evaluation.score_table import ScoreTable
from infant_seg_jax.files import check_is_new, write_json
from infant_seg_jax.progress import log
from infant_seg_jax.report.drawing.demo_figure import Curve, demo_figure
from infant_seg_jax.report.drawing.slices import Scan
from infant_seg_jax.report.pages.evaluated_cases import label_map_path
from infant_seg_jax.store.loading import open_predictor
from infant_seg_jax.store.run_folder import read_metrics
from infant_seg_jax.training.loop import train_and_evaluate

BATCH_SIZE = 4


@dataclass(frozen=True)
class Cohort:
    """Phantoms of one kind, and how many train, validate and test."""

    name: str
    contrast: Contrast
    anatomy: Anatomy
    train: int
    validation: int
    test: int

    @property
    def splits(self) -> list[str]:
        """The split of each phantom, in order."""
        return ["train"] * self.train + ["validation"] * self.validation + ["test"] * self.test


@dataclass(frozen=True)
class DemoSize:
    """How much of everything; the default takes minutes on two CPU cores."""

    adults: Cohort = Cohort("adult", ADULT_T1, ADULT, train=8, validation=2, test=0)
    infants: Cohort = Cohort("infant", INFANT_T1, INFANT, train=2, validation=1, test=6)
    shape: tuple[int, int, int] = (80, 96, 80)
    adult_steps: int = 300
    infant_steps: int = 150


@dataclass(frozen=True)
class DemoResult:
    """What the demo found on infants that no run has seen, and where it wrote its figure."""

    fine_tuned: ScoreTable
    from_scratch: ScoreTable
    figure: Path


def demo_config(data: Path, steps: int, seed: int, window: tuple[int, int, int]) -> Config:
    """A network and patches small enough for two cores; the same for adults and infants."""
    config = default_config()
    config.seed = seed
    config.data.path = str(data)
    recipes.fit_two_cores(config)
    recipes.augment_lightly(config)
    config.patch.shape = (32, 32, 32)
    config.patch.batch_size = BATCH_SIZE
    config.model.growth_rate = 10
    config.model.stem_features = 8
    config.optimizer.learning_rate = 2e-3
    config.steps = steps
    config.log_every = 10
    config.validate_every = max(1, steps // 5)
    config.inference.window = window
    return config


def run_demo(output: Path, seed: int = 0, size: DemoSize = DemoSize()) -> DemoResult:  # noqa: B008
    """Run everything into a new folder; the cohorts and the networks are drawn from `seed`.

    Raises:
        InputError: the folder exists already and is not empty, or cannot be written to.
    """
    check_is_new(output)
    log(
        "1/5  Drawing phantoms: adults with T1 contrast, and infants with little contrast between "
        "tissues."
    )
    adults = make_cohort(output, size.adults, size.shape, first_seed=1000 * seed)
    infants = make_cohort(output, size.infants, size.shape, first_seed=1000 * seed + 500)

    def config(data: PreparedSet, steps: int) -> Config:
        return demo_config(data.folder, steps, seed, size.shape)

    log("2/5  Training on adults.")
    train_and_evaluate(config(adults, size.adult_steps), output / "runs" / "adult")
    log("3/5  Fine-tuning on infants, from the adult weights.")
    transfer = config(infants, size.infant_steps)
    transfer.init.checkpoint = str(output / "runs" / "adult")
    train_and_evaluate(transfer, output / "runs" / "fine_tuned")
    log("4/5  Training on the same infants from scratch, with as many steps.")
    train_and_evaluate(config(infants, size.infant_steps), output / "runs" / "from_scratch")

    log("5/5  Measuring both on infants that neither network has seen.")
    tables = {name: _score(output, name, infants) for name in ("fine_tuned", "from_scratch")}
    write_json(
        output / "results.json",
        {"seed": seed}
        | {
            name: {row: round(found.mean, 4) for row, found in table.summary["dice"].items()}
            for name, table in tables.items()
        },
    )
    return DemoResult(**tables, figure=_draw(output, infants, tables))


def make_cohort(
    output: Path, cohort: Cohort, shape: tuple[int, int, int], first_seed: int
) -> PreparedSet:
    """Render a cohort's individuals, from `first_seed` on, and prepare them below `output`."""
    scans = output / "scans" / cohort.name
    write_cohort(
        scans,
        range(first_seed, first_seed + len(cohort.splits)),
        cohort.contrast,
        cohort.anatomy,
        prefix=cohort.name,
        shape=shape,
    )
    dataset = PHANTOM.open(scans)
    cases = tuple(
        replace(case, split=split) for case, split in zip(dataset.cases, cohort.splits, strict=True)
    )
    return prepare(replace(dataset, cases=cases), output / "prepared" / cohort.name)


def _score(output: Path, run: str, infants: PreparedSet) -> ScoreTable:
    """Measure a run on the infants that none has seen, and write all of it to `scores`."""
    checkpoint, scores = output / "runs" / run, output / "scores" / run
    about = {"checkpoint": str(checkpoint), "data": str(infants.folder), "split": "test", "fold": 0}
    table = measure_run(
        checkpoint, infants.folder, about["split"], keep=partial(label_map_path, scores)
    ).scores
    write_scores(scores, table, about)
    write_dice(scores, table)
    return table


def _draw(output: Path, infants: PreparedSet, tables: dict[str, ScoreTable]) -> Path:
    """Predict one unseen scan as `predict` would, write it as NIfTI, and draw the figure."""
    subject = infants.split("test")[0].case_id
    scan = output / "scans" / "infant" / subject / f"{subject}_T1w.nii.gz"
    volume = read_image(scan)
    label_map = open_predictor(output / "runs" / "fine_tuned").segment(volume).label_map
    write_label_map(output / "predictions" / f"{subject}_dseg.nii.gz", label_map, volume.native)
    truth = read_label_map(scan.with_name(f"{subject}_dseg.nii.gz")).data.astype(np.uint8)
    return demo_figure(
        output / "demo.png",
        Scan(volume.data[..., 0], label_map, volume.affine, truth),
        {"fine-tuned": tables["fine_tuned"], "from scratch": tables["from_scratch"]},
        _curves(output / "runs"),
    )


def _curves(runs: Path) -> Sequence[Curve]:
    adult = _curve(runs / "adult", "adults", 0)
    return (
        _curve(runs / "fine_tuned", "fine-tuned", adult.steps[-1]),
        _curve(runs / "from_scratch", "from scratch", 0),
        adult,
    )


def _curve(run: Path, name: str, first_step: int) -> Curve:
    lines = read_metrics(run)
    losses = [line for line in lines if "loss" in line]
    scores = [line for line in lines if "mean_dice" in line]
    return Curve(
        name,
        [first_step + line["step"] for line in losses],
        [line["loss"] for line in losses],
        [first_step + line["step"] for line in scores],
        [line["mean_dice"] for line in scores],
    )
