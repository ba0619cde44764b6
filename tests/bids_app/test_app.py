"""`infant-seg-bids` as a cluster runs it: participants one by one, then the group."""

import csv
import json
from pathlib import Path

import pytest

from infant_seg_jax import __main__ as infant_seg
from infant_seg_jax.bids_app import app, boutiques
from infant_seg_jax.store import loading
from tests.data.volume_files import ramp, save
from tests.untrained import untrained_predictor

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("sub-01/ses-a", "sub-01/ses-b", "sub-02/ses-a"):
        scan = f"{name}/anat/{name.replace('/', '_')}_T1w.nii.gz"
        (tmp_path / "bids" / scan).parent.mkdir(parents=True)
        save(tmp_path / "bids" / scan, ramp((12, 12, 12)))
    return tmp_path / "bids"


def test_participants_then_the_group(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = untrained_predictor()
    monkeypatch.setattr(loading, "open_predictor", lambda *_: network)
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        app.main([str(tree), str(out), "group"])
    assert str(out) in str(stop.value.code)
    for label, count in (("01", 2), ("02", 1)):
        with pytest.raises(SystemExit) as stop:
            app.main([str(tree), str(out), "participant", "--participant-label", label])
        assert not stop.value.code
        assert len(capsys.readouterr().out.splitlines()) == count
    assert not (out / "docs" / "report.html").exists()
    (out / "docs" / "tissue_volumes.tsv").unlink()  # as if another job had died while it wrote
    app.main([str(tree), str(out), "group"])
    with (out / "docs" / "tissue_volumes.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    people = [(row["participant_id"], row["session_id"]) for row in rows]
    assert people == [("sub-01", "ses-a"), ("sub-01", "ses-b"), ("sub-02", "ses-a")]
    assert (out / "docs" / "report.html").is_file()


def test_options_become_those_of_predict(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(infant_seg, "main", given.append)
    options = [
        *("--participant_label", "01", "02", "--session-label", "a", "--modality", "T1w", "T2w"),
        *("--checkpoint", "x", "y", "--no-refine", "--mirror", "--shard", "2/3"),
        *("--probabilities", "uint8", "--skip-bids-validation"),
    ]
    app.main([str(tree), "out", "participant", *options])
    assert given == [
        [
            *("predict", f"--input={tree}", "--output=out", "--noreport"),
            *("--participant_label=01,02", "--session_label=a", "--modalities=T1w,T2w"),
            *("--shard=2/3", "--checkpoint=x", "--checkpoint=y", "--mirror", "--norefine"),
            "--probabilities=uint8",
        ]
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["{tree}", "out", "session"], 2, "invalid choice: 'session'"),
        (["{tree}", "out", "group", "--mirror"], 2, "--mirror is for the level participant"),
        (["{tree}", "out", "participant", "--probabilities", "x"], 2, "invalid choice: 'x'"),
        (["{tree}/no", "out", "participant"], 1, "There is no folder"),
        (["{tree}/sub-01/ses-a/anat/x", "out", "group"], 1, "There is no folder"),
        (["{tree}/..", "out", "participant"], 1, "contains no BIDS session"),
        (["{tree}", "out", "participant", "--shard", "4/3"], 1, "--shard is 4/3, expected which"),
    ],
)
def test_wrong_usage_is_told(
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        app.main([argument.replace("{tree}", str(tree)) for argument in arguments])
    code = caught.value.code
    assert (1 if isinstance(code, str) else code) == status
    assert message in f"{code}{capsys.readouterr().err}"
    assert not (tmp_path / "out").exists()


def test_the_descriptor_is_of_these_options() -> None:
    """`launch/boutiques.json` is up to date, and what it describes the App understands."""
    committed = json.loads((REPOSITORY / "launch" / "boutiques.json").read_text())
    assert committed == boutiques.descriptor()
    examples = {"Flag": [], "Number": ["1"], "String": ["x"]}
    arguments = ["bids", "out", "participant"]
    for one in committed["inputs"][3:]:
        value = one.get("value-choices", examples[one["type"]])[:1]
        arguments += [one["command-line-flag"], *value]
    given = vars(app.make_parser().parse_args(arguments))
    assert all(given[one["id"]] not in (None, False) for one in committed["inputs"])
    keys = [one["value-key"] for one in committed["inputs"]]
    assert committed["command-line"].split() == [app.PROGRAM, *keys]
