"""Configs by name and by path, and whose network they ask for."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from absl import flags

from infant_seg_jax.__main__ import main
from infant_seg_jax.commands.config_flag import config_of, define_config
from infant_seg_jax.config import Config, default_config, open_config
from infant_seg_jax.errors import InputError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_each_config_is_found_by_its_name_from_anywhere(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_config(file.stem) == open_config(str(file))


def test_a_path_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "from infant_seg_jax.config import default_config\n"
    text += "def get_config(seed='7'):\n    config = default_config()\n"
    Path("ibsr_cpu").write_text(text + "    config.seed = int(seed)\n    return config\n")
    assert open_config("ibsr_cpu").seed == 7
    assert open_config("ibsr_cpu:8").seed == 8


def test_names_are_said_the_nearest_first(tmp_path: Path) -> None:
    for wrong in ("ibsr-cpu", str(tmp_path / "ibsr_cpu.py")):
        with pytest.raises(InputError) as caught:
            open_config(wrong)
        names = str(caught.value).split(": ")[-1].rstrip(".").split(", ")
        assert sorted(names) == [file.stem for file in CONFIGS]
        assert names[0] == "ibsr_cpu"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", "SyntaxError"),
        ("get_confg = 1", "KeyError"),
        ("def get_config():\n    return 1 / 0", "ZeroDivisionError in line 2"),
        ("def get_config():\n    return {}", "returns dict"),
    ],
)
def test_a_file_that_makes_no_config_is_one_sentence(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(SystemExit) as stop:
        main(["train", f"--config={path}", f"--workdir={tmp_path / 'run'}"])
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and str(path) in line and message in line


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    def parse(*arguments: str) -> Config:
        argv = ["train", "--config=default", *arguments]
        monkeypatch.setattr(sys, "argv", argv)  # where overrides are looked for
        values = flags.FlagValues()
        define_config(values, "help")
        values(argv)
        return config_of(values)

    return parse


def test_flags_that_choose_a_network_are_explicit(parse: Callable[..., Config]) -> None:
    assert parse().to_dict() == default_config().to_dict()
    assert parse("--config.model.dropout_rate=0.5").init.architecture == "checkpoint"
    assert parse("--config.steps=3", "--config.model.growth_rate=16").init.architecture == "config"
    given = parse("--config.model.block_layers=(2, 2)", "--config.init.architecture=checkpoint")
    assert given.init.architecture == "checkpoint"
