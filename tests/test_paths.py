"""Paths as people write them: the home folder as `~`, several with commas between them."""

from importlib import import_module
from pathlib import Path

import pytest
from absl import flags

from infant_seg_jax.__main__ import COMMANDS, main
from infant_seg_jax.paths import expand, split_at_commas
from tests.input_errors import input_error

NO_PATHS = {
    "case",
    "coordinator",
    "held_out",
    "map",
    "max_memory",
    "name",
    "sha256",
    "shard",
    "split",
    "starts",
    "which",
}
"""All flags of the commands that are any text but a path."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder; the working directory is another one, which is empty."""
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def test_the_home_folder_stands_for_a_tilde_at_the_start_alone(home: Path) -> None:
    assert expand("~") == str(home)
    assert expand("~/scans/a~b.nii.gz") == f"{home}/scans/a~b.nii.gz"
    assert expand("~root/x") == str(Path("~root/x").expanduser())
    for text in ("scans/~/x", "a~", "./~/x", ""):
        assert expand(text) == text


def test_a_home_folder_that_nobody_has_is_an_error_unless_it_is_a_name(home: Path) -> None:
    with input_error("~nobody-at-all", "~nobody-at-all/labels"):
        expand("~nobody-at-all/labels")
    Path("~odd.nii").touch()
    assert expand("~odd.nii") == "~odd.nii"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_path_of_every_command_may_begin_with_a_tilde(command: str, home: Path) -> None:
    values = flags.FlagValues()
    import_module(f"infant_seg_jax.commands.{command.replace('-', '_')}").define_flags(values)
    for name in values:
        flag = values[name]
        if flag.flag_type() in ("string", "multi string") and name not in NO_PATHS:
            flag.parse("~/x")
            assert flag.value in (f"{home}/x", [f"{home}/x"]), name


def test_arguments_and_configs_may_begin_with_a_tilde(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "mine.py").write_text(
        "from infant_seg_jax.config import default_config\n\n\n"
        "def get_config():\n"
        "    config = default_config()\n"
        "    config.data.path = '~/of-the-file'\n"
        "    return config\n"
    )
    train = ["train", "--config=~/mine.py", "--workdir=~/run"]
    for arguments, where in (
        (["inspect", "~/scans"], "scans"),
        (["prepare-anatomies", "tissues:~/maps", "--output=~/out"], "maps"),
        (["compare", "~/a", "~/b"], "a"),
        (train, "of-the-file"),
        ([*train, "--config.data.path=~/given"], "given"),
    ):
        with pytest.raises(SystemExit):
            main(arguments)
        assert f"{home}/{where}" in capsys.readouterr().err
    assert not list(Path.cwd().iterdir())


def test_names_that_commas_join_are_split_but_not_at_their_own(home: Path) -> None:
    (Path("Doe, Jane")).mkdir()
    for name in ("T1.nii", "Doe, Jane/T1.nii", "Doe, Jane/T2.nii", "a,b.nii", "a", " c.nii"):
        Path(name).touch()
    (home / "T2.nii").touch()
    for names in (
        ["T1.nii"],
        ["a,b.nii"],
        ["Doe, Jane/T1.nii", "Doe, Jane/T2.nii"],
        ["T1.nii", "a,b.nii", "a", "Doe, Jane"],
        [" c.nii", "~/T2.nii"],
        ["nowhere.nii", "T1.nii"],
    ):
        assert split_at_commas(",".join(names)) == names
    assert split_at_commas("T1.nii, nowhere.nii") == ["T1.nii", "nowhere.nii"]
    assert split_at_commas("") == []
    assert split_at_commas("x:a,b,y:c", lambda name: name == "x:a,b") == ["x:a,b", "y:c"]


def test_patterns_and_starts_may_have_commas_in_them(home: Path) -> None:
    prepare, transfer, anatomies = (
        import_module(f"infant_seg_jax.commands.{name}")
        for name in ("prepare", "compare_transfer", "prepare_anatomies")
    )
    for name in ("1", "2"):
        folder = home / "Doe, Jane" / name
        folder.mkdir(parents=True)
        for modality in ("T1w", "T2w"):
            (folder / f"{modality}.nii.gz").touch()
    values = flags.FlagValues()
    prepare.define_flags(values)
    patterns = "--images=Doe, Jane/*/T1w,Doe, Jane/*/T2w.nii.gz"
    values(["", "--source=folder", "--input=~", "--modalities=a,b", patterns, "--output=o"])
    assert [case.case_id for case in prepare.find_dataset(values).cases] == ["1", "2"]

    names = ["adult:~/Doe, Jane", "any:bundled"]
    assert split_at_commas(",".join(names), transfer.is_start) == names
    label_maps = ["Doe, J", "2mo_1"]
    assert anatomies.held_out_patterns("Doe,*,2mo_*", label_maps) == ["Doe,*", "2mo_*"]
