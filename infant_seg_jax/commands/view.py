"""show a scan and its label maps in a browser on this machine.

    infant-seg view scan.nii.gz
    infant-seg view scan.nii.gz prediction_dseg.nii.gz truth_dseg.nii.gz

SCAN is any file that `inspect` reads. Label maps must be on its grid; each has a panel of its own,
with the same crosshair. Click on a voxel to see its value and labels. The page is served on
127.0.0.1, on a free port, under an address that nobody can guess, with these files and no others.
Press Ctrl-C to stop it. It needs the extra: pip install 'infant_seg_jax[viewer]'.
"""

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from infant_seg_jax.commands.prepare import define_classes
from infant_seg_jax.data.class_sets import find_classes
from infant_seg_jax.data.labels import TISSUE_CLASSES
from infant_seg_jax.data.schemas import SCHEMAS, find_schema
from infant_seg_jax.paths import define_path
from infant_seg_jax.progress import log

ARGUMENTS = "SCAN..."


def define_flags(values: flags.FlagValues) -> None:
    define_path(
        "schema",
        "",
        f"What the values of the label maps mean: {', '.join(SCHEMAS)}, or a YAML or JSON file "
        "with lines such as '7: GM'. By default as in the JSON beside the first label map, or else "
        "the values of the classes.",
        flag_values=values,
    )
    define_classes(values, "Which classes the schema distinguishes", TISSUE_CLASSES.name)
    flags.DEFINE_bool("open", True, "Open the page in the browser.", flag_values=values)


def run(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    from infant_seg_jax.labeling.scans import schema_of
    from infant_seg_jax.report.viewer.served import start_server, viewer_files

    scan, *label_maps = (Path(path) for path in arguments)
    classes = find_classes(values.classes)
    given = values.schema or values["classes"].present
    schema = None if given or not label_maps else schema_of(label_maps[0])
    schema = schema or find_schema(values.schema or classes.name, classes)
    # Maps have 255 where nobody knows.
    server, address = start_server(viewer_files(scan, label_maps, schema.with_ignored()))
    with server:
        print(address, flush=True)
        log("Open this address in a browser on this machine. Press Ctrl-C to stop.")
        if values.open:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            log("Stopped.")
