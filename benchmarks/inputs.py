"""What to measure with: the networks, and phantoms where there is no data.

`make_*` and `find_*` are for `measuring.in_a_process`, since they import much.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import REPOSITORY, Found

if TYPE_CHECKING:
    from infant_seg_jax.config import Config

Sizes = tuple[int, int, int]

TINY = {"growth_rate": 4, "stem_features": 4, "block_layers": (1, 1)}
"""A network for trying a benchmark out."""

BRAIN: Sizes = (160, 192, 160)
"""Voxels of 1 mm that hold an adult's brain."""


def network_config(tiny: bool = False) -> "Config":
    """The paper's network, or a tiny one."""
    from infant_seg_jax.config import default_config

    config = default_config()
    if tiny:
        config.model.update(TINY)
    return config


def torch_network(channels: int, **sizes: Any) -> Any:
    """The network in PyTorch, channels last, with random weights; by default the paper's."""
    import torch

    sys.path.insert(0, str(REPOSITORY / "tests"))
    from torch_twin import TorchSkipDenseNet3D  # pyright: ignore[reportMissingImports]

    return TorchSkipDenseNet3D(channels, **sizes).to(memory_format=torch.channels_last_3d)


def make_model_folder(folder: str, tiny: bool = False) -> Found:
    """Random weights of a network of one T1w scan, as a folder for `--checkpoint`."""
    from infant_seg_jax.data.foreground import BRAIN as STRIPPED
    from infant_seg_jax.data.prepared import ExpectedScans
    from infant_seg_jax.data.preprocessing import Preparation
    from infant_seg_jax.models.factory import make_model
    from infant_seg_jax.models.variables import init_variables
    from infant_seg_jax.store.model_folder import Model, write_model

    config = network_config(tiny)
    variables = init_variables(make_model(config), 1, seed=0)
    expects = ExpectedScans(("T1w",), Preparation(), (STRIPPED,))
    write_model(Path(folder), Model(config, variables, expects, {}))
    return {}


def make_phantoms(
    folder: str, shape: Sizes = BRAIN, count: int = 4, spacing_mm: float | None = None
) -> Found:
    """Adult phantoms, each a folder with scan and label map; they fill the shape unless spaced."""
    from infant_seg_jax.data.phantom import write_cohort

    spacing = spacing_mm or _spacing(shape)
    write_cohort(Path(folder), range(count), shape=_sizes(shape), spacing=spacing)
    return {}


def make_prepared(folder: str, source: str, data: str) -> Found:
    """A prepared set of the dataset's labeled cases."""
    from dataclasses import replace

    from infant_seg_jax.data.preparing import prepare
    from infant_seg_jax.data.sources import SOURCES

    dataset = SOURCES[source].open(Path(data))
    labeled = tuple(case for case in dataset.cases if case.labels)
    prepare(replace(dataset, cases=labeled), Path(folder))
    return {}


def find_scan(source: str, data: str) -> Found:
    """A labeled scan of a dataset, the first that is to validate on, and its label map."""
    from infant_seg_jax.data.sources import SOURCES

    dataset = SOURCES[source].open(Path(data))
    labeled = [case for case in dataset.cases if case.labels]
    case = min(labeled, key=lambda case: (case.split != "validation", case.case_id))
    return {
        "scan": str(case.images[0]),
        "truth": str(case.labels),
        "schema": dataset.schema.name,
    }


def make_anatomies(folder: str, shape: Sizes = (80, 96, 80)) -> Found:
    """Two phantoms' anatomies to render from, and one held out, in voxels as they are."""
    import numpy as np

    from infant_seg_jax.data.formats import Grid
    from infant_seg_jax.data.phantom import render_phantom
    from infant_seg_jax.data.schemas import TISSUE_SCHEMA
    from infant_seg_jax.data.volumes import write_label_map
    from infant_seg_jax.rendering.anatomy import LabelMapFile
    from infant_seg_jax.rendering.preparing import prepare_anatomies

    spacing = _spacing(shape)
    grid = Grid(_sizes(shape), np.diag([spacing, spacing, spacing, 1.0]))
    paths = [Path(folder) / "maps" / f"{name}.nii.gz" for name in ("one", "two", "three")]
    for seed, path in enumerate(paths):
        label_map = render_phantom(seed, shape=_sizes(shape), spacing=spacing).label_map
        write_label_map(path, label_map, grid)
    maps = [LabelMapFile(TISSUE_SCHEMA, path) for path in paths]
    prepare_anatomies(maps, Path(folder) / "set", spacing, held_out=["three"])
    return {}


def _sizes(shape: Sizes) -> Sizes:
    """A shape that may have come through JSON."""
    x, y, z = shape
    return x, y, z


def _spacing(shape: Sizes) -> float:
    """Millimeters of a voxel with which an adult's brain fills the shape."""
    return max(full / size for full, size in zip(BRAIN, shape, strict=True))
