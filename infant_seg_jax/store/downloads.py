"""Models from the network: an https address, a Zenodo record or a Hugging Face repository.

The clients are pooch and huggingface_hub, of the extra `models`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from infant_seg_jax.errors import InputError, some_of
from infant_seg_jax.progress import log
from infant_seg_jax.store.array_files import MAX_BYTES

FORMS = "https://ADDRESS, doi:RECORD of Zenodo, or hf:OWNER/NAME of Hugging Face"
"""What `download` takes, in words."""
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz")

_URL = re.compile(r"https?://[^/\s]+/\S+")
_DOI = re.compile(r"doi:(10\.[0-9]+/[^/\s]+)(?:/([^/\s]+))?")
_HUGGING_FACE = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@(\S+))?")
_CHUNK = 2**16


def is_remote(source: str) -> bool:
    """Whether `download` takes this."""
    return any(form.fullmatch(source) for form in (_URL, _DOI, _HUGGING_FACE))


def download(source: str, folder: Path, names: Sequence[str], by_hand: str) -> Path:
    """Download a model as a folder with files of some names, or as an archive.

    Args:
        source: an address of an archive; `doi:10.5281/zenodo.N` of a record that has the files or
            one archive, or with `/FILE` for one of several; or `hf:OWNER/NAME`, with `@REVISION`
            for another than the latest.
        folder: an empty one.
        names: of the files to download from a record or repository; others are left.
        by_hand: for errors, what to do with what is downloaded by hand.

    Returns:
        `folder`, or the archive in it.

    Raises:
        InputError: the client is not installed, there is no network, there is no such model, or it
            is too large.
    """
    url, doi, hub = (form.fullmatch(source) for form in (_URL, _DOI, _HUGGING_FACE))
    log(f"Downloading {source}.")
    try:
        if hub:
            return _from_hugging_face(hub[1], hub[2], folder, names)
        if doi:
            return _from_zenodo(doi[1], doi[2], folder, names)
        assert url
        return _from_address(url[0], folder)
    except InputError:
        raise
    except ModuleNotFoundError as error:
        raise InputError(
            f"Downloading {source} needs {error.name}: pip install 'infant_seg_jax[models]', or "
            f"download it by hand and {by_hand}."
        ) from error
    except Exception as error:  # The clients raise many kinds.
        reason = re.split(r"\.?\s*\n|\. ", str(error).strip())[0][:200]
        raise InputError(
            f"Cannot download {source} ({type(error).__name__}: {reason}): download it by hand and "
            f"{by_hand}."
        ) from error


def _from_address(url: str, folder: Path) -> Path:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    downloader: Any = pooch.HTTPDownloader(progressbar=cast(Any, _Meter(url)), chunk_size=_CHUNK)
    return Path(pooch.retrieve(url, None, "archive", folder, downloader=downloader))


def _from_zenodo(doi: str, file: str | None, folder: Path, names: Sequence[str]) -> Path:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    record = pooch.create(folder, f"doi:{doi}/")
    record.load_registry_from_doi()  # with checksums, by which each file is checked
    there = record.registry_files
    wanted = [file] if file else [name for name in names if name in there]
    if not wanted:
        wanted = [name for name in there if name.endswith(ARCHIVES) and "/" not in name]
        if len(wanted) != 1:
            raise InputError(
                f"The record {doi} has {some_of(there) or 'no files'}, expected one archive: "
                f"name it, as in doi:{doi}/FILE."
            )
    downloader: Any = pooch.DOIDownloader(progressbar=cast(Any, _Meter(doi)), chunk_size=_CHUNK)
    paths = [Path(record.fetch(name, downloader=downloader)) for name in wanted]
    return paths[0] if wanted[0].endswith(ARCHIVES) else folder


def _from_hugging_face(
    repository: str, revision: str | None, folder: Path, names: Sequence[str]
) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()

    wanted: dict[str, Any] = {
        "repo_id": repository,
        "revision": revision,
        "allow_patterns": list(names),
        "local_dir": folder,
    }
    files = snapshot_download(**wanted, dry_run=True)
    if sum(file.file_size or 0 for file in files) > MAX_BYTES:
        raise _too_large(repository)
    snapshot_download(**wanted)
    return folder


class _Meter:
    """What pooch takes for a progress bar: it ends a download that is too large for a model."""

    total = 0

    def __init__(self, source: str) -> None:
        self._source, self._done = source, 0

    def update(self, size: int) -> None:
        self._done += size
        if self._done > MAX_BYTES + _CHUNK:
            raise _too_large(self._source)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        pass


def _too_large(source: str) -> InputError:
    return InputError(f"{source} has more than {MAX_BYTES} bytes, expected a model.")
