"""Models are installed whole or not at all, from folders, archives and servers, and open by name.

The servers are on this machine; the clients are those that people have.
"""

import gc
import hashlib
import json
import os
import shutil
import sys
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from infant_seg_jax.config import default_config
from infant_seg_jax.data.prepared import ExpectedScans
from infant_seg_jax.data.preprocessing import Preparation
from infant_seg_jax.files import sha256
from infant_seg_jax.models.factory import make_model
from infant_seg_jax.models.variables import by_path, init_variables
from infant_seg_jax.store import downloads, installed
from infant_seg_jax.store.installed import install, installed_models
from infant_seg_jax.store.loading import BUNDLED, model_path, open_model
from infant_seg_jax.store.model_folder import Model, write_model
from tests.input_errors import input_error


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network that never learned anything, with a license."""
    config = default_config()
    config.model.update(growth_rate=4, stem_features=4, block_layers=(1, 1))
    variables = init_variables(make_model(config), 1, seed=0)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_model(folder, Model(config, variables, ExpectedScans(("T1w",), Preparation(), ()), {}))
    (folder / "LICENSE").write_text("free")
    (folder / "run_me.py").write_text("raise SystemExit")
    return folder


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of installed models, which does not exist yet."""
    monkeypatch.setenv(installed.VARIABLE, str(tmp_path / "data" / "models"))
    return tmp_path / "data" / "models"


def zipped(model: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(model.rglob("*")):
            opened.write(path, f"{model.name}/{path.relative_to(model)}")
    return archive


def tarred(model: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(model, model.name)
    return archive


def as_folder(model: Path, path: Path) -> Path:
    return Path(shutil.copytree(model, path))


SOURCES = {"folder": (as_folder, "a"), "zip": (zipped, "a.zip"), "tar": (tarred, "a.tar.gz")}


@pytest.mark.parametrize("make, name", SOURCES.values(), ids=SOURCES)
def test_a_local_model_opens_by_name(make, name: str, model: Path, tmp_path, models: Path) -> None:
    source = make(model, tmp_path / name)
    assert install(str(source)) == models / "a"
    assert {path.name for path in (models / "a").iterdir()} == {
        *("model.json", "weights.safetensors", "LICENSE")
    }
    assert list(installed_models()) == ["a"] and model_path("a") == models / "a"
    one, other = (by_path(open_model(path).variables) for path in (Path("a"), model))
    assert all(np.array_equal(one[key], other[key]) for key in other)
    with input_error("a", models, "--name"):
        install(str(source))
    assert install(str(source), "b").name == "b"
    assert list(installed_models()) == ["a", "b"]


def test_a_folder_of_the_name_in_the_working_directory_comes_first(
    model: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(str(model), "mine")
    monkeypatch.chdir(tmp_path)
    assert model_path("mine") == models / "mine"
    (tmp_path / "mine").mkdir()
    assert model_path("mine") == Path("mine")


def test_a_name_that_is_mistyped_is_told_of_the_installed_one(model: Path, models: Path) -> None:
    install(str(model), "neonates")
    with input_error("neonats", "did you mean neonates?"):
        open_model(Path("neonats"))
    with input_error("zzz", BUNDLED, "neonates"):
        open_model(Path("zzz"))


def test_only_the_model_of_the_sha256_is_installed(
    model: Path, models: Path, tmp_path: Path
) -> None:
    archive, other = zipped(model, tmp_path / "a.zip"), "0" * 64
    own = sha256(model / "model.json")
    for number, source in enumerate((model, archive)):
        with input_error(source, own, other):
            install(str(source), expected=other)
        assert not models.exists() or not list(models.iterdir())
        assert install(str(source), f"m{number}", own.upper()) == models / f"m{number}"
        assert install(str(source), f"m{number}", own) == models / f"m{number}"  # Again.
        shutil.rmtree(models)
    install(str(archive), expected=sha256(archive))
    with input_error("64", "abc"):
        install(str(model), expected="abc")


@pytest.mark.parametrize("name", ["bundled", "shipped", "../up", "/root/x", ".x", "a b", "a/b"])
def test_names_that_are_taken_or_are_paths_are_refused(
    name: str, model: Path, models: Path
) -> None:
    with input_error(name, "--name"):
        install(str(model), name)
    assert not models.exists()


def test_what_is_no_sound_model_is_not_installed(model: Path, models: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with input_error(tmp_path / "empty", "model.json", "weights.safetensors"):
        install(str(tmp_path / "empty"))
    damaged = as_folder(model, tmp_path / "damaged")
    content = bytearray((damaged / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "weights.safetensors").write_bytes(content)
    for source in (damaged, zipped(damaged, tmp_path / "damaged.zip")):
        with input_error(f"{source}/weights.safetensors", "SHA-256"):
            install(str(source))
    linked = as_folder(model, tmp_path / "linked")
    (linked / "LICENSE").unlink()
    (linked / "LICENSE").symlink_to("/etc/passwd")
    with input_error(linked / "LICENSE", "link"):
        install(str(linked))
    assert not list(models.iterdir())


def test_models_that_are_damaged_later_are_still_listed(model: Path, models: Path) -> None:
    install(str(model), "a")
    (models / "a" / "model.json").write_text("{")
    (models / ".writing-x").mkdir()
    (models / "notes").mkdir()
    assert list(installed_models()) == ["a"]


def test_without_a_home_nothing_is_installed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (installed.VARIABLE, "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", _no_home)
    assert installed_models() == {} and model_path("a") == Path("a")
    with input_error(installed.VARIABLE):
        install(str(model))


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_the_models_are_below_the_users_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(installed.VARIABLE)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert installed.models_folder() == Path("/data/infant_seg_jax/models")


# Servers.


class _Handler(BaseHTTPRequestHandler):
    answers: Mapping[str, tuple[bytes, Mapping[str, str]]] = {}

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        content, headers = self.answers.get(self.path.split("?")[0], (b"", {}))
        self.send_response(200 if self.path.split("?")[0] in self.answers else 404)
        self.send_header("Content-Length", str(len(content)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@contextmanager
def serving(answers: Mapping[str, tuple[bytes, Mapping[str, str]]]) -> Iterator[str]:
    """Serve these paths; yields the server's address."""
    handler = type("Handler", (_Handler,), {"answers": answers})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        with warnings.catch_warnings():  # Clients leave connections that failed unclosed.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def test_an_address_is_downloaded_and_compared(model: Path, models: Path, tmp_path: Path) -> None:
    pytest.importorskip("pooch", reason="needs the extra models")
    archive = zipped(model, tmp_path / "tiny.zip")
    with serving({"/x/tiny.zip": (archive.read_bytes(), {})}) as server:
        url, own = f"{server}/x/tiny.zip?download=1", sha256(archive)
        with input_error(url, own, "1" * 64):
            install(url, expected="1" * 64)
        with input_error(url, "https"):
            install(url)  # Without encryption or SHA-256, anybody may have changed it.
        assert install(url, expected=own) == models / "tiny"
        with input_error(f"{server}/y.zip", "404", models / "y", "model.json"):
            install(f"{server}/y.zip", expected=own)
    assert list(installed_models()) == ["tiny"]


def test_a_download_without_end_is_ended(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pooch", reason="needs the extra models")
    monkeypatch.setattr(downloads, "MAX_BYTES", 2**20)
    with serving({"/big.zip": (bytes(2**22), {})}) as server:
        with input_error(f"{server}/big.zip", 2**20):
            install(f"{server}/big.zip", expected="1" * 64)
    assert not models.exists()


def test_a_zenodo_record_is_downloaded(
    model: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooch = pytest.importorskip("pooch", reason="needs the extra models")
    zipped(model, tmp_path / "one.zip")
    zipped(model, tmp_path / "two.zip")
    files = {path.name: path.read_bytes() for path in (*model.iterdir(), *tmp_path.glob("*.zip"))}
    answers: dict[str, tuple[bytes, Mapping[str, str]]] = {
        f"/files/{name}": (content, {}) for name, content in files.items()
    }
    with serving(answers) as server:
        for record, names in {
            "1": ("model.json", "weights.safetensors", "run_me.py"),
            "2": ("one.zip", "run_me.py"),
            "3": ("one.zip", "two.zip"),
        }.items():
            content = [
                {
                    "key": name,
                    "links": {"self": f"{server}/files/{name}"},
                    "checksum": f"md5:{hashlib.md5(files[name]).hexdigest()}",
                }
                for name in names
            ]
            answers[f"/api/{record}"] = json.dumps({"id": record, "files": content}).encode(), {}
        # The addresses of Zenodo and of those who look up identifiers are the server's here.
        zenodo = pooch.downloaders.ZenodoRepository
        monkeypatch.setattr(zenodo, "base_api_url", f"{server}/api")
        monkeypatch.setattr(
            *(pooch.downloaders, "doi_to_url"),
            lambda doi, **_: f"https://zenodo.org/record/{doi.rsplit('.', 1)[-1]}",
        )
        assert install("doi:10.5281/zenodo.1").name == "zenodo.1"
        assert install("doi:10.5281/zenodo.2").name == "zenodo.2"
        with input_error("one.zip", "two.zip", "doi:10.5281/zenodo.3/"):
            install("doi:10.5281/zenodo.3")
        assert install("doi:10.5281/zenodo.3/two.zip").name == "two"
        answers["/files/one.zip"] = bytes(10), {}  # Zenodo's own checksum tells.
        with input_error("doi:10.5281/zenodo.2", "one.zip"):
            install("doi:10.5281/zenodo.2", "again")
    assert list(installed_models()) == ["two", "zenodo.1", "zenodo.2"]


def test_a_hugging_face_repository_is_downloaded(
    model: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra models")
    commit = "c" * 40
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
    about = {"id": "lab/tiny", "sha": commit, "siblings": siblings}
    tree = [
        {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
        for name, content in files.items()
    ]
    answers: dict[str, tuple[bytes, Mapping[str, str]]] = {}
    for revision in ("main", "v1", commit):
        for name, content in files.items():
            etag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
            answers[f"/lab/tiny/resolve/{revision}/{name}"] = content, etag
        answers[f"/api/models/lab/tiny/revision/{revision}"] = json.dumps(about).encode(), {}
        answers[f"/api/models/lab/tiny/tree/{revision}"] = json.dumps(tree).encode(), {}
    with serving(answers) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server)
        monkeypatch.setattr(
            *(constants, "HUGGINGFACE_CO_URL_TEMPLATE"),
            server + "/{repo_id}/resolve/{revision}/{filename}",
        )
        assert install("hf:lab/tiny") == models / "tiny"
        assert install("hf:lab/tiny@v1", "first", sha256(model / "model.json")).name == "first"
        with input_error("hf:lab/none", models / "none", "model.json"):
            install("hf:lab/none")
        monkeypatch.setattr(downloads, "MAX_BYTES", 100)
        with input_error("lab/tiny", 100):
            install("hf:lab/tiny", "large")
    assert sorted(os.listdir(models)) == ["first", "tiny"]
    assert sorted(os.listdir(models / "tiny")) == ["LICENSE", "model.json", "weights.safetensors"]


@pytest.mark.parametrize(
    "source", ["https://127.0.0.1:1/x.zip", "doi:10.5281/zenodo.1", "hf:lab/x"]
)
@pytest.mark.parametrize("has_client", [True, False])
def test_offline_a_sentence_says_what_to_download_and_where_to_put_it(
    source: str, has_client: bool, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_client:
        pytest.importorskip("pooch", reason="needs the extra models")
        constants = pytest.importorskip(
            "huggingface_hub.constants", reason="needs the extra models"
        )
        requests = pytest.importorskip("requests")
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
        monkeypatch.setattr(requests, "get", _offline)
    else:
        monkeypatch.setitem(sys.modules, "pooch", None)
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with input_error(source, models, "model.json", "weights.safetensors", "infant-seg models get"):
        install(source, "wanted")
    assert not models.exists()


def _offline(*_: object, **__: object) -> None:
    raise ConnectionError("there is no network")


@pytest.mark.parametrize("top", ["", "both/"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_brain_finder_is_installed_with_its_model(
    models: Path, tmp_path: Path, packed: bool, top: str
) -> None:
    config = default_config()
    config.model.update(growth_rate=4, stem_features=4, block_layers=(1, 1))
    expects = ExpectedScans(("any",), Preparation(), ())
    one, finder = (
        Model(config, init_variables(make_model(config), 1, seed), expects, {}) for seed in (0, 1)
    )
    folder = source = tmp_path / "both"
    write_model(folder, replace(one, brain_finder=finder))
    if packed:
        source = tmp_path / "packed.zip"
        with zipfile.ZipFile(source, "w") as opened:
            for path in sorted(folder.rglob("*")):
                opened.write(path, f"{top}{path.relative_to(folder)}")
    install(str(source), "both")
    found = open_model(Path("both")).brain_finder
    assert found is not None
    expected = by_path(finder.variables)
    for path, array in by_path(found.variables).items():
        np.testing.assert_allclose(array, expected[path], atol=1e-3)
