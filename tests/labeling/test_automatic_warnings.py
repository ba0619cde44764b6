"""What a folder of label maps says of the checks that there were."""

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.labeling.inputs import find_inputs
from infant_seg_jax.labeling.volume_table import write_table
from infant_seg_jax.prediction.expected_dice import ExpectedDice
from infant_seg_jax.report.report import write_report
from tests.data.volume_files import ramp, save
from tests.labeling.fake_network import labeler, segment


def checked(volume, mask=None):
    """As the fake network, having checked one thing."""
    found = segment(volume, mask)
    return replace(found, confidence=replace(found.confidence, checked=("shape",)))


def test_what_was_checked_is_kept_beside_the_label_map(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", ramp())
    inputs = find_inputs([str(path)], tmp_path / "out", ["T1w"])
    list(labeler(segment=checked).label(inputs, tmp_path / "out"))
    sidecar = json.loads((tmp_path / "out" / "scan_dseg.json").read_text())
    assert sidecar["Confidence"]["Checked"] == ["shape"]
    assert sidecar["Notices"] == []


def test_volumes_are_judged_by_the_age_that_the_tree_tells(tmp_path: Path) -> None:
    """2 mm voxels: 400 ml of GM, which a newborn may have and a fetus of 30 weeks may not."""
    tree = tmp_path / "tree"
    for subject, age in (("a", "40"), ("b", "30")):
        voxels = np.zeros((60, 60, 60), np.int16)
        voxels[:40, :40, :32], voxels[:40, :40, 32:40], voxels[:40, :40, 40:50] = 102, 101, 103
        folder = tree / f"sub-{subject}" / "anat"
        folder.mkdir(parents=True)
        save(folder / f"sub-{subject}_T1w.nii.gz", voxels, np.diag([2.0, 2.0, 2.0, 1.0]))
        with (tree / "participants.tsv").open("a") as table:
            if subject == "a":
                table.write("participant_id\tage\n")
            table.write(f"sub-{subject}\t{age} gestational weeks\n")
    inputs = find_inputs([str(tree)], tmp_path / "out", ["T1w"])
    assert [scan.age and scan.age.value for scan in inputs.scans] == [40, 30]
    newborn, fetus = labeler().label(inputs, tmp_path / "out")
    assert newborn.notices == ()
    assert len(fetus.notices) == 1 and "30 weeks postmenstrual" in fetus.notices[0]
    sidecar = json.loads(fetus.scan.sidecar.read_text())
    assert sidecar["Confidence"]["Unusual"] == list(fetus.notices)


def test_label_maps_made_before_there_was_that_setting_are_gone_on_with(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", ramp())
    inputs = find_inputs([str(path)], tmp_path / "out", ["T1w"])
    list(labeler().label(inputs, tmp_path / "out"))
    sidecar = tmp_path / "out" / "scan_dseg.json"
    content = json.loads(sidecar.read_text())
    del content["Settings"]["FixOrientation"], content["Confidence"]["Checked"]
    sidecar.write_text(json.dumps(content))
    (outcome,) = labeler().label(inputs, tmp_path / "out")
    assert outcome.what == "skipped"


def test_the_expected_dice_is_in_the_json_the_table_and_the_page(tmp_path: Path) -> None:
    expected = ExpectedDice(0.8125, 0.75, 0.875)

    def expecting(volume, mask=None):
        found = segment(volume, mask)
        return replace(found, confidence=replace(found.confidence, expected_dice=expected))

    output = tmp_path / "out"
    for name, network in (("known", expecting), ("unknown", segment)):
        inputs = find_inputs([str(save(tmp_path / f"{name}.nii.gz", ramp()))], output, ["T1w"])
        (outcome,) = labeler(segment=network).label(inputs, output)
        assert outcome.expected_dice == (expected if name == "known" else None)
    sidecars = [json.loads((output / f"{n}_dseg.json").read_text()) for n in ("known", "unknown")]
    assert sidecars[0]["Confidence"]["ExpectedDice"] == asdict(expected)
    assert sidecars[1]["Confidence"]["ExpectedDice"] is None
    # As it was before there was such a thing.
    del sidecars[1]["Confidence"]["ExpectedDice"]
    (output / "unknown_dseg.json").write_text(json.dumps(sidecars[1]))
    write_table(output, TISSUE_CLASSES)
    with (output / "tissue_volumes.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    columns = ("expected_dice", "expected_dice_low", "expected_dice_high")
    found = {row["label_map"]: tuple(row[column] for column in columns) for row in rows}
    assert tuple(map(float, found["known_dseg.nii.gz"])) == (0.8125, 0.75, 0.875)
    assert found["unknown_dseg.nii.gz"] == ("n/a", "n/a", "n/a")
    page = write_report([output]).read_text()
    assert page.count(str(expected)) == 1
