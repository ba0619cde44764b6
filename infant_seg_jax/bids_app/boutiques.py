"""The App's Boutiques descriptor (Glatard et al., GigaScience 7(5), 2018).

`python -m infant_seg_jax.bids_app.boutiques > launch/boutiques.json` writes it.
"""

import json
from importlib.metadata import version
from typing import Any

from infant_seg_jax.bids_app.app import ABOUT, HELP, LEVELS, PROGRAM
from infant_seg_jax.bids_app.options import Option, options

_TYPES = {bool: "Flag", int: "Number", float: "Number", str: "String"}


def descriptor() -> dict[str, Any]:
    """The descriptor, by Boutiques' schema 0.5."""
    inputs = [
        _positional("bids_dir", "BIDS dataset", "File"),
        _positional("output_dir", "Output folder", "String"),
        {**_positional("analysis_level", "Level", "String"), "value-choices": list(LEVELS)},
        *map(_input, options()),
    ]
    keys = " ".join(one["value-key"] for one in inputs)
    return {
        "name": "infant_seg_jax",
        "description": ABOUT,
        "tool-version": version("infant_seg_jax"),
        "schema-version": "0.5",
        "command-line": f"{PROGRAM} {keys}",
        "tags": {"domain": ["neuroinformatics", "mri"]},
        "inputs": inputs,
        "output-files": [
            {
                "id": "derivative",
                "name": "Derivative",
                "description": "Label maps, brain masks, volumes: a BIDS derivative.",
                "path-template": "[OUTPUT_DIR]",
            }
        ],
    }


def _positional(name: str, title: str, kind: str) -> dict[str, Any]:
    return {
        "id": name,
        "name": title,
        "description": HELP[name],
        "type": kind,
        "value-key": f"[{name.upper()}]",
    }


def _input(option: Option) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": option.name,
        "name": option.name.replace("_", " ").capitalize(),
        "description": option.help,
        "type": _TYPES[option.kind],
        "value-key": f"[{option.name.upper()}]",
        "command-line-flag": f"--{option.name.replace('_', '-')}",
        "optional": True,
    }
    if option.choices:
        found["value-choices"] = list(option.choices)
    if option.many:
        found["list"] = True
    if option.kind is int:
        found["integer"] = True
    return found


if __name__ == "__main__":
    print(json.dumps(descriptor(), indent=2))
