"""write a trained network as one program for other software.

MODEL is the --workdir of a training run, a model folder, or 'bundled' for the bundled one; OUT is a
new folder. It will hold network.stablehlo, from windows of prepared scans to probabilities of the
classes, weights and all, and program.json, which says what goes in, what comes out, and what is to
be done before and after.
Any JAX of about the same time runs it, on a CPU, a GPU or a TPU, without this package:

    infant-seg export --format=jax models/infant programs/infant

    program = jax.export.deserialize(bytearray(open("network.stablehlo", "rb").read()))
    probabilities = program.call(windows)

Or network.onnx, for ONNX Runtime and others that read ONNX (pip install 'infant_seg_jax[onnx]'):

    infant-seg export --format=onnx models/infant programs/infant

    session = onnxruntime.InferenceSession("network.onnx")
    (probabilities,) = session.run(None, {"image": windows})

To pass a network on to people who have this package, `infant-seg export-model` is the better way.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

ARGUMENTS = "MODEL OUT"


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_enum(
        "format",
        "jax",
        ["jax", "onnx"],
        "jax: StableHLO, as jax.export serialises it. onnx: a graph of ONNX's operations.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "batch_size",
        1,
        "Windows that JAX's program takes at once; ONNX takes any.",
        1,
        flag_values=values,
    )
    flags.DEFINE_list(
        "platforms", ["cpu", "cuda", "tpu"], "What JAX's program is to run on.", flag_values=values
    )
    flags.DEFINE_string(
        "which",
        "best",
        "Of a run, the checkpoint: best (by validation Dice), latest, or the number of a step.",
        flag_values=values,
    )


def run(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    from infant_seg_jax.files import check_is_new
    from infant_seg_jax.store.loading import open_model
    from infant_seg_jax.store.program import PROGRAM_FILE, PROGRAMS, write_program

    source, folder = map(Path, arguments)
    check_is_new(folder)
    model = open_model(source, values.which)
    write_program(
        folder, model, values.format, batch_size=values.batch_size, platforms=values.platforms
    )
    program = folder / PROGRAMS[values.format]
    size = program.stat().st_size / 1e6
    print(f"The program is {program}, {size:.1f} MB; {PROGRAM_FILE} beside it explains it.")
