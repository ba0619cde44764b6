"""Which folders a report can be made of, by what lies in them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from infant_seg_jax.errors import InputError
from infant_seg_jax.evaluation.score_files import has_scores
from infant_seg_jax.report.pages.prediction import is_prediction

RUN, EVALUATION, PREDICTION = "run", "evaluation", "prediction"

_DEPTH = 3
_MOST = 200


@dataclass(frozen=True)
class Output:
    """A folder that a command wrote.

    Attributes:
        kind: `RUN`, `EVALUATION` or `PREDICTION`.
        folder: where.
        name: what it is called, different from all others of its kind.
    """

    kind: str
    folder: Path
    name: str


def find_outputs(paths: Sequence[Path]) -> tuple[Output, ...]:
    """What lies at these paths, or else below them, as in the folder of a demo or of a sweep.

    Raises:
        InputError: a path is missing, there is nothing to report of at it, or far too much.
    """
    found: dict[Path, str] = {}
    for path in paths:
        if not path.is_dir():
            raise InputError(
                f"There is no folder {path}: name the output of train, evaluate, predict or demo."
            )
        here = list(_below(path, _DEPTH))
        if not here:
            raise InputError(
                f"{path} contains no run, scores or label maps of infant-seg: name the output of "
                "train, evaluate, predict or demo."
            )
        found.update({folder.absolute(): kind for folder, kind in here})
    if len(found) > _MOST:
        raise InputError(
            f"There are {len(found)} runs and outputs, expected at most {_MOST} for one page: "
            "choose some of them."
        )
    names = {
        kind: _names([folder for folder in found if found[folder] == kind])
        for kind in (RUN, EVALUATION, PREDICTION)
    }
    return tuple(Output(kind, folder, names[kind][folder]) for folder, kind in found.items())


def _below(folder: Path, depth: int) -> Iterator[tuple[Path, str]]:
    if kind := _kind(folder):
        yield folder, kind
        return
    if depth:
        try:
            inside = sorted(path for path in folder.iterdir() if path.is_dir())
        except OSError:
            return
        for path in inside:
            if not path.name.startswith(".") and not path.is_symlink():
                yield from _below(path, depth - 1)


def _kind(folder: Path) -> str | None:
    if (folder / "config.json").is_file() and (folder / "run.json").is_file():
        return RUN
    kinds: tuple[tuple[str, Callable[[Path], bool]], ...] = (
        (EVALUATION, has_scores),
        (PREDICTION, is_prediction),
    )
    return next((kind for kind, is_one in kinds if is_one(folder)), None)


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """The last parts of each path that no other path ends with."""
    names = {}
    for folder in folders:
        many = 1
        while many < len(folder.parts) and any(
            other != folder and other.parts[-many:] == folder.parts[-many:] for other in folders
        ):
            many += 1
        names[folder] = "/".join(folder.parts[-many:])
    return names
