"""The flags that choose the weights of a run, of the commands that open models."""

from absl import flags


def define_which(values: flags.FlagValues) -> None:
    """Which checkpoint of a run."""
    flags.DEFINE_string(
        "which",
        "best",
        "Which checkpoint of a run: best (by validation Dice), latest, or the number of a step.",
        flag_values=values,
    )


def define_weights(values: flags.FlagValues) -> None:
    """Which weights of a checkpoint."""
    flags.DEFINE_enum(
        "weights",
        None,
        ["raw", "averaged"],
        "Which weights of a run that keeps a moving average. By default, the averaged ones.",
        flag_values=values,
    )
