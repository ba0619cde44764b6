"""Paths as a person gives them: a `~` at their start, commas between them or within them."""

import os
from collections.abc import Callable

from absl import flags

from infant_seg_jax.errors import InputError


def expand(path: str) -> str:
    """A path with the home folder for a `~` or `~user` at its start, as a shell would have it.

    Raises:
        InputError: there is no such home folder, nor a file of that very name.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~") and not os.path.exists(expanded):
        raise InputError(
            f"There is no home folder for the {expanded.split('/')[0]} of {path}: write the whole "
            f"path, or ./{path} if that is the file's name."
        )
    return expanded


def define_path(
    name: str,
    default: str | list[str] | None,
    help: str,
    flag_values: flags.FlagValues,
    *,
    required: bool = False,
    repeated: bool = False,
) -> None:
    """A flag that is a path, as `expand` reads it, or, `repeated`, a list of them."""
    kind = flags.MultiFlag if repeated else flags.Flag
    flag = kind(_PathParser(), flags.ArgumentSerializer(), name, default, help)
    flags.DEFINE_flag(flag, flag_values, required=required)


class _PathParser(flags.ArgumentParser[str]):
    def parse(self, argument: str) -> str:
        return expand(argument)


def split_at_commas(text: str, is_one: Callable[[str], bool] | None = None) -> list[str]:
    """The names that commas join in a text, though a name may have commas in it.

    Args:
        text: as in `T1w.nii.gz,T2w.nii.gz`; none if it is empty.
        is_one: whether a text is a name, which is not split then; by default, whether there is a
            file or folder of that name.
    """
    is_one = is_one or (lambda name: os.path.exists(os.path.expanduser(name)))
    pieces, names = text.split(",") if text else [], []
    while pieces:
        starts = (",".join(pieces[:count]) for count in range(len(pieces), 0, -1))
        name = next(filter(is_one, starts), pieces[0].strip())
        names.append(name)
        del pieces[: name.count(",") + 1]
    return names
