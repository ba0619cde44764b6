"""What is printed about many scans, on a terminal and elsewhere."""

import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from absl import flags

from infant_seg_jax.commands.many_scans import Start, go_through
from infant_seg_jax.labeling.labeling import SKIPPED, WRITTEN, Outcome
from infant_seg_jax.labeling.scans import Inputs, Scan
from infant_seg_jax.prediction.expected_dice import ExpectedDice

EXPECTED = ExpectedDice(0.85, 0.8, 0.9)


@pytest.mark.parametrize("terminal", [True, False])
def test_the_expected_dice_of_each_scan_is_printed(
    terminal: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    values = flags.FlagValues()
    flags.DEFINE_string("output", str(tmp_path), "", flag_values=values)
    values.mark_as_parsed()
    scans = tuple(Scan((tmp_path / name,), tmp_path, name) for name in ("one", "two"))

    def work(inputs: Inputs, output: Path) -> Generator[Outcome, None, None]:
        del output
        one, two = inputs.scans
        yield Outcome(one, WRITTEN, {"CSF": 12.0}, (), EXPECTED)
        yield Outcome(two, SKIPPED, {})

    go_through(work, Inputs(scans), Start(values, [], None, None), "predict")
    out, err = capsys.readouterr()
    assert out.splitlines() == [str(scan.label_map) for scan in scans]
    (line,) = [one for one in err.splitlines() if str(EXPECTED) in one]
    assert "one" in line and "CSF 12.0 ml" in line
    assert ("2 of 2" in err) is not terminal
