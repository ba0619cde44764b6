"""A model from a PyTorch state dict of the authors' network."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from infant_seg_jax.config import Config, check_config, default_config
from infant_seg_jax.data.foreground import BRAIN
from infant_seg_jax.data.prepared import ExpectedScans
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import sha256
from infant_seg_jax.models.torch_import import load_torch_state_dict
from infant_seg_jax.models.variables import by_path
from infant_seg_jax.store.array_files import read_state_dict
from infant_seg_jax.store.model_folder import Model, check_shapes

DEFAULT_MODALITIES = {1: ("T1w",), 2: ("T1w", "T2w")}
"""By the number of input channels."""


def import_state_dict(
    path: Path,
    *,
    like: Model | None = None,
    config: Config | None = None,
    modalities: Sequence[str] = (),
    extents: Sequence[str] = (),
    **preparation: Any,
) -> Model:
    """A model from a file that holds a state dict of the authors' PyTorch network.

    What the file cannot tell is what is given here, else as in `like`, else the default: the
    modalities T1w, or T1w and T2w, by the number of input channels; scans stripped of their
    skulls; `Preparation()`; the windows of `default_config()`; the classes background, CSF, GM
    and WM, in this order.

    Args:
        path: the file, .safetensors or .npz.
        like: another model.
        config: its `model` must be that of the weights; None: the sizes are read off these.
        modalities: one for each input channel.
        extents: `"brain"`, `"head"` or both.
        **preparation: fields of a `Preparation`.

    Raises:
        InputError: the file or what is said about it cannot be used, or they do not fit together.
    """
    path = Path(path)
    arrays = read_state_dict(path)
    given = like.expects if like else ExpectedScans((), Preparation(), (BRAIN,))
    try:
        variables = load_torch_state_dict(arrays, len(given.classes))
    except InputError as error:
        raise InputError(f"{path} cannot be imported: {error}") from error
    channels = variables["params"]["stem_conv0"]["kernel"].shape[-2]
    default = given.modalities if like else DEFAULT_MODALITIES.get(channels, ())
    expects = replace(
        given,
        modalities=tuple(modalities) or default,
        preparation=replace(given.preparation, **preparation),
        extents=tuple(extents) or given.extents,
    )
    if len(expects.modalities) != channels:
        raise InputError(
            f"{path} contains a network with {channels} input channels, expected a modality for "
            f"each instead of {', '.join(expects.modalities) or 'none'}: give them, as in "
            "--modalities=T1w,T2w."
        )
    if config is None:
        config = _with_sizes_of(variables["params"], like.config if like else default_config())
    check_config(config)
    check_shapes(by_path(variables), config, expects, path)
    source = {"file": path.name, "sha256": sha256(path)}
    return Model(config, variables, expects, {"imported_from": source})


def _with_sizes_of(params: dict[str, Any], base: Config) -> Config:
    """A config whose network has the sizes of these parameters."""
    config = base.copy_and_resolve_references()
    blocks = sum(name.startswith("block") for name in params)
    layers = [params[f"block{index + 1}"] for index in range(blocks)]
    config.model.block_layers = tuple(len(block) for block in layers)
    config.model.growth_rate = layers[0]["layer1"]["conv2"]["kernel"].shape[-1]
    config.model.stem_features = params["stem_conv0"]["kernel"].shape[-1]
    config.patch.shape = config.inference.window  # No patch is cut: it has to suit, no more.
    return config
