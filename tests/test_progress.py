"""Bars, the lines that stand for them, and quiet."""

import contextlib
import io

import pytest

from infant_seg_jax import progress as module
from infant_seg_jax.__main__ import main
from infant_seg_jax.progress import detailed, log, log_always, parts, progress, quiet, stage


@pytest.fixture(autouse=True)
def heard():
    token = quiet.set(False)
    yield
    quiet.reset(token)


def count_to(total: int, clock: list[float], monkeypatch: pytest.MonkeyPatch, **given) -> None:
    """Take a second for each."""
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with progress("counting", total, unit="sheep", **given) as bar:
        for _ in range(total - given.get("initial", 0)):
            clock[0] += 1
            bar.update()


def test_where_there_is_no_terminal_a_bar_is_ten_lines_at_most(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count_to(1000, [0.0], monkeypatch)
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert printed.out == "" and len(lines) == 9
    assert lines[0] == "counting: 100 of 1000; 1 s a sheep, 15:00 left."


def test_lines_are_seconds_apart_and_what_is_short_has_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count_to(6, [0.0], monkeypatch)
    assert [line[:16] for line in capsys.readouterr().err.splitlines()] == [
        "counting: 2 of 6",
        "counting: 4 of 6",
    ]
    with progress("counting", 100) as bar:
        for _ in range(100):
            bar.update()  # In no time: the clock stands still.
    assert capsys.readouterr().err == ""


def test_what_was_done_before_does_not_make_it_look_fast(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count_to(100, [0.0], monkeypatch, initial=85)
    assert capsys.readouterr().err == "counting: 90 of 100; 1 s a sheep, 00:10 left.\n"


def test_a_command_may_say_its_own_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    count_to(100, [0.0], monkeypatch, lines=False)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_it_is_a_bar_without_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with contextlib.redirect_stderr(Terminal()) as screen:
        with progress("counting", 3, unit="sheep") as bar:
            assert not bar.disable
            bar.update(3)
        quiet.set(True)
        with progress("not heard", 3) as bar:
            assert bar.disable
            bar.update(3)
    printed = screen.getvalue()
    assert "3/3" in printed and "sheep" in printed and "not heard" not in printed
    assert "\x1b[3" not in printed and "\x1b[9" not in printed


def test_quiet_hides_how_it_goes_and_not_what_must_be_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet.set(True)
    count_to(100, [0.0], monkeypatch)
    log("step 1")
    log_always("a scan is broken")
    assert capsys.readouterr().err == "a scan is broken\n"


def test_every_command_takes_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, expected in (("--quiet", True), ("--noquiet", False)):
        with pytest.raises(SystemExit):
            main(["report", flag, "nowhere"])
        assert quiet.get() is expected
        assert "There is no folder nowhere" in capsys.readouterr().err


def test_the_time_of_each_is_measured_anew_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with progress("training", 10) as bar:
        clock[0] = 90.0  # which compiling took
        bar.count_untimed()
        for _ in range(4):
            clock[0] += 1
            bar.update()
    first, *_ = capsys.readouterr().err.splitlines()
    assert first == "training: 3 of 10; 1 s a step, 00:07 left."


def test_stages_are_told_if_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    for told in (False, True):
        token = detailed.set(told)
        stage("Reading.")
        with parts("network", 8, "window") as bar:
            for _ in range(8):
                clock[0] += 3
                bar.update()
        detailed.reset(token)
        printed = capsys.readouterr().err
        assert ("Reading." in printed) == told
        assert ("network: 4 of 8; 3 s a window, 00:12 left." in printed) == told
