"""make a model folder from a PyTorch network's weights.

STATE_DICT is a state dict of the network of Bui, Shin and Moon (2019), saved as .safetensors or
.npz. PyTorch's own .pt and .pth files are pickles, which may run any program, so they are not
opened. If you trust such a file, convert it with

    import torch; from safetensors.torch import save_file
    save_file({name: tensor.contiguous() for name, tensor in
               torch.load("theirs.pth", "cpu", weights_only=True).items()}, "theirs.safetensors")

The network's sizes are read from the weights. Its classes must be background, CSF, GM and WM, in
this order, or those of the model that --like names. The weights do not say how the training scans
were prepared, so there are flags for that. Without a flag, the value comes from the model or run
that --like names, or else is the default. OUT is a new model folder, as `infant-seg export-model`
writes it.

    infant-seg import-weights --modalities=T1w,T2w theirs.safetensors models/theirs
    infant-seg import-weights --like=runs/adult theirs.npz models/theirs
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from infant_seg_jax.commands.config_flag import NAMES, define_config
from infant_seg_jax.commands.export_model import define_float16, report
from infant_seg_jax.paths import define_path

ARGUMENTS = "STATE_DICT OUT"


def define_flags(values: flags.FlagValues) -> None:
    define_path(
        "like",
        "",
        "A run folder or a model folder from which to take the modalities, the preparation and the "
        "windows.",
        flag_values=values,
    )
    define_config(
        values,
        "A config from which to take the network and the windows, instead of reading the network's "
        f"sizes from the weights: {NAMES}.",
    )
    flags.DEFINE_list(
        "modalities",
        None,
        "The image of each input channel, in order (default: T1w, or T1w,T2w).",
        flag_values=values,
    )
    flags.DEFINE_list(
        "extents",
        None,
        "What the training scans showed: brain, head, or both (default: brain).",
        flag_values=values,
    )
    flags.DEFINE_float(
        "margin_mm",
        None,
        "Margin kept on each side of the brain, in mm (default: 8).",
        flag_values=values,
    )
    flags.DEFINE_float(
        "spacing_mm",
        None,
        "Voxel size that scans are resampled to, in mm; 0 keeps each scan's own (default: 0).",
        flag_values=values,
    )
    flags.DEFINE_list(
        "clip_percentiles",
        None,
        "Percentiles of the brain's intensities to clip to (default: 0,100).",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "bias_correction",
        None,
        "Whether N4 corrects the bias field first (needs the extra n4; default: no).",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "brain_masks",
        None,
        "Whether everything outside brain masks is set to 0 (default: yes).",
        flag_values=values,
    )
    define_float16(values)


def run(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    from infant_seg_jax.commands.prepare import parse_percentiles
    from infant_seg_jax.files import check_is_new
    from infant_seg_jax.store.importing import import_state_dict
    from infant_seg_jax.store.loading import open_model
    from infant_seg_jax.store.model_folder import write_model

    source, folder = map(Path, arguments)
    check_is_new(folder)
    names = ("margin_mm", "spacing_mm", "bias_correction", "brain_masks")
    preparation = {name: values[name].value for name in names if values[name].value is not None}
    if values.clip_percentiles is not None:
        preparation["clip_percentiles"] = parse_percentiles(values.clip_percentiles)
    model = import_state_dict(
        source,
        like=open_model(Path(values.like)) if values.like else None,
        config=values.config,
        modalities=values.modalities or (),
        extents=values.extents or (),
        **preparation,
    )
    write_model(folder, model, float16=values.float16)
    report(folder)
