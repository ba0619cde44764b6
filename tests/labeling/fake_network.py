"""A stand-in for a network: the class of a voxel is its intensity modulo 4."""

import numpy as np

from infant_seg_jax.data.schemas import TISSUE_SCHEMA
from infant_seg_jax.data.volumes import Volume
from infant_seg_jax.errors import InputError
from infant_seg_jax.labeling.labeling import Labeler
from infant_seg_jax.labeling.provenance import ModelIdentity, Settings
from infant_seg_jax.prediction.confidence import Confidence
from infant_seg_jax.prediction.segmentation import Placement, Segmentation

SURE = 0.7
OURS = {"background": 0, "CSF": 1, "GM": 2, "WM": 3}


def classes_of(data) -> np.ndarray:
    return (data.astype(int) % 4).astype(np.uint8)


def segment(volume: Volume, mask=None) -> Segmentation:
    """Classes by intensity, background outside the mask; their probabilities are 0.7 and 0.1."""
    if volume.data.max() > 1e6:
        raise InputError(f"{volume.path} is too bright.")
    label_map = classes_of(volume.data[..., 0])
    if mask is not None:
        label_map[~mask] = 0
    probabilities = np.full((*volume.shape, 4), (1 - SURE) / 3, np.float32)
    np.put_along_axis(probabilities, label_map[..., None].astype(int), np.float32(SURE), axis=-1)
    x, y, z = (slice(0, size) for size in volume.shape)
    placement = Placement(volume.shape, (x, y, z), volume.affine, volume.affine, False)
    unusual = (f"{volume.path} is dim.",) if volume.data.max() < 50 else ()
    confidence = Confidence(0.25, float("nan"), unusual)
    return Segmentation(label_map, unusual, confidence, probabilities, placement)


def labeler(
    schema=TISSUE_SCHEMA, overwrite=False, model="a", segment=segment, **settings
) -> Labeler:
    chosen = Settings(
        **{"mirror": False, "refine": False, "overlap": 0.25, "label_ids": OURS, **settings}
    )
    return Labeler(segment, (ModelIdentity(model, model * 64),), chosen, schema, overwrite)
