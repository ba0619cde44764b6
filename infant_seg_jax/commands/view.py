"""look around in a scan and its label maps, in a browser on this machine.

    infant-seg view scan.nii.gz
    infant-seg view scan.nii.gz prediction_dseg.nii.gz truth_dseg.nii.gz

SCAN is any file that `inspect` reads; label maps are those on its grid, each in a panel of its own
beside the others, with the same crosshair. A click says the voxel's value and its labels. The page
is served on 127.0.0.1, on a free port, under an address that nobody can guess, with these files and
no others, until Ctrl-C. It takes the extra: pip install 'infant_seg_jax[viewer]'.
"""

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from infant_seg_jax.data.labels import IGNORE
from infant_seg_jax.data.schemas import SCHEMAS, TISSUE_SCHEMA, find_schema
from infant_seg_jax.paths import define_path
from infant_seg_jax.progress import note

ARGUMENTS = "SCAN..."


def define_flags(values: flags.FlagValues) -> None:
    define_path(
        "schema",
        TISSUE_SCHEMA.name,
        f"What the values of the label maps mean: {', '.join(SCHEMAS)}, or a YAML or JSON file "
        "with lines such as '7: GM'.",
        flag_values=values,
    )
    flags.DEFINE_bool("open", True, "Open the page in the browser.", flag_values=values)


def run(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    from infant_seg_jax.report.viewer import start_server, viewer_files

    scan, *label_maps = (Path(path) for path in arguments)
    schema = find_schema(values.schema)
    if IGNORE not in schema.table:  # As maps have it where nobody knows.
        schema = schema.changed({IGNORE: IGNORE})
    server, address = start_server(viewer_files(scan, label_maps, schema))
    with server:
        print(address, flush=True)
        note("Open this address in a browser on this machine; Ctrl-C ends it.")
        if values.open:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            note("Stopped.")
