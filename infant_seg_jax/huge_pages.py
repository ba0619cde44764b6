"""Huge pages on Linux, where a program has to ask for them.

A training step fills gigabytes of fresh arrays, and the kernel hands them out page by page: with
4 KiB a page that is 15 to 30% of a step on CPUs (`benchmarks/NOTES.md`). glibc asks for pages of
2 MiB with its tunable `glibc.malloc.hugetlb=1`, from version 2.35 on; an older one, or another C
library, ignores it. It is read once, before Python starts.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_TUNABLES = "GLIBC_TUNABLES"
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def huge_page_variables(
    environment: Mapping[str, str] = os.environ, setting: Path = _HUGE_PAGES
) -> dict[str, str]:
    """The environment variables that a process has to start with to get huge pages.

    None, where a person has set glibc's tunables already, and where the kernel (`setting`, a file
    that marks one of "always madvise never") does not wait to be asked.
    """
    try:
        asked_for = "[madvise]" in setting.read_text(encoding="ascii")
    except OSError:  # not on Linux, or a kernel without huge pages
        return {}
    return (
        {_TUNABLES: "glibc.malloc.hugetlb=1"} if asked_for and _TUNABLES not in environment else {}
    )


def restart_with_huge_pages() -> None:
    """Start this very program again, as the same process, if it could have huge pages and has not.

    To be called before anything has been done, for nothing of it is kept.
    """
    variables = huge_page_variables()
    if variables:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **variables})
