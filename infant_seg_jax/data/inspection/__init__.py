"""Looking at what people have before anything is made of it: what is there, and what is odd.

`files` judges one file by its voxels and header, `sets` what only several tell together.
"""

from infant_seg_jax.data.inspection.files import inspect_file
from infant_seg_jax.data.inspection.reports import (
    LABEL_MAP,
    MASK,
    SCAN,
    Failure,
    FileReport,
    Inspection,
    LabelValue,
    Remark,
)
from infant_seg_jax.data.inspection.sets import inspect_paths

__all__ = [
    "LABEL_MAP",
    "MASK",
    "SCAN",
    "Failure",
    "FileReport",
    "Inspection",
    "LabelValue",
    "Remark",
    "inspect_file",
    "inspect_paths",
]
