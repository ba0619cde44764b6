"""An interactive viewer within a page: NiiVue and the volumes of a few subjects, as text in it.

Such a page opens from a file, without network or server. Volumes are cut to what is labeled,
scans have 256 steps of gray, and all of it is gzip in base 64. There is a limit to how much of that
a page takes, for a browser reads all of it before it shows anything.
"""

import base64
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from infant_seg_jax.report.drawing.slices import (
    Scan,
    cropped,
    gray_window,
    worst_slices,
    wrong_voxels,
)
from infant_seg_jax.report.viewer.niivue import (
    label_colors,
    nifti_bytes,
    niivue_license,
    niivue_script,
)

MAX_BYTES = 20_000_000
"""Of the volumes of a page, as they stand in it: few mail servers take more than 25 MB."""

MARGIN_MM = 10.0
"""What is shown around the brain."""


@dataclass(frozen=True)
class Look:
    """What a button opens: its place in the page, and the viewer's config with the volumes."""

    id: str
    config: Mapping[str, Any]


class EmbeddedViewer:
    """What a page has to carry for its viewer; sections add the subjects that they show."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        """A viewer of nothing so far, with room for so many bytes of volumes.

        Raises:
            InputError: NiiVue is not installed.
        """
        self.script, self.license = _packed(niivue_script()), niivue_license()
        self.looks: list[Look] = []
        self.left_out: list[str] = []
        """Titles of those for which there was no room."""
        self._room = self._max_bytes = max_bytes

    def add(self, title: str, scan: Scan) -> str:
        """Add a scan with its prediction and, if there is one, its truth; where it is in the page.

        Empty, if there is no room for it.
        """
        config, size = _config(title, scan)
        if size > self._room:
            self.left_out.append(title)
            return ""
        self._room -= size
        self.looks.append(Look(f"look-{len(self.looks)}", config))
        return self.looks[-1].id

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about what the page carries."""
        size = (len(self.script) + self._max_bytes - self._room) / 1e6
        sentences = [
            f"{size:.1f} MB of this page are a viewer and the volumes of {len(self.looks)} scans. "
            "A button beside their pictures opens it. The volumes are cropped to the labeled "
            "region, with gray values in 256 steps."
        ]
        if self.left_out:
            sentences.append(
                f"This page has no room for {len(self.left_out)} more in the "
                f"{self._max_bytes / 1e6:g} MB that a page has for volumes: "
                f"{', '.join(self.left_out)}."
            )
        return tuple(sentences)


def _config(title: str, scan: Scan) -> tuple[dict[str, Any], int]:
    """What the viewer's script is to know of a scan, and how many bytes its volumes are."""
    scan, box = cropped(scan, MARGIN_MM)
    image, low, step = _in_256_steps(scan)
    maps = {"prediction": scan.labels}
    if scan.truth is not None:
        maps = {"truth": scan.truth, **maps}
    volumes = [
        _packed(nifti_bytes(image, scan.affine)),
        *(_packed(nifti_bytes(one, scan.affine, of_labels=True)) for one in maps.values()),
    ]
    config = {
        "title": title,
        "scan": {
            **{"packed": volumes[0], "name": "" if scan.image is None else "scan"},
            **{"low": 0, "high": 255, "slope": step, "start": low, "rounded": True},
        },
        "label_maps": [
            {"packed": packed, "name": name} for name, packed in zip(maps, volumes[1:], strict=True)
        ],
        "shape": image.shape,
        "first": [side.start for side in box],
        "labels": label_colors(scan.classes),
    }
    if scan.truth is not None:
        config["at"] = worst_slices(wrong_voxels(scan.labels, scan.truth))
    return config, sum(map(len, volumes))


def _in_256_steps(scan: Scan) -> tuple[UInt8[np.ndarray, "x y z"], float, float]:
    """Gray values from black to white as 0 to 255, what 0 is, and a step; of no scan, black."""
    if scan.image is None:
        return np.zeros(scan.labels.shape, np.uint8), 0.0, 1.0
    low, high = gray_window(scan.image)
    step = (high - low) / 255
    return np.clip(np.rint((scan.image - low) / step), 0, 255).astype(np.uint8), low, step


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii")
