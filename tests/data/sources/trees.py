"""Small trees of files, for the tests of sources."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.sources import Dataset, Query, Source
from infant_seg_jax.data.volumes import read_images, read_label_map
from infant_seg_jax.errors import InputError


def touch(root: Path, *names):
    """Empty files, for a source only lists them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def save_image(path: Path, seed=0):
    save(path, np.random.default_rng(seed).normal(100, 20, (3, 4, 5)).astype(np.float32))


def save_labels(path: Path, ids):
    """A label map of which each voxel along the first axis has the next of `ids`."""
    save(path, np.resize(np.array(ids, np.int16), (5, 4, len(ids))).T)


def save(path: Path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = nib.AnalyzeImage if path.suffix == ".hdr" else nib.Nifti1Image
    nib.save(kind(array, np.diag([-1.0, 1, 1, 1])), path)


def classes_in(dataset: Dataset) -> dict[str, list[int]]:
    """The classes of each labeled case, by the dataset's schema; its images are read as well."""
    found = {}
    for case in dataset.cases:
        assert read_images(case.images).data.shape[-1] == len(dataset.modalities)
        if case.labels:
            classes = dataset.schema.to_classes(read_label_map(case.labels).data, case.labels)
            found[case.case_id] = np.unique(classes).tolist()
    return found


def error_of(source: Source, folder: Path, **query) -> str:
    """The one sentence with which a source refuses a folder."""
    with pytest.raises(InputError) as caught:
        source.open(folder, Query(**query))
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message
    return message
