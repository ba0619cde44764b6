"""The command line: `infant-seg COMMAND --flags`, also `python -m infant_seg_jax COMMAND`.

A command is a module with `define_flags(values)` and `run(values)`. One with `ARGUMENTS` takes
arguments besides its flags ("RUN OUT": two, "PATH...": one or more) and has
`run(values, arguments)`. Other commands have `INTENDED_FLAGS`: the flags that a person who gives
arguments probably means.
"""

import difflib
import io
import os
import platform
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import NoReturn

from absl import app, flags, logging

from infant_seg_jax.commands.computing import define_computing, use_computing
from infant_seg_jax.config import check_overrides, expand_paths
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import FULL
from infant_seg_jax.huge_pages import restart_with_huge_pages
from infant_seg_jax.paths import expand
from infant_seg_jax.progress import quiet

PROGRAM = "infant-seg"
COMMANDS = {
    "predict": "label scans with a trained network",
    "strip": "strip scans of their skulls",
    "inspect": "look at scans and label maps: what is there, what will cause trouble",
    "report": "write a page about runs, evaluations or label maps",
    "view": "show a scan and its label maps in a browser",
    "evaluate": "measure label maps against the truth, per tissue and subject",
    "compare": "compare two evaluations, subject by subject",
    "prepare": "turn a dataset of scans and label maps into a prepared set",
    "train": "train or fine-tune a network on a prepared set",
    "train-folds": "train every fold, one after another, and collect the scores",
    "compare-transfer": "measure how much another run's weights help",
    "augment": "draw what each augmentation does to a prepared scan",
    "examples": "draw the examples that a config trains on",
    "export-model": "write a trained network as one folder to keep or to pass on",
    "models": "list models, and install others by name",
    "export": "write a trained network as one program for other software",
    "import-weights": "make a model folder from a PyTorch network's weights",
    "render": "render scans of any age and contrast from label maps",
    "prepare-anatomies": "turn label maps into anatomies, from which training renders",
    "demo": "do everything on phantoms, without any data",
}
TRAINING = {"train", "train-folds", "compare-transfer", "demo"}
COMPUTING = {*TRAINING, "predict", "strip", "evaluate", "prepare-anatomies"}
USAGE_STATUS = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exit with 0, with 1 for unusable input, or with 2 for wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # Whatever names of files it cannot encode.
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            _start(arguments)
        finally:
            sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError) and error.errno not in FULL:
            raise
        # What is still unwritten goes nowhere (Python's documentation of SIGPIPE).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno in FULL:
            _fail(f"the disk is full ({error}): make room on it.", 1)
        sys.exit(1)
    except Exception:
        if _has_device():
            raise
        _fail(
            f"JAX finds no device of the platform {os.environ.get('JAX_PLATFORMS')} here: unset "
            "JAX_PLATFORMS, or install JAX for this platform, as launch/install.sh does.",
            1,
        )


def _has_device() -> bool:
    """Whether JAX, if it was loaded, has a device to compute on; it says so in many ways."""
    try:
        return "jax" not in sys.modules or bool(sys.modules["jax"].devices())
    except Exception:
        return False


def _start(arguments: Sequence[str] | None) -> None:
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("--help", "-h", "help"):
        print(_overview())
        return
    if name == "--version":
        print(_version(verbose="--verbose" in rest))
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}" if near else f"expected one of {', '.join(COMMANDS)}"
        _fail(f"there is no command '{name}': {hint}{'?' if near else '.'}", USAGE_STATUS)
    if arguments is None and name in COMPUTING:
        restart_with_huge_pages()
    command = import_module(f"infant_seg_jax.commands.{name.replace('-', '_')}")
    rest = [_with_underscores(argument) for argument in rest]
    # Config flags look for their overrides in sys.argv, whatever arguments they are given.
    sys.argv = [f"{PROGRAM} {name}", *rest]
    if any(argument in ("--help", "-h", "-help", "--helpfull") for argument in rest):
        print(_help(name, command))
        return
    app.run(
        lambda parsed: _run(name, command, *parsed), sys.argv, flags_parser=_parser(name, command)
    )


def _with_underscores(argument: str) -> str:
    """`--max-memory=4GB` as absl spells it, `--max_memory=4GB`."""
    flag, equals, value = argument.partition("=")
    if not re.fullmatch(r"--[a-z_]+(-[a-z_]+)+", flag):
        return argument
    return f"--{flag[2:].replace('-', '_')}{equals}{value}"


def _parser(
    name: str, command: ModuleType
) -> Callable[[Sequence[str]], tuple[flags.FlagValues, list[str]]]:
    wanted = getattr(command, "ARGUMENTS", "")

    def parse(argv: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
        flags.FLAGS(argv[:1])  # absl's own flags; the command's are its own, not global.
        values = flags.FlagValues()
        values.set_gnu_getopt(bool(wanted))  # flags may follow arguments
        try:
            check_overrides(argv)
            _define_all(name, command, values)
            if not wanted:
                _check_all_are_flags(argv, values, getattr(command, "INTENDED_FLAGS", ()))
            arguments = [expand(argument) for argument in values(argv)[1:]]
            if "config" in values and values.config is not None:
                _ = values.config.keys  # A config that failed to load says so only when used.
                expand_paths(values.config)
        except InputError as error:
            _fail(str(error), USAGE_STATUS)
        except flags.Error as error:
            if isinstance(error.__context__, InputError):  # A flag's own sentence says it all.
                _fail(str(error.__context__), USAGE_STATUS)
            missing = re.findall(r"Flag (--\w+) must have a value other than None", str(error))
            problem = f"{', '.join(missing)} must be given" if missing else str(error)
            _fail(f"{problem}; see `{argv[0]} --help`.", USAGE_STATUS)
        except (AttributeError, KeyError, TypeError, OSError, ValueError) as error:
            # What ml_collections raises for a config that is missing or an override that is wrong.
            message = " ".join(str(error).replace("\\n", " ").split())
            _fail(message.strip("\"'"), USAGE_STATUS)
        names = wanted.split()
        if len(arguments) < len(names):
            _fail(f"{wanted} must be given; see `{argv[0]} --help`.", USAGE_STATUS)
        if len(arguments) > len(names) and "..." not in wanted:
            _fail(
                f"'{arguments[len(names)]}' is one argument too many, expected {wanted}; see "
                f"`{argv[0]} --help`.",
                USAGE_STATUS,
            )
        return values, arguments

    return parse


def _define_all(name: str, command: ModuleType, values: flags.FlagValues) -> None:
    """A command's flags, and those that others have, too."""
    command.define_flags(values)
    if name in COMPUTING:
        define_computing(values)
    flags.DEFINE_bool("quiet", False, "Show no progress.", flag_values=values)


def _check_all_are_flags(
    argv: Sequence[str], values: flags.FlagValues, meant: Sequence[str]
) -> None:
    """Raise an InputError that names the flags which stray arguments, of no flag, may be meant for.

    To absl the first of them ends the flags.
    """
    strays, given, takes_next = [], set(), False
    for argument in argv[1:]:
        flag, equals, _ = argument.lstrip("-").partition("=")
        if argument.startswith("-"):
            given.add(flag)
            boolean = any(
                f in values and values[f].boolean for f in (flag, flag.removeprefix("no"))
            )
            takes_next = not equals and not boolean
        elif takes_next:
            takes_next = False
        else:
            strays.append(argument)
    if strays:
        free = [flag for flag in meant if flag not in given]
        pairs = zip(free, strays, strict=False)
        hint = " ".join(f"--{flag}={shlex.quote(stray)}" for flag, stray in pairs)
        raise InputError(
            f"'{strays[0]}' is not a flag, write {hint or '--name=value'}; see `{argv[0]} --help`."
        )


def _run(name: str, command: ModuleType, values: flags.FlagValues, arguments: list[str]) -> None:
    # Orbax and JAX narrate, warn of what we intend, and log what they also raise.
    logging.set_verbosity(logging.FATAL)
    quiet.set(values.quiet)
    try:
        if name in COMPUTING:
            use_computing(values, training=name in TRAINING)
        command.run(values, *([arguments] if arguments else []))
    except InputError as error:
        _fail(f"{name}: {error}", 1)
    except KeyboardInterrupt:
        _fail(f"{name}: stopped by the keyboard.", 130)


def _fail(sentence: str, status: int) -> NoReturn:
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)
    sys.exit(status)


def _overview() -> str:
    lines = [f"  {name:18}{what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "Label brain MRI scans as CSF, gray matter and white matter, above all of infants.",
            "",
            f"usage: {PROGRAM} COMMAND --flag=value ...",
            "",
            *lines,
            "",
            f"`{PROGRAM} COMMAND --help` explains a command. `{PROGRAM} --version` prints the",
            "version, and with --verbose also the software and devices that it uses.",
        ]
    )


def _version(verbose: bool) -> str:
    own = f"infant_seg_jax {version('infant_seg_jax')}"
    if not verbose:
        return own
    import jax

    from infant_seg_jax.compilation import describe_convolutions

    return "\n".join(
        [
            own,
            f"Python {platform.python_version()}, JAX {jax.__version__}, "
            f"jaxlib {version('jaxlib')}, flax {version('flax')}",
            f"Devices: {', '.join(str(device) for device in jax.devices())}",
            describe_convolutions(),
        ]
    )


def _help(name: str, command: ModuleType) -> str:
    values = flags.FlagValues()
    _define_all(name, command, values)
    rows = []
    for flag_name in values:
        flag = values[flag_name]
        value = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
        default = "" if value in (None, "") else f" (default: {value})"
        help_text = (flag.help or "").split(";\n")[0]  # absl adds that a flag may be repeated
        text = textwrap.fill(f"{help_text}{default}", 96, break_on_hyphens=False)
        rows.append(f"  --{flag_name}\n{textwrap.indent(text, ' ' * 6)}")
    return "\n".join([f"{PROGRAM} {name}: {(command.__doc__ or '').strip()}", "", *rows])


if __name__ == "__main__":
    main()
