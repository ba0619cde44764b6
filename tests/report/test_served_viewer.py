"""The viewer's server gives what was named, to those who know its address, on this machine."""

import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

import nibabel as nib
import numpy as np
import pytest

from infant_seg_jax.data.class_sets import DRAWEM9_CLASSES
from infant_seg_jax.data.labels import IGNORE
from infant_seg_jax.data.schemas import ISEG_SCHEMA, TISSUE_SCHEMA, find_schema
from infant_seg_jax.report.viewer import niivue, served
from infant_seg_jax.report.viewer.served import Served, start_server, viewer_files
from tests.data.volume_files import reorient, save
from tests.input_errors import input_error
from tests.report.cohort import AFFINE, scan, truth

FILES = {"": Served("text/html", b"page"), "scan.nii": Served("application/octet-stream", b"scan")}


@pytest.fixture
def address() -> Iterator[str]:
    server, found = start_server(FILES)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of NiiVue, which takes an extra."""
    monkeypatch.setattr(served, "niivue_script", lambda: b"niivue")


def get(address: str, path: str, host: str = "") -> tuple[int, bytes, dict[str, str]]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    connection.request("GET", path, headers={"Host": host or parts.netloc})
    response = connection.getresponse()
    found = response.status, response.read(), dict(response.getheaders())
    connection.close()
    return found


def test_server_gives_the_files_under_its_token_alone(address: str) -> None:
    parts = urlsplit(address)
    assert parts.hostname == "127.0.0.1" and len(parts.path) > 30
    status, content, headers = get(address, parts.path)
    assert (status, content) == (200, b"page") and headers["Content-Type"] == "text/html"
    assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert get(address, f"{parts.path}scan.nii?1")[:2] == (200, b"scan")


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/scan.nii", "/wrong/scan.nii", "{}../scan.nii", "{}other.nii", "{}%2e%2e/etc"),
        *("{}/etc/passwd", "{}scan.nii/", "/%s%n"),
    ],
)
def test_server_gives_nothing_else(path: str, address: str) -> None:
    status, content, _ = get(address, path.format(urlsplit(address).path))
    assert status in (400, 404) and b"page" not in content and content != b"scan"


def test_server_does_not_answer_to_other_names(address: str) -> None:
    """As of a page elsewhere whose name was made to point here."""
    path, port = urlsplit(address).path, urlsplit(address).port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1:1"):
        assert get(address, path, host)[0] == 404


def test_a_browser_that_leaves_in_the_middle_is_no_error(
    capfd: pytest.CaptureFixture[str],
) -> None:
    large = {"scan.nii": Served("application/octet-stream", bytes(2**26))}
    server, address = start_server(large)
    server.daemon_threads = False  # so that closing it waits for them
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    parts = urlsplit(address)
    assert parts.port is not None
    browser = socket.create_connection((parts.hostname or "", parts.port))
    browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    browser.sendall(f"GET {parts.path}scan.nii HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
    assert browser.recv(1000).startswith(b"HTTP/1.0 200")
    browser.close()
    server.shutdown()
    server.server_close()
    thread.join()
    assert capfd.readouterr().err == ""


def test_two_servers_have_two_ports_and_two_tokens(address: str) -> None:
    server, other = start_server(FILES)
    server.server_close()
    assert urlsplit(other).port != urlsplit(address).port
    assert urlsplit(other).path != urlsplit(address).path


@pytest.mark.usefixtures("script")
def test_files_hold_the_voxels_in_ras_order_from_byte_352(tmp_path: Path) -> None:
    labels = truth()
    labels[0, 0, 0] = IGNORE
    order = ((2, 0, 1), (True, False, True))
    paths = [
        save(tmp_path / name, *reorient(array, AFFINE, *order))
        for name, array in (("s.nii.gz", scan()), ("l.nii.gz", labels))
    ]
    files = viewer_files(paths[0], paths[1:], TISSUE_SCHEMA.changed({IGNORE: IGNORE}))
    for name, array in (("scan.nii", scan()), ("labels-0.nii", labels)):
        content = files[name].content
        found = np.frombuffer(content, array.dtype, offset=352).reshape(array.shape, order="F")
        np.testing.assert_array_equal(found, array)
        image = nib.Nifti1Image.from_bytes(content)
        assert image.affine is not None and np.allclose(image.affine, AFFINE, atol=1e-5)
    config = config_of(files)
    assert config["shape"] == list(labels.shape) and config["first"] == [0, 0, 0]


def config_of(files: Mapping[str, Served]) -> dict:
    text = files[""].content.decode().split('data-config="')[1].split('"')[0]
    return json.loads(unescape(text))


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize("with_labels", [False, True])
def test_what_is_shown_is_the_brain_in_the_middle(tmp_path: Path, with_labels: bool) -> None:
    image = np.zeros((60, 70, 80), np.float32)
    labels = np.zeros(image.shape, np.uint8)
    brain = np.s_[20:32, 30:50, 12:40]  # With 10 mm around it: 10:42, 20:60, 2:50.
    image[brain] = np.random.default_rng(0).uniform(1, 2, image[brain].shape)
    labels[brain] = 2
    path, second = (save(tmp_path / name, array, np.eye(4))
                    for name, array in (("s.nii.gz", image), ("l.nii.gz", labels)))  # fmt: skip
    files = viewer_files(path, [second] * with_labels, TISSUE_SCHEMA)
    config = config_of(files)
    assert config["first"] == [10, 20, 2] and config["shape"] == [32, 40, 48]
    shown = nib.Nifti1Image.from_bytes(files["scan.nii"].content)
    np.testing.assert_array_equal(shown.dataobj, image[10:42, 20:60, 2:50])
    assert shown.affine is not None
    np.testing.assert_allclose(shown.affine[:3, 3], [10, 20, 2])
    if with_labels:
        found = nib.Nifti1Image.from_bytes(files["labels-0.nii"].content)
        np.testing.assert_array_equal(found.dataobj, labels[10:42, 20:60, 2:50])


@pytest.mark.usefixtures("script")
def test_finer_classes_have_their_own_values_names_and_colors(tmp_path: Path) -> None:
    schema = find_schema("drawem9", DRAWEM9_CLASSES)
    ids = np.where(truth() == 1, 5, truth())
    paths = [
        save(tmp_path / name, array, AFFINE)
        for name, array in (("s.nii.gz", scan()), ("l.nii.gz", ids))
    ]
    files = viewer_files(paths[0], paths[1:], schema)
    found = np.frombuffer(files["labels-0.nii"].content, np.uint8, offset=352)
    assert set(np.unique(found)) == {0, 2, 3, DRAWEM9_CLASSES.foreground["VENT"]}
    config = json.loads(
        unescape(files[""].content.decode().split('data-config="')[1].split('"')[0])
    )
    shown = {label["value"]: (label["name"], label["rgba"]) for label in config["labels"]}
    assert shown[4] == ("5 VENT", [0x00, 0x72, 0xB2, 255]) and shown[0][1][3] == 0
    assert shown[IGNORE][0] == "255 ignored" and len(shown) == 10


@pytest.mark.usefixtures("script")
def test_names_are_escaped_in_the_page(tmp_path: Path) -> None:
    path = save(tmp_path / "<script>'\".nii.gz", scan(), AFFINE)
    text = viewer_files(path, [path.parent / "<script>'\".nii.gz"][:0], TISSUE_SCHEMA)[""].content
    assert text.count(b"<script") == 1


@pytest.mark.usefixtures("script")
def test_what_cannot_be_shown_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", scan(), AFFINE)
    labels = save(tmp_path / "labels.nii.gz", truth(), AFFINE)
    smaller = save(tmp_path / "smaller.nii.gz", truth()[1:], AFFINE)
    with input_error(smaller, path):
        viewer_files(path, [smaller], TISSUE_SCHEMA)
    with input_error(labels, "'iseg'"):
        viewer_files(path, [labels], ISEG_SCHEMA)
    with input_error("5 label maps", "at most 4"):
        viewer_files(path, [labels] * 5, TISSUE_SCHEMA)
    with input_error("nowhere"):
        viewer_files(tmp_path / "nowhere.nii", [], TISSUE_SCHEMA)


def test_a_missing_viewer_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(niivue, "_WIDGET", "ipyniivue/static/nothing.js")
    with input_error("infant_seg_jax[viewer]"):
        niivue.niivue_script()


def test_view_says_its_address_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", scan(), AFFINE)
    code = (
        # What runs in the background of a shell starts deaf to Ctrl-C, and so may these tests.
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from infant_seg_jax.report.viewer import served as viewer\n"
        "viewer.niivue_script = lambda: b'niivue'\n"
        "from infant_seg_jax.__main__ import main\n"
        f"main(['view', {str(path)!r}, '--noopen'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONUNBUFFERED="1"),
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert get(address, urlsplit(address).path)[0] == 200
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=300)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0 and "Stopped." in printed and "Traceback" not in printed
    with pytest.raises(OSError):
        get(address, urlsplit(address).path)
