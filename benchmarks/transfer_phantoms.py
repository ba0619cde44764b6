"""What an adult's weights bring on phantoms of infants, against the number of labeled ones.

    python benchmarks/transfer_phantoms.py --output=transfer [--seeds=2] [--subjects=1,2,4,all]

Adults and infants are the demo's, with more infants to train and to test on. Every run takes the
demo's steps; an interrupted comparison goes on when it is started again.
"""

import argparse
from pathlib import Path

from infant_seg_jax.compilation import use_compilation_cache
from infant_seg_jax.data.phantom import INFANT, INFANT_T1
from infant_seg_jax.data.prepared import PreparedSet, open_prepared
from infant_seg_jax.demo import Cohort, DemoSize, demo_config, make_cohort
from infant_seg_jax.report.transfer import describe, draw_transfer, write_transfer
from infant_seg_jax.training.loop import train_and_evaluate
from infant_seg_jax.training.sweeps import compare_transfer

SIZE = DemoSize(infants=Cohort("infant", INFANT_T1, INFANT, train=8, validation=1, test=8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--subjects", default="1,2,4,all")
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    counts = [0 if part == "all" else int(part) for part in arguments.subjects.split(",")]
    use_compilation_cache()
    output = arguments.output
    adults = _cohort(output, SIZE.adults, first_seed=0)
    infants = _cohort(output, SIZE.infants, first_seed=500)

    adult = output / "runs" / "adult"
    train_and_evaluate(demo_config(adults.folder, SIZE.adult_steps, 0, SIZE.shape), adult)
    config = demo_config(infants.folder, SIZE.infant_steps, 0, SIZE.shape)
    config.validate_every = config.steps
    config.init.checkpoint = str(adult)
    results = compare_transfer(config, output / "runs" / "infants", counts, arguments.seeds)
    write_transfer(output / "comparison.json", results)
    draw_transfer(output / "comparison.png", results)
    print(describe(results))


def _cohort(output: Path, cohort: Cohort, first_seed: int) -> PreparedSet:
    prepared = output / "prepared" / cohort.name
    if prepared.exists():
        return open_prepared(prepared)
    return make_cohort(output, cohort, SIZE.shape, first_seed)


if __name__ == "__main__":
    main()
