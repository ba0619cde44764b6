"""Paths as a person gives them, in flags and arguments."""

import os

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
            f"path, or ./{path} if the name begins so."
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
