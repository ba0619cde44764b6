"""The viewer within a page carries the volumes as they are, and no more than there is room for."""

import base64
import gzip
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.report.drawing.slices import Scan
from infant_seg_jax.report.pages.page import write_page
from infant_seg_jax.report.report import write_report
from infant_seg_jax.report.viewer import embedded, niivue
from infant_seg_jax.report.viewer.embedded import EmbeddedViewer
from tests.input_errors import input_error
from tests.report.cohort import AFFINE, scan, truth, write_evaluation, write_prediction, write_run

LICENSE = "Do <b>as</b> you like."
EVIL = "</script><script>alert(1)</script>"


@pytest.fixture(autouse=True)
def script(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of NiiVue, which takes an extra."""
    monkeypatch.setattr(embedded, "niivue_script", lambda: b"niivue")
    monkeypatch.setattr(embedded, "niivue_license", lambda: LICENSE)


def image_of(volume: dict[str, Any]) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(volume["packed"])))


def looks(page: Path) -> list[dict[str, Any]]:
    """The configs in a page, as its script finds them."""
    found = re.findall(
        r'<script type="application/json" id="look-\d+">(.*?)</script>', page.read_text()
    )
    return [json.loads(text) for text in found]


def wide() -> Scan:
    """The cohort's scan, with the prediction moved, in a volume with much around it."""
    room = [(20, 30), (0, 25), (15, 0)]
    labels, image = np.pad(truth(), room), np.pad(scan(), room)
    return Scan(image, np.roll(labels, 2, axis=1), AFFINE, labels)


def test_volumes_are_cut_to_what_is_labeled_and_stay_where_they_are() -> None:
    case, viewer = wide(), EmbeddedViewer()
    assert case.image is not None and case.truth is not None
    assert viewer.add("a", case) == "look-0" and viewer.add("b", case) == "look-1"
    config = viewer.looks[0].config
    assert config["title"] == "a" and config["shape"] < case.labels.shape
    box = tuple(slice(f, f + n) for f, n in zip(config["first"], config["shape"], strict=True))
    assert [one["name"] for one in config["label_maps"]] == ["truth", "prediction"]
    for volume, expected in zip(config["label_maps"], (case.truth, case.labels), strict=True):
        found = image_of(volume)
        np.testing.assert_array_equal(np.asarray(found.dataobj), expected[box])
        assert np.count_nonzero(expected) == np.count_nonzero(expected[box])
        assert found.affine is not None  # The crop's first voxel is where it was.
        np.testing.assert_allclose(found.affine[:3, 3], (AFFINE @ [*config["first"], 1])[:3])
    known = config["scan"]
    found = np.asarray(image_of(known).dataobj)
    values = known["start"] + known["slope"] * found.astype(float)
    assert known["name"] == "scan" and found.dtype == np.uint8
    np.testing.assert_allclose(values, case.image[box], atol=0.51 * known["slope"])


def test_it_opens_where_most_is_wrong() -> None:
    labels = truth()
    found = labels.copy()
    found[5, 6, 7] = found[5, 6, 8] = found[5, 9, 7] = found[4, 6, 7] = 0
    viewer = EmbeddedViewer()
    viewer.add("a", Scan(None, found, AFFINE, labels))
    config = viewer.looks[0].config
    assert tuple(np.add(config["at"], config["first"])) == (5, 6, 7)


def test_without_a_scan_it_is_black_and_has_no_name() -> None:
    viewer = EmbeddedViewer()
    viewer.add("a", Scan(None, truth(), AFFINE))
    config = viewer.looks[0].config
    assert config["scan"]["name"] == "" and not np.asarray(image_of(config["scan"]).dataobj).any()
    assert [one["name"] for one in config["label_maps"]] == ["prediction"] and "at" not in config


def test_what_there_is_no_room_for_is_said() -> None:
    one = EmbeddedViewer()
    one.add("a", wide())
    config = one.looks[0].config
    size = sum(len(volume["packed"]) for volume in (config["scan"], *config["label_maps"]))
    viewer = EmbeddedViewer(2 * size)
    assert [viewer.add(name, wide()) for name in "abc"] == ["look-0", "look-1", ""]
    carried, left_out = viewer.notices
    assert "the volumes of 2 scans" in carried and left_out.endswith("has for volumes: c.")


def test_a_report_carries_the_worst_median_and_best_and_what_is_flagged(tmp_path: Path) -> None:
    scores, labels = write_evaluation(tmp_path / "e"), write_prediction(tmp_path / "p", 5)
    page = write_report([scores, labels], viewer=True)
    titles = [config["title"] for config in looks(page)]
    assert titles[:3] == [
        *("scores, Worst: sub-d", "scores, Median: sub-b", "scores, Best: sub-a"),
    ]
    assert [title[:4] for title in titles[3:]] == ["s001", "s004", "s003"]
    text = page.read_text()
    assert text.count("data-look=") == 6 and "Do &lt;b&gt;as&lt;/b&gt; you like." in text
    assert "of this page are a viewer and the volumes of 6 scans" in text
    assert "--viewer" not in text and text.count("infant-seg view") == 1  # Of two, one has no scan.


def test_a_report_without_it_says_how_to_get_it(tmp_path: Path) -> None:
    scores, run = write_evaluation(tmp_path), write_run(tmp_path / "run")
    text = unescape(write_report([scores]).read_text())
    assert f"infant-seg report {scores} --viewer" in text
    assert "<dialog" not in text and "blob:" not in text
    text = write_report([run], viewer=True).read_text()  # There is nothing to look around in.
    assert "--viewer" not in text and "<dialog" not in text and "blob:" not in text


def test_names_in_it_stay_text(tmp_path: Path) -> None:
    viewer = EmbeddedViewer()
    viewer.add(EVIL, wide())
    page = write_page(tmp_path / "p.html", "t", [], [], viewer)
    assert looks(page)[0]["title"] == EVIL
    assert page.read_text().count("</script>") == page.read_text().count("<script") == 4


def test_a_viewer_that_is_not_installed_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(niivue, "_WIDGET", "ipyniivue/static/nothing.js")
    monkeypatch.setattr(embedded, "niivue_script", niivue.niivue_script)
    scores = write_evaluation(tmp_path)
    with input_error("infant_seg_jax[viewer]"):
        write_report([scores], viewer=True)
    assert not (scores / "report.html").exists()
