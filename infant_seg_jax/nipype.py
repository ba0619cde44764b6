"""An interface for Nipype (Gorgolewski et al., Frontiers in Neuroinformatics 5, 2011): `predict`.

It needs the extra `nipype`, and `infant-seg` on the PATH where the workflow runs.
"""

import shlex
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    CommandLine,
    CommandLineInputSpec,
    Directory,
    File,
    InputMultiPath,
    OutputMultiPath,
    TraitedSpec,
    traits,
)

from infant_seg_jax.labeling.inputs import find_files
from infant_seg_jax.labeling.scans import table_of

_UNQUOTED = ("in_files", "schema", "max_memory")
"""Inputs that Nipype writes into the command line as they are; it quotes single paths."""


class PredictInputSpec(CommandLineInputSpec):
    """What `infant-seg predict` is given for one subject."""

    in_files = InputMultiPath(
        File(exists=True),
        mandatory=True,
        argstr="--input=%s",
        sep=",",
        desc="the scan; for several modalities one of each, in the order of the model",
    )
    checkpoint = InputMultiPath(
        traits.Str(),
        argstr="--checkpoint=%s...",
        desc="an installed model's name, a model folder or a run folder; several are averaged; "
        "by default the bundled model",
    )
    mask = File(exists=True, argstr="--mask=%s", desc="the brain mask")
    out_dir = Directory(
        "labels", usedefault=True, argstr="--output=%s", desc="the folder for what is written"
    )
    schema = traits.Str(argstr="--schema=%s", desc="the label values to write, a name or a file")
    mirror = traits.Bool(argstr="--mirror", desc="also predict the mirrored scan, and average")
    refine = traits.Bool(
        argstr="--refine", desc="intensity-based refinement; by default as the model says"
    )
    fix_orientation = traits.Bool(
        argstr="--fix_orientation", desc="correct a header that is certainly wrong"
    )
    remove_islands = traits.Float(
        argstr="--remove_islands=%g", desc="the size, in ml, below which islands are relabeled"
    )
    probabilities = traits.Enum(
        *("uint8", "float16", "float32"),
        argstr="--probabilities=%s",
        desc="also write a map of each tissue's probability, with this data type",
    )
    max_memory = traits.Str(argstr="--max_memory=%s", nohash=True, desc="as in 4GB")
    num_threads = traits.Int(argstr="--threads=%d", nohash=True, desc="CPU threads to use")


class PredictOutputSpec(TraitedSpec):
    """What it writes."""

    label_map = File(exists=True, desc="the label map, on the grid of the (first) scan")
    sidecar = File(exists=True, desc="how it was made, volumes and warnings, as JSON")
    brain_mask = File(exists=True, desc="the brain mask")
    volumes = File(exists=True, desc="the table of volumes")
    probability_maps = OutputMultiPath(File(exists=True), desc="of the tissues, if wanted")


class Predict(CommandLine):
    """Label a scan as CSF, gray matter and white matter, or as a network's finer classes.

    >>> from infant_seg_jax.nipype import Predict  # doctest: +SKIP
    >>> Predict(in_files="scan.nii.gz", mirror=True).run().outputs.label_map  # doctest: +SKIP
    """

    _cmd = "infant-seg predict --noreport --quiet"
    input_spec = PredictInputSpec
    output_spec = PredictOutputSpec

    def _format_arg(self, name: str, trait_spec: Any, value: Any) -> str | None:
        """A flag, as a word of a shell."""
        if name == "checkpoint":
            return shlex.join(f"--checkpoint={one}" for one in value)
        if name == "refine" and not value:
            return "--norefine"
        found = super()._format_arg(name, trait_spec, value)
        return shlex.quote(found) if found and name in _UNQUOTED else found

    def _run_interface(self, runtime: Any, correct_return_codes: tuple[int, ...] = (0,)) -> Any:
        """Raise the messages of `predict` if it failed: outputs of an earlier run may be there."""
        runtime = super()._run_interface(runtime, correct_return_codes)
        if runtime.returncode not in correct_return_codes:
            self.raise_exception(runtime)
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        inputs: Any = self.inputs
        folder, images = Path(inputs.out_dir).absolute(), inputs.in_files
        (scan,) = find_files([",".join(images)], folder, len(images)).scans
        found = {
            "label_map": scan.label_map,
            "sidecar": scan.sidecar,
            "brain_mask": scan.brain_mask,
            "volumes": table_of(folder),
        }
        maps = sorted(scan.probability_map("*").parent.glob(scan.probability_map("*").name))
        return {name: str(path) for name, path in found.items()} | {
            "probability_maps": list(map(str, maps))
        }
