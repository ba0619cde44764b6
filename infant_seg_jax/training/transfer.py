"""Starting from another network's weights: what is loaded, what starts anew, what may learn.

Nothing is padded or cut to fit. What differs without an explanation in the config is an error.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from infant_seg_jax.config import Config
from infant_seg_jax.data.formats.grid import times
from infant_seg_jax.errors import InputError, some_of
from infant_seg_jax.files import write_rows
from infant_seg_jax.models.factory import Network
from infant_seg_jax.models.variables import abstract_variables, by_path, map_with_path
from infant_seg_jax.training.optimizers import make_optimizer


@dataclass(frozen=True)
class PartStart:
    """How one parameter, or batch statistic, starts.

    Attributes:
        path: as in `params/block1/layer1/conv/kernel`.
        shape: its sizes, as in `3x3x3x32x16`.
        start: `loaded`, `loaded, spread over channels`, `fresh` and so on.
        frozen: whether it stays as it is, at least until `config.init.unfreeze_at`.
        multiplier: of its learning rate.
    """

    path: str
    shape: str
    start: str
    frozen: bool
    multiplier: float


def merge(
    fresh: dict[str, Any],
    loaded: dict[str, Any],
    init: Config,
    model: Network,
    modalities: int,
    source: Path | str,
) -> tuple[dict[str, Any], tuple[PartStart, ...]]:
    """Fresh variables with what `init` takes from loaded ones, and how each of them starts.

    Loaded is what has the same path and shape and is not to be reinitialized. Two differences of
    shape explain themselves or are explained by `init`: another number of classes makes the
    parameters that count classes start anew, and another number of input channels is met by
    `init.input_channels` (`sum`: several channels become one whose kernel is their sum; `spread`:
    the sum is shared out evenly, so that equal channels are answered as before). `init.batch_norm`
    `reset` starts the running statistics anew.

    Raises:
        InputError: parameters are missing, further or of other shapes and nothing explains it, a
            pattern fits no parameter, or a multiplier is not one.
    """
    old, new = by_path(loaded), by_path(fresh)
    multipliers = parse_multipliers(init)
    _check_patterns([*init.reinitialise, *init.freeze, *(p for _, p in multipliers)], new)
    of_classes, of_channels = _changing(model, modalities)
    if _classes(old) == _classes(new):
        of_classes = set()
    values, starts, unexplained = {}, {}, {}
    for path, value in new.items():
        found = old.get(path)
        if _fits(init.reinitialise, path):
            starts[path] = "fresh, as asked"
        elif path.startswith("batch_stats") and init.batch_norm == "reset":
            starts[path] = "fresh, reset"
        elif found is not None and found.shape == value.shape:
            starts[path], values[path] = "loaded", found
        elif found is not None and path in of_classes:
            starts[path] = "fresh, for another number of classes"
        elif found is not None and path in of_channels and init.input_channels != "same":
            values[path] = _other_channels(found, value, init.input_channels, source)
            starts[path] = f"loaded, {init.input_channels} over channels"
        else:
            what = "absent" if found is None else times(found.shape)
            unexplained[path] = f"{what}, expected {times(value.shape)}"
    for path in old.keys() - new.keys():
        unexplained[path] = f"{times(old[path].shape)}, expected none"
    if unexplained:
        raise _does_not_fit(unexplained, of_channels, source)
    merged = map_with_path(
        lambda path, leaf: jnp.asarray(values[path], leaf.dtype) if path in values else leaf, fresh
    )
    rows = tuple(
        PartStart(
            path,
            times(value.shape),
            starts[path],
            _is_frozen(path, init),
            _multiplier(path, multipliers),
        )
        for path, value in new.items()
    )
    return merged, rows


def run_optimizer(config: Config) -> optax.GradientTransformation:
    """The optimizer of a run: `config.optimizer`'s, by the parts of `config.init`."""
    steps = None if config.minutes else config.steps
    return learn_by_parts(make_optimizer(config.optimizer, steps), config.init)


def learn_by_parts(
    optimizer: optax.GradientTransformation, init: Config
) -> optax.GradientTransformation:
    """An optimizer that leaves frozen parameters alone and scales the steps of others.

    Frozen ones have neither a share in the clipping of gradients nor move by weight decay, until
    step `init.unfreeze_at` (never, if 0).
    """
    multipliers = parse_multipliers(init)
    if not init.freeze and not multipliers:
        return optimizer
    unfreeze_at = init.unfreeze_at or np.inf

    def gate(path: str, count: Any) -> Any:
        return jnp.where(count >= unfreeze_at, 1.0, 0.0) if _is_frozen(path, init) else 1.0

    def scale(factor: Any) -> optax.GradientTransformation:
        """Updates times `factor(path, steps so far)`."""

        def start(params: Any) -> Any:
            del params
            return jnp.zeros((), jnp.int32)

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            del params
            scaled = map_with_path(
                lambda path, leaf: leaf * factor(f"params/{path}", state), updates
            )
            return scaled, state + 1

        return optax.GradientTransformation(start, update)

    return optax.chain(
        scale(gate),
        optimizer,
        scale(lambda path, count: gate(path, count) * _multiplier(path, multipliers)),
    )


def parse_multipliers(init: Config) -> list[tuple[float, str]]:
    """`("0.1:stem", ...)` as factors and patterns.

    Raises:
        InputError: one is written otherwise.
    """
    parsed = []
    for text in init.multipliers:
        factor, colon, pattern = text.partition(":")
        try:
            value = float(factor)
        except ValueError:
            value = -1.0
        if not (colon and pattern and 0 <= value < np.inf):
            raise InputError(
                f"config.init.multipliers has '{text}', expected FACTOR:PATTERN, as in '0.1:stem'."
            )
        parsed.append((value, pattern))
    return parsed


def write_table(path: Path, rows: Sequence[PartStart]) -> None:
    """Write how each parameter starts as tab-separated values."""
    header = [field.name for field in fields(PartStart)]
    write_rows(path, [header, *(astuple(row) for row in rows)], delimiter="\t")


def summary(rows: Sequence[PartStart]) -> str:
    """The table in a few words, as in `94 loaded, 2 fresh (4 classes became 5); 30 frozen`."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.start] = counts.get(row.start, 0) + 1
    listed = "; ".join(f"{count} {start}" for start, count in counts.items())
    frozen = sum(row.frozen for row in rows)
    slowed = sum(row.multiplier != 1 for row in rows)
    return (
        f"{listed}"
        + f"; {frozen} frozen" * bool(frozen)
        + f"; {slowed} with a learning rate of their own" * bool(slowed)
    )


def _does_not_fit(
    unexplained: dict[str, str], of_channels: set[str], source: Path | str
) -> InputError:
    every = (f"{path} is {unexplained[path]}" for path in sorted(unexplained))
    advice = (
        "config.init.input_channels=spread or sum adapts to another number of modalities"
        if unexplained.keys() <= of_channels
        else "leave config.model and config.init.architecture at their defaults to use its "
        "architecture, or name everything to reinitialize in config.init.reinitialise"
    )
    return InputError(
        f"The checkpoint of {source} does not fit the network: {some_of(every, 3, '; ')}; {advice}."
    )


def _changing(model: Network, modalities: int) -> tuple[set[str], set[str]]:
    """The paths whose shapes count classes, and those whose shapes count input channels."""

    def shapes(classes: int, channels: int) -> dict[str, tuple[int, ...]]:
        changed = model.clone(num_classes=classes)
        return {path: x.shape for path, x in by_path(abstract_variables(changed, channels)).items()}

    as_is = shapes(model.num_classes, modalities)
    classes = shapes(model.num_classes + 1, modalities)
    channels = shapes(model.num_classes, modalities + 1)
    return (
        {path for path in as_is if as_is[path] != classes[path]},
        {path for path in as_is if as_is[path] != channels[path]},
    )


def _classes(variables: dict[str, Any]) -> int | None:
    """How many classes the head tells apart, by its bias."""
    bias = variables.get("params/head_conv/bias")
    return None if bias is None else bias.shape[0]


def _other_channels(kernel: Any, like: Any, how: str, source: Path | str) -> np.ndarray:
    """A kernel `(..., in, out)` for another number of input channels."""
    inputs = like.shape[-2]
    if kernel.shape[:-2] + kernel.shape[-1:] != like.shape[:-2] + like.shape[-1:]:
        raise InputError(
            f"The first kernel of {source} is {times(kernel.shape)}, expected "
            f"{times(like.shape)}, which differs in more than the input channels."
        )
    if how == "sum" and inputs != 1:
        raise InputError(
            "config.init.input_channels is sum, which combines several channels into one, but "
            f"there are {inputs} modalities: choose spread."
        )
    total = np.asarray(kernel).sum(axis=-2, keepdims=True)
    return np.repeat(total / inputs, inputs, axis=-2)


def _check_patterns(patterns: Sequence[str], parameters: dict[str, Any]) -> None:
    for pattern in patterns:
        if not any(_fits([pattern], path) for path in parameters):
            some = ", ".join(list(parameters)[:3])
            raise InputError(
                f"config.init has the pattern '{pattern}', which is not part of any parameter's "
                f"path, expected part of a path such as {some}."
            )


def _fits(patterns: Sequence[str], path: str) -> bool:
    return any(fnmatchcase(path, f"*{pattern}*") for pattern in patterns)


def _is_frozen(path: str, init: Config) -> bool:
    return path.startswith("params/") and _fits(init.freeze, path)


def _multiplier(path: str, multipliers: Sequence[tuple[float, str]]) -> float:
    """The factor of the last pattern that fits, as later ones are meant to be more special."""
    return next((f for f, pattern in reversed(multipliers) if _fits([pattern], path)), 1.0)
