"""do everything on phantoms; needs no data, and takes minutes on two CPU cores.

It draws phantoms of adult and infant brains, trains on the adults, fine-tunes on two infants,
trains on the same infants from scratch, measures both on infants that neither has seen, writes one
prediction as NIfTI, and draws a figure and a report.

    infant-seg demo --output=demo
"""

import shlex
import shutil
import sys
from pathlib import Path

from absl import flags

from infant_seg_jax.paths import define_path

INTENDED_FLAGS = ("output",)


def define_flags(values: flags.FlagValues) -> None:
    define_path("output", "demo", "A new folder for everything.", flag_values=values)
    flags.DEFINE_bool("report", True, "Write OUTPUT/report.html.", flag_values=values)
    flags.DEFINE_integer("seed", 0, "Seed of the phantoms and the networks.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    import matplotlib

    matplotlib.use("agg")
    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.cpu_devices import use_cores_as_devices
    from infant_seg_jax.demo import BATCH_SIZE, run_demo
    from infant_seg_jax.evaluation.score_table import MEAN, dice_in_words
    from infant_seg_jax.report.report import PAGE, print_report_path

    use_compilation_cache()
    use_cores_as_devices(BATCH_SIZE)
    output = Path(values.output)
    result = run_demo(output, values.seed)
    if values.report:
        print_report_path([output])
    tables = result.fine_tuned, result.from_scratch
    tuned, scratch = map(dice_in_words, tables)
    print(f"\nInfants that no run has seen, fine-tuned from adults:\n{tuned}")
    print(f"\nThe same infants, trained from scratch with as many steps:\n{scratch}")
    after, before = (table.summary["dice"][MEAN].mean for table in tables)
    program = _program()
    print(f"\nFine-tuning changed the mean Dice by {after - before:+.3f}.")
    print(
        f"""
The report:      {output / PAGE if values.report else "-"}
The figure:      {result.figure}
The scans:       {output / "scans"}
A prediction:    {next((output / "predictions").glob("*.nii.gz"))}
The runs:        {output / "runs"}
The scores:      {output / "scores"}

Next, label a scan of your own with the bundled model:
  {program} predict --input=SCAN.nii.gz --output=labels
If you have labeled scans, fine-tune it:
  {program} prepare --source=folder --input=SCANS --images='*_T1w' --labels='*_dseg' \\
      --output=prepared/mine
  {program} train --config=fine_tune_bundled --config.data.path=prepared/mine --workdir=runs/mine"""
    )


def _program() -> str:
    """What to type: a path, where the demo was started from outside its environment."""
    own = Path(sys.executable).with_name("infant-seg")
    return "infant-seg" if shutil.which("infant-seg") or not own.exists() else shlex.quote(str(own))
