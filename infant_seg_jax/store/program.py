"""A trained network as one program, which runs without this package.

network.stablehlo   windows of prepared scans to class probabilities, as `jax.export` serializes it,
network.onnx        or as an ONNX graph
program.json        what goes in and comes out, and what is to be done before and after

https://docs.jax.dev/en/latest/export/export.html says how long such programs are understood.
"""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, export
from jaxtyping import Float

from infant_seg_jax.config import SKIP_DENSENET
from infant_seg_jax.data.class_sets import to_record
from infant_seg_jax.data.formats.grid import times
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import atomic_folder, sha256, write_json
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.store.model_folder import Model
from infant_seg_jax.store.onnx_graph import OPSET, to_onnx

JAX, ONNX = "jax", "onnx"
PROGRAMS = {JAX: "network.stablehlo", ONNX: "network.onnx"}
PROGRAM_FILE = "program.json"
PLATFORMS = ("cpu", "cuda", "tpu")

_BEFORE = (
    "Bring the scan's axes into RAS+ order: x points to the right, y to anterior, z to superior.",
    "Find everything that is not air (in a skull-stripped scan: the brain), or use a brain mask; "
    "crop to it with a margin of preparation.margin_mm on every side.",
    "Resample to preparation.spacing_mm along each axis; 0 keeps the scan's own voxels.",
    "Clip each channel to preparation.clip_percentiles of its values in the brain, then normalize "
    "them to zero mean and unit variance. Outside the brain, all values are exactly 0.",
    "Cut windows of the input's shape, with neighbors overlapping by windows.overlap of their "
    "size; pad volumes smaller than a window with zeros.",
)
_BLEND = (
    "Average the windows' probabilities with Gaussian weights, with a standard deviation of an "
    "eighth of the window's size, around its center."
)
_REFINE = (
    "Apply intensity-based refinement to these probabilities: "
    "infant_seg_jax.prediction.refinement.refine(probabilities, image, brain, spacing). "
    "Without it, the labels are those of `infant-seg predict --norefine`."
)
_AFTER = (
    "Resample the probabilities to the scan's own voxels, linearly.",
    "Label each voxel with its most probable class, and everything outside the crop as background.",
)


def write_program(
    folder: Path,
    model: Model,
    form: str = JAX,
    *,
    batch_size: int = 1,
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Write a network as a program, whole or not at all.

    That of JAX takes windows of one shape; an ONNX graph takes any number of any size.

    Args:
        folder: a new one.
        model: the network; its `config.inference.window` is the windows' shape.
        form: `"jax"` or `"onnx"`.
        batch_size: windows that JAX's program takes at once.
        platforms: of JAX's names, those that JAX's program is to run on.

    Raises:
        InputError: a platform is unknown, the package onnx is wanted and not installed, or the
            folder exists already or cannot be written.
    """
    unknown = sorted(set(platforms) - set(PLATFORMS))
    if unknown or not platforms:
        raise InputError(
            f"The platforms are {', '.join(platforms) or 'none'}, expected some of "
            f"{', '.join(PLATFORMS)}{f'; unknown: {unknown}' if unknown else ''}."
        )
    window = tuple(model.config.inference.window)
    shape = (batch_size, *window, len(model.expects.modalities))
    if form == ONNX:
        if model.config.model.name != SKIP_DENSENET:
            raise InputError(
                f"The network is a {model.config.model.name}, expected a {SKIP_DENSENET}, the only "
                "one that can be an ONNX graph: export it with --format=jax."
            )
        content = to_onnx(model).SerializeToString(deterministic=True)
    else:
        content = bytes(export_network(model, shape, platforms).serialize())
    with atomic_folder(folder) as temporary:
        program = temporary / PROGRAMS[form]
        program.write_bytes(content)
        about = {"file": program.name, "sha256": sha256(program), **_forms(platforms)[form]}
        write_json(temporary / PROGRAM_FILE, {**_describe(model, shape), "program": about})


def export_network(
    model: Model, shape: tuple[int, ...], platforms: Sequence[str]
) -> export.Exported:
    """The network with its weights, from float32 images of `shape` to probabilities."""
    network = make_model(model.config, num_classes=len(model.expects.classes))
    variables = jax.tree.map(jnp.asarray, model.variables)

    @jax.jit
    def predict(image: Float[Array, "n x y z c"]) -> Array:
        logits = network.apply(variables, image)
        assert isinstance(logits, Array)
        return jax.nn.softmax(logits)

    return export.export(predict, platforms=tuple(platforms))(
        jax.ShapeDtypeStruct(shape, np.float32)
    )


def _forms(platforms: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {
        JAX: {
            "format": "jax.export: jax.export.deserialize(bytearray).call(image)",
            "platforms": list(platforms),
        },
        ONNX: {
            "format": f"ONNX, opset {OPSET}: image to probabilities; any number of windows, of any "
            "size that the network's blocks can halve",
        },
    }


def _describe(model: Model, shape: tuple[int, ...]) -> dict[str, Any]:
    settings = model.config.inference
    return {
        "written_by": f"infant_seg_jax {version('infant_seg_jax')}, jax {version('jax')}",
        "input": {
            "shape": list(shape),
            "axes": ["window", "x (right)", "y (anterior)", "z (superior)", "modality"],
            "dtype": "float32",
            "modalities": list(model.expects.modalities),
        },
        "output": {
            "shape": [*shape[:-1], len(model.expects.classes)],
            "dtype": "float32",
            "meaning": "probabilities of the classes, which sum to 1",
            "classes": to_record(model.expects.classes),
        },
        "preparation": asdict(model.expects.preparation),
        "extents": list(model.expects.extents),
        "windows": {"shape": times(shape[1:4]), "overlap": settings.overlap},
        "before": list(_BEFORE),
        "after": [_BLEND, *([_REFINE] if settings.refine else []), *_AFTER],
    }
