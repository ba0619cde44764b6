"""A scan and its label maps in a browser, by NiiVue, which the `viewer` extra brings.

The page is served on this machine alone. Its address has a token that nobody can guess, which
keeps out other users of the machine and other pages in the browser; it gives nothing but itself
and the volumes that were named.
"""

import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Shaped

from infant_seg_jax.data.cropping import crop_affine, crop_box
from infant_seg_jax.data.foreground import find_foreground
from infant_seg_jax.data.labels import LabelSchema
from infant_seg_jax.data.volumes import Volume, check_same_grid, read_image, read_label_map
from infant_seg_jax.errors import InputError
from infant_seg_jax.files import legible
from infant_seg_jax.progress import log
from infant_seg_jax.report.drawing.slices import gray_window, tissues
from infant_seg_jax.report.templates import environment, template_text
from infant_seg_jax.report.viewer.embedded import MARGIN_MM
from infant_seg_jax.report.viewer.niivue import label_colors, nifti_bytes, niivue_script

MAX_LABEL_MAPS = 4
"""Each has a panel of its own, with the scan in it."""

_HOST = "127.0.0.1"
_SECURITY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' data: blob:; "
    "img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src data:; "
    "worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _SECURITY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, eq=False)
class Served:
    """A file of the page: its type and its bytes."""

    kind: str
    content: bytes


def viewer_files(
    scan: Path, label_maps: Sequence[Path], schema: LabelSchema
) -> Mapping[str, Served]:
    """The page and all that it loads, by name; volumes are cut to the brain, or to the head.

    Args:
        scan: any file that we read.
        label_maps: on its grid.
        schema: what their values mean.

    Raises:
        InputError: a file cannot be read, a label map is not on the scan's grid or has values
            outside the schema, there are too many, or NiiVue is not installed.
    """
    if len(label_maps) > MAX_LABEL_MAPS:
        raise InputError(
            f"There are {len(label_maps)} label maps, expected at most {MAX_LABEL_MAPS}: choose "
            "some of them."
        )
    script = niivue_script()
    volume = read_image(scan)
    maps = [_read_labels(path, volume, schema) for path in label_maps]
    # As large as the brain, in whose middle the crosshair is then.
    seen = tissues(maps) if maps else find_foreground(volume.data, volume.spacing).mask
    box = crop_box(seen if seen.any() else ~seen, MARGIN_MM, volume.spacing)
    image, affine = volume.data[box][..., 0], crop_affine(volume.affine, box)
    low, high = gray_window(image)
    files = {
        "niivue.js": Served("text/javascript", script),
        "viewer.js": Served("text/javascript", _script().encode()),
        "viewer.css": Served("text/css", template_text("viewer.css").encode()),
        "scan.nii": Served("application/octet-stream", nifti_bytes(image, affine)),
    }
    names = []
    for number, (path, classes) in enumerate(zip(label_maps, maps, strict=True)):
        content = nifti_bytes(classes[box], affine, of_labels=True)
        name = f"labels-{number}.nii"
        files[name] = Served("application/octet-stream", content)
        names.append({"file": name, "name": path.name})
    config = {
        "title": str(scan),
        "scan": {
            **{"file": "scan.nii", "name": scan.name, "low": low, "high": high},
            **{"slope": 1, "start": 0, "rounded": False},
        },
        "label_maps": names,
        "shape": image.shape,
        "first": [side.start for side in box],
        "labels": label_colors(schema.classes),
    }
    page = environment().get_template("viewer.html")
    text = page.render(title=str(scan), config=json.dumps(config))
    files[""] = Served("text/html; charset=utf-8", legible(text).encode())
    return files


def start_server(files: Mapping[str, Served]) -> tuple[ThreadingHTTPServer, str]:
    """A server of these files on a free port of this machine, and the page's address.

    It serves as long as its `serve_forever` runs.
    """
    token = secrets.token_urlsafe(24)
    server = _Server((_HOST, 0), _handler(files, token))
    return server, f"http://{_HOST}:{server.server_port}/{token}/"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where a browser has left before it had all that it asked for."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(files: Mapping[str, Served], token: str) -> type[BaseHTTPRequestHandler]:
    prefix = f"/{token}/"

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "infant-seg", ""

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            start = path[: len(prefix)].encode("utf-8", errors="replace")
            known = secrets.compare_digest(start, prefix.encode())
            # A page that has another name point at this machine still has that name.
            ours = self.headers.get("Host") == f"{_HOST}:{self.connection.getsockname()[1]}"
            served = files.get(path[len(prefix) :]) if known and ours else None
            if served is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", served.kind)
            self.send_header("Content-Length", str(len(served.content)))
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(served.content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: the address, which is a secret, would be in it."""

    return Handler


def _read_labels(path: Path, scan: Volume, schema: LabelSchema) -> Shaped[np.ndarray, "x y z"]:
    label_map = read_label_map(path)
    for notice in check_same_grid(label_map, scan):
        log(notice)
    return schema.to_classes(label_map.data, path)


def _script() -> str:
    return template_text("viewer.js") + template_text("viewer_served.js")
