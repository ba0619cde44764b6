"""do all of it on phantoms made on the spot: no data needed, minutes on two CPU cores.

Renders adult and infant brain phantoms, trains on the adults, fine-tunes on two infants, trains
on the same infants from scratch, measures both on infants that neither has seen, writes one
prediction as NIfTI, and draws a figure and a page that says how good they are and where they fail.

    infant-seg demo --output=demo
"""

from pathlib import Path

from absl import flags

from infant_seg_jax.paths import define_path

MEANT = ("output",)


def define_flags(values: flags.FlagValues) -> None:
    define_path("output", "demo", "A new folder for everything.", flag_values=values)
    flags.DEFINE_bool("report", True, "Draw OUTPUT/report.html.", flag_values=values)
    flags.DEFINE_integer("seed", 0, "Draws the phantoms and the networks.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    import matplotlib

    matplotlib.use("agg")
    from infant_seg_jax.compilation import use_compilation_cache
    from infant_seg_jax.cpu_devices import use_cores_as_devices
    from infant_seg_jax.demo import BATCH_SIZE, run_demo
    from infant_seg_jax.report.report import PAGE, tell_report

    use_compilation_cache()
    use_cores_as_devices(BATCH_SIZE)
    output = Path(values.output)
    result = run_demo(output, values.seed)
    if values.report:
        tell_report([output])
    print(f"\nInfants that no run has seen, fine-tuned from adults:\n{result.fine_tuned}")
    print(f"\nThe same from scratch, with the same infant training:\n{result.from_scratch}")
    gain = result.fine_tuned.summary()["mean"][0] - result.from_scratch.summary()["mean"][0]
    print(f"\nFine-tuning changed the mean Dice by {gain:+.3f}.")
    print(
        f"""
The report:      {output / PAGE if values.report else "-"}
The figure:      {result.figure}
The scans:       {output / "scans"}
A prediction:    {next((output / "predictions").glob("*.nii.gz"))}
The runs:        {output / "runs"}   (tensorboard --logdir={output / "runs"})
The scores:      {output / "scores"}

Next, with a scan of your own, skull-stripped (trained on phantoms alone, expect little of it):
  infant-seg predict --checkpoint={output / "runs" / "adult"} --input=SCAN.nii.gz --output=labels
or with the IBSR dataset, which makes a model for real brains:
  infant-seg prepare --source=ibsr --input=IBSR --output=prepared/ibsr
  infant-seg train --config=configs/ibsr_cpu.py --workdir=runs/ibsr_cpu"""
    )
