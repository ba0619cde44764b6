"""write a trained network as one program for other software.

MODEL is a run folder, a model folder, or 'bundled'; OUT is a new folder. It will contain
network.stablehlo, which has the weights and turns windows of prepared scans into probabilities of
the classes, and program.json, which describes its input and output and what to do before and after.
A JAX of about the same age runs it on a CPU, a GPU or a TPU, without this package:

    infant-seg export --format=jax models/infant programs/infant

    program = jax.export.deserialize(bytearray(open("network.stablehlo", "rb").read()))
    probabilities = program.call(windows)

It can also write network.onnx, for ONNX Runtime and other software that reads ONNX
(pip install 'infant_seg_jax[onnx]'):

    infant-seg export --format=onnx models/infant programs/infant

    session = onnxruntime.InferenceSession("network.onnx")
    (probabilities,) = session.run(None, {"image": windows})

For people who have this package, use `infant-seg export-model` instead.
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
        "jax: StableHLO, as serialized by jax.export. onnx: an ONNX graph.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "batch_size",
        1,
        "Windows that a JAX program takes at once; ONNX takes any number.",
        1,
        flag_values=values,
    )
    flags.DEFINE_list(
        "platforms", ["cpu", "cuda", "tpu"], "Where a JAX program can run.", flag_values=values
    )
    flags.DEFINE_string(
        "which",
        "best",
        "Which checkpoint of a run: best (by validation Dice), latest, or the number of a step.",
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
    print(f"The program is {program}, {size:.1f} MB. {PROGRAM_FILE} beside it describes it.")
