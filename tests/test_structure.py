"""How the packages depend on each other, as `tool.importlinter` in pyproject.toml orders them."""

import os
from pathlib import Path

import pytest
from importlinter import cli

ROOT = Path(__file__).parents[1]


def test_data_flows_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert (
        cli.lint_imports(config_filename=os.fspath(ROOT / "pyproject.toml"))
        == cli.EXIT_STATUS_SUCCESS
    )
