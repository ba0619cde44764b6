"""make a model of a PyTorch network's weights.

STATE_DICT is a state dict of the network of Bui, Shin and Moon (2019), saved as .safetensors or
.npz; PyTorch's own .pt and .pth files are pickles, which may run any program, and are not opened.
Save theirs with

    import torch; from safetensors.torch import save_file
    save_file({name: tensor.contiguous() for name, tensor in
               torch.load("theirs.pth", "cpu", weights_only=True).items()}, "theirs.safetensors")

The network's sizes are read off the weights; its classes have to be background, CSF, GM and WM, in
this order, or those of the model that --like names. How its training scans were prepared is not in
the weights: say it, or what you leave out is as in the model or run that --like names, or else the
default. OUT is a new model folder, as `infant-seg export-model` writes it; predict, evaluate and
--config.init.checkpoint take it.

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
        "The --workdir of a run, or a model folder, whose modalities, preparation and windows to "
        "take.",
        flag_values=values,
    )
    define_config(
        values,
        "The config whose network and windows to take, instead of reading the network's sizes off "
        f"the weights: {NAMES}.",
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
        "What the scans showed: brain, head or both (default: brain).",
        flag_values=values,
    )
    flags.DEFINE_float(
        "margin_mm",
        None,
        "Surroundings kept on each side of the brain, in mm (default: 8).",
        flag_values=values,
    )
    flags.DEFINE_float(
        "spacing_mm",
        None,
        "Voxel size that all is resampled to, in mm; 0 keeps each scan's own (default: 0).",
        flag_values=values,
    )
    flags.DEFINE_list(
        "clip_percentiles",
        None,
        "Intensities are clipped to these percentiles of the brain's (default: 0,100).",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "bias_correction",
        None,
        "Whether N4 evens out intensities first (needs the extra n4; default: no).",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "brain_masks",
        None,
        "Whether what lies outside brain masks is blanked (default: yes).",
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
