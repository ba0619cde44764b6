"""The files that hold volumes: NIfTI-1 and -2, Analyze, MGH; their headers, grids and voxels.

`names` says which files are volumes, `reader` reads any of them, and each format has a module that
turns its header into a `grid.Layout`. NIfTI is written, and on demand MGH.
"""

from infant_seg_jax.data.formats.grid import MAX_VOXELS, Affine, Grid, Layout, Shape, times
from infant_seg_jax.data.formats.mgh import write_mgh
from infant_seg_jax.data.formats.names import (
    ENDINGS,
    ENDINGS_IN_WORDS,
    find_volumes,
    parts,
    stem,
    volumes_below,
)
from infant_seg_jax.data.formats.nifti import write_nifti
from infant_seg_jax.data.formats.reader import read_layout, read_voxels

__all__ = [
    "ENDINGS",
    "ENDINGS_IN_WORDS",
    "MAX_VOXELS",
    "Affine",
    "Grid",
    "Layout",
    "Shape",
    "find_volumes",
    "parts",
    "read_layout",
    "read_voxels",
    "stem",
    "times",
    "volumes_below",
    "write_mgh",
    "write_nifti",
]
