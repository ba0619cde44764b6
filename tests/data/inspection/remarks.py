"""What the tests of inspections share."""

import numpy as np

from infant_seg_jax.data.inspection import FileReport, Inspection, Remark
from infant_seg_jax.data.phantom import Phantom


def whole(phantom: Phantom) -> np.ndarray:
    """The phantom's image as integers, as scanners write them."""
    return np.round(100 * phantom.image).astype(np.int16)


def about(remarks: tuple[Remark, ...]) -> list[str]:
    return [remark.about for remark in remarks]


def sentence_on(what: str, report: FileReport | Inspection) -> str:
    """The only remark, which must be about `what`."""
    remarks = report.remarks if isinstance(report, FileReport) else report.all_remarks()
    (remark,) = remarks
    assert remark.about == what
    assert remark.sentence.endswith((".", "?")) and "\n" not in remark.sentence
    return remark.sentence
