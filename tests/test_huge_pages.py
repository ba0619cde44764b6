"""Huge pages are asked for once, where that is of use, by commands that compute."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infant_seg_jax import __main__ as command_line
from infant_seg_jax.huge_pages import huge_page_variables

ASKED_FOR = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


@pytest.mark.parametrize(
    ("setting", "environment", "variables"),
    [
        ("always [madvise] never\n", {"HOME": "/"}, ASKED_FOR),
        ("always [madvise] never\n", ASKED_FOR, {}),
        ("always [madvise] never\n", {"GLIBC_TUNABLES": "glibc.malloc.check=3"}, {}),
        ("[always] madvise never\n", {}, {}),
        ("always madvise [never]\n", {}, {}),
    ],
)
def test_asked_for_only_where_linux_waits_to_be_asked(
    setting: str, environment: dict[str, str], variables: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "enabled").write_text(setting)
    assert huge_page_variables(environment, tmp_path / "enabled") == variables


def test_no_such_setting(tmp_path: Path) -> None:
    assert huge_page_variables({}, tmp_path / "enabled") == {}


@pytest.mark.skipif(not huge_page_variables({}), reason="this kernel does not wait to be asked")
def test_the_same_process_starts_again_with_the_same_arguments() -> None:
    code = "; ".join(
        [
            "import json, os, sys",
            "from infant_seg_jax.huge_pages import restart_with_huge_pages",
            "print(os.getpid(), flush=True)",
            "restart_with_huge_pages()",
            "print(json.dumps([sys.argv, os.environ['GLIBC_TUNABLES']]))",
        ]
    )
    arguments = ["--input=a scan.nii.gz", "", "ü"]
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after, found = result.stdout.splitlines()
    assert before == after
    assert json.loads(found) == [["-c", *arguments], *ASKED_FOR.values()]


@pytest.mark.parametrize(
    ("command", "restarts"), [("train", 1), ("predict", 1), ("evaluate", 1), ("compare", 0)]
)
def test_commands_that_compute_have_them(
    command: str, restarts: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(command_line, "restart_with_huge_pages", lambda: calls.append(command))
    monkeypatch.setattr(sys, "argv", ["infant-seg", command, "--help"])
    command_line.main()
    assert len(calls) == restarts
    command_line.main([command, "--help"])  # called by a program, which would be started again
    assert len(calls) == restarts
    assert capsys.readouterr().out
