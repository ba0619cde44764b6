from pathlib import Path

from infant_seg_jax.inference.outputs import find_scans


def test_every_format_becomes_nifti(tmp_path: Path) -> None:
    for name in ("a.nii", "b.mgz", "c.hdr", "c.img", "d.HDR.gz", "d.IMG.gz", "e.txt"):
        (tmp_path / name).touch()
    scans = find_scans([str(tmp_path)], tmp_path / "out")
    assert {scan.images[0].name: scan.output.name for scan in scans} == {
        "a.nii": "a_dseg.nii.gz",
        "b.mgz": "b_dseg.nii.gz",
        "c.hdr": "c_dseg.nii.gz",
        "d.HDR.gz": "d_dseg.nii.gz",
    }
    (scan,) = find_scans([str(tmp_path / "c.img")], tmp_path / "out")
    assert scan.output == tmp_path / "out" / "c_dseg.nii.gz"
