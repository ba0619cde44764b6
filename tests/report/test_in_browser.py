"""Reports and the viewer as a person meets them, in a headless Chromium."""

import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.data.schemas import TISSUE_SCHEMA
from infant_seg_jax.errors import InputError
from infant_seg_jax.report.report import write_report
from infant_seg_jax.report.viewer import niivue
from infant_seg_jax.report.viewer.served import start_server, viewer_files
from tests.browser import Browser, open_browser
from tests.data.volume_files import reorient, save
from tests.report.cohort import AFFINE, scan, truth, write_evaluation, write_prediction, write_run

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of everything, with a subject of a bad name."""
    folder = tmp_path_factory.mktemp("report")
    scores = write_evaluation(folder / "e")
    for name in ("metrics.csv", "metrics.json"):
        (scores / name).write_text((scores / name).read_text().replace("sub-c", EVIL))
    run = write_run(folder / "r" / "adult")
    tuned = write_run(folder / "r" / "infant", start=str(run))
    return write_report([scores, write_prediction(folder / "p"), run, tuned], folder / "page.html")


def texts(browser: Browser, expression: str) -> list[str]:
    return browser.evaluate(f"[...document.querySelectorAll({expression!r})].map(e => e.innerText)")


def color(browser: Browser, what: str, of: str) -> list[int]:
    text = browser.evaluate(f"getComputedStyle(document.querySelector({of!r}))[{what!r}]")
    return [int(number) for number in re.findall(r"\d+", text)[:3]]


def test_report_opens_without_errors_or_requests(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri())
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
    every = "[...document.images].every(i => i.complete && i.naturalWidth > 100)"
    assert browser.evaluate(every) and browser.evaluate("document.images.length") == 7
    assert browser.evaluate("document.querySelectorAll('svg').length") > 20
    assert browser.screenshot().startswith(b"\x89PNG")


def test_a_bad_name_is_text(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri())
    assert EVIL in texts(browser, "td:first-child")
    assert browser.evaluate("document.scripts.length") == 1 and browser.errors == []


def test_nothing_but_our_own_script_may_run(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri())
    browser.evaluate(
        "{const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.body.append(s)}"
    )
    assert browser.evaluate("window.ran === undefined")
    browser.wait("1 + 1 === 2")
    assert any("Content Security Policy" in error for error in browser.errors)


def test_tables_sort_by_a_click_and_back_by_another(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri())
    find = (
        "var t = [...document.querySelectorAll('table.sortable')]"
        ".find(t => t.tHead.innerText.startsWith('subject'));"
    )
    read = "[...t.tBodies[0].rows].map(r => r.cells[COLUMN].innerText)"

    def column(number: int) -> list[str]:
        return browser.evaluate(find + read.replace("COLUMN", str(number)))

    def click(number: int) -> str:
        return browser.evaluate(
            f"{find} t.tHead.rows[0].cells[{number}].querySelector('button').click();"
            f"t.tHead.rows[0].cells[{number}].getAttribute('aria-sort')"
        )

    assert column(1) == ["1.000", "0.889", "0.778", "0.667"]
    assert click(1) == "ascending"
    assert column(1) == ["0.667", "0.778", "0.889", "1.000"] and column(0)[0] == "sub-d"
    assert click(1) == "descending" and column(0)[0] == "sub-a"
    assert click(0) == "ascending" and column(0) == [EVIL, "sub-a", "sub-b", "sub-d"]


def test_numbers_sort_as_numbers_and_nothing_comes_last(browser: Browser, tmp_path: Path) -> None:
    labels = write_prediction(tmp_path, 3)
    table = labels / "tissue_volumes.tsv"
    lines = table.read_text().splitlines()
    for at, value in ((1, "9.5"), (2, "n/a"), (3, "10.5")):
        cells = lines[at].split("\t")
        lines[at] = "\t".join([*cells[:9], value, *cells[10:]])
    table.write_text("\n".join(lines) + "\n")
    browser.open(write_report([labels]).as_uri())
    script = (
        "var t = document.querySelector('table.sortable'), h = t.tHead.rows[0].cells[6];"
        "h.querySelector('button').click();"
        "[...t.tBodies[0].rows].map(r => r.cells[6].innerText)"
    )
    assert browser.evaluate(script) == ["9.500", "10.500", "-"]
    assert browser.evaluate(script) == ["10.500", "9.500", "-"]


@pytest.mark.parametrize("dark", [False, True])
def test_a_report_can_be_read_on_a_phone_in_light_and_dark(
    dark: bool, browser: Browser, page: Path
) -> None:
    browser.open(page.as_uri(), width=390, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    paper, ink = color(browser, "backgroundColor", "body"), color(browser, "color", "body")
    assert (np.mean(paper) < 60 < 180 < np.mean(ink)) == dark
    assert (np.mean(paper) > 180 > 60 > np.mean(ink)) == (not dark)
    assert color(browser, "fill", "svg text") == ink  # Charts are of the page's ink.


def test_a_report_can_be_printed(browser: Browser, page: Path) -> None:
    """On white whatever the screen's colors, and no wider than a sheet, or it would be shrunk."""
    browser.open(page.as_uri(), width=720, dark=True)
    browser.print_media()
    assert np.mean(color(browser, "backgroundColor", "body")) == 255
    assert color(browser, "backgroundColor", "thead th") == [0xEE, 0xF0, 0xF3]
    assert browser.evaluate("document.documentElement.scrollWidth") <= 720
    assert browser.pdf().startswith(b"%PDF")


def canvas(browser: Browser) -> list[float]:
    """Where the first panel is: left, top, width, height."""
    return browser.evaluate(
        "(r => [r.x, r.y, r.width, r.height])"
        "(document.querySelector('canvas').getBoundingClientRect())"
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The viewer of a scan, a prediction and a truth, all in axis orders of their own."""
    try:
        niivue.niivue_script()
    except InputError:
        pytest.skip("ipyniivue is not installed")
    folder = tmp_path_factory.mktemp("viewer")
    arrays = {"scan.nii.gz": scan(), "p.nii.gz": np.roll(truth(), 2, axis=1), "t.nii.gz": truth()}
    orders = [((0, 1, 2), (True, False, False)), ((2, 0, 1), (False, True, True))]
    for number, (name, array) in enumerate(arrays.items()):
        save(folder / name, *reorient(array, AFFINE, *orders[number % 2]))
    paths = [folder / name for name in arrays]
    server, address = start_server(viewer_files(paths[0], paths[1:], TISSUE_SCHEMA))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield address
    server.shutdown()
    server.server_close()
    thread.join()


def test_viewer_answers_a_click_with_the_voxels_value_and_labels(
    browser: Browser, served: str
) -> None:
    browser.open(served)
    browser.wait("document.getElementById('viewer').dataset.ready === 'yes'")
    assert browser.errors == []
    assert all(url.startswith((served, "data:", "blob:")) for url in browser.requests)
    left, top, width, height = canvas(browser)
    image, labels = scan(), truth()
    moved = np.roll(labels, 2, axis=1)
    seen = set()
    for u, v in ((0.15, 0.25), (0.25, 0.25), (0.3, 0.2), (0.22, 0.7), (0.15, 0.75)):
        before = browser.evaluate("document.getElementById('readout').value")
        browser.click(left + u * width, top + v * height)
        now = "document.getElementById('readout').value"
        text = browser.wait(f"{now} !== {before!r} && {now}")
        numbers = re.search(r"voxel (\d+), (\d+), (\d+) .*; (.+) mm; scan (.+)\n", text)
        assert numbers
        at = tuple(int(numbers[n]) for n in (1, 2, 3))
        assert float(numbers[5]) == pytest.approx(float(image[at]), rel=1e-4)
        for name, classes in (("p", moved), ("t", labels)):
            value = int(classes[at])
            assert f"{name}.nii.gz: {value} {TISSUE_CLASSES.names[value]}" in text
        mm = [float(part) for part in numbers[4].split(", ")]
        voxel = np.linalg.solve(AFFINE[:3, :3], np.subtract(mm, AFFINE[:3, 3]))
        assert np.abs(voxel - at).max() < 0.6
        seen.add(at)
    assert len(seen) > 2


def test_viewer_has_the_subjects_right_on_the_left(browser: Browser, served: str) -> None:
    """x grows to the right: of two clicks the left one has the larger x."""
    browser.open(served)
    browser.wait("document.getElementById('viewer').dataset.ready === 'yes'")
    browser.evaluate(
        "(v => { v.value = '0'; v.dispatchEvent(new Event('change')); })"
        "(document.getElementById('view'))"
    )
    left, top, width, height = canvas(browser)
    places = []
    for u in (0.4, 0.6):
        before = browser.evaluate("document.getElementById('readout').value")
        browser.click(left + u * width, top + 0.5 * height)
        now = "document.getElementById('readout').value"
        text = browser.wait(f"{now} !== {before!r} && {now}")
        places.append(int(re.search(r"voxel (\d+)", text)[1]))  # pyright: ignore
    assert places[0] > places[1]


def test_viewer_paints_the_tissues_in_their_colors(browser: Browser, served: str) -> None:
    browser.open(served)
    browser.wait("document.getElementById('viewer').dataset.ready === 'yes'")
    browser.evaluate(
        "(o => { o.value = '1'; o.dispatchEvent(new Event('input')); })"
        "(document.getElementById('opacity'))"
    )
    for tissue in TISSUE_CLASSES.colors.values():
        shown = np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB"))[150:600]
        near = np.abs(shown / 255 - to_rgb(tissue)).max(axis=-1) < 0.06
        assert near.mean() > 0.005


@pytest.fixture(scope="module")
def carrying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report that carries the viewer, of an evaluation and of a prediction."""
    try:
        niivue.niivue_script()
    except InputError:
        pytest.skip("ipyniivue is not installed")
    folder = tmp_path_factory.mktemp("carrying")
    paths = [write_evaluation(folder / "e"), write_prediction(folder / "p")]
    return write_report(paths, folder / "page.html", viewer=True)


def look(browser: Browser, number: int) -> None:
    browser.evaluate(f"document.querySelectorAll('button[data-look]')[{number}].click()")
    browser.wait("document.getElementById('viewer').dataset.ready === 'yes'")


def test_a_report_may_carry_the_viewer(browser: Browser, carrying: Path) -> None:
    """From a file, with nothing loaded; one subject after another in the same two panels."""
    browser.open(carrying.as_uri())
    assert browser.evaluate("document.querySelectorAll('canvas').length") == 0
    labels = truth()
    # The worst subject's prediction is moved by three voxels; after it comes a prediction alone.
    worst = {"truth": labels, "prediction": np.roll(labels, 3, axis=1)}
    for number, maps in ((0, worst), (3, {"prediction": labels})):
        look(browser, number)
        assert browser.evaluate("document.querySelectorAll('canvas').length") == 2
        browser.evaluate(  # One slice in the middle, of a wide panel and of a narrow one.
            "(v => { v.value = '0'; v.dispatchEvent(new Event('change')); })"
            "(document.getElementById('view'))"
        )
        left, top, width, height = canvas(browser)
        seen = set()
        for u, v in ((0.42, 0.5), (0.58, 0.5), (0.5, 0.4), (0.5, 0.6)):
            before = browser.evaluate("document.getElementById('readout').value")
            browser.click(left + u * width, top + v * height)
            now = "document.getElementById('readout').value"
            text = browser.wait(f"{now} !== {before!r} && {now}")
            numbers = re.match(r"voxel (\d+), (\d+), (\d+) .* scan [a-z ]+ ([\d.]+)\n", text)
            assert numbers
            at = int(numbers[1]), int(numbers[2]), int(numbers[3])
            assert float(numbers[4]) == pytest.approx(float(scan()[at]), abs=0.5)
            assert text.splitlines()[1:] == [
                f"{name}: {classes[at]} {TISSUE_CLASSES.names[classes[at]]}"
                for name, classes in maps.items()
            ]
            seen.add(at)
        assert len(seen) > 2
        browser.evaluate("document.querySelector('#viewer .close').click()")
        assert not browser.evaluate("document.getElementById('viewer').open")
    assert browser.errors == []
    allowed = (carrying.as_uri(), "data:", "blob:")
    assert all(url.startswith(allowed) for url in browser.requests)


def test_a_report_that_carries_the_viewer_lets_no_other_script_run(
    browser: Browser, carrying: Path
) -> None:
    browser.open(carrying.as_uri())
    browser.evaluate(
        "{const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.body.append(s);"
        "const t = document.createElement('script'); t.src = 'data:text/javascript,window.ran=1';"
        "document.body.append(t);"
        "const a = document.createElement('div'); a.setAttribute('onclick', 'window.ran = 1');"
        "document.body.append(a); a.click();}"
    )
    browser.wait("new Promise(done => setTimeout(() => done(true), 300))")
    assert browser.evaluate("window.ran === undefined")
    assert sum("Content Security Policy" in error for error in browser.errors) >= 3


def test_a_subject_whose_volumes_are_damaged_is_said(
    browser: Browser, carrying: Path, tmp_path: Path
) -> None:
    text = carrying.read_text()
    page = tmp_path / "page.html"
    page.write_text(text.replace('"packed": "H4sI', '"packed": "AAAA', 1))
    browser.open(page.as_uri())
    browser.evaluate("document.querySelectorAll('button[data-look]')[0].click()")
    browser.wait("document.getElementById('readout').value.startsWith('The viewer cannot start')")
    browser.evaluate("document.querySelector('#viewer .close').click()")
    look(browser, 1)  # The others can be looked at all the same.
