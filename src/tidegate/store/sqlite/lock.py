"""One process per database: an exclusive lock on a file beside it, held until the process ends."""

import fcntl
import os
from pathlib import Path
from typing import final

import msgspec


class AlreadyRunning(Exception):
    """Another process owns the database."""


@final
class DirectoryLock:
    """``flock`` on ``tidegate.lock``: the kernel lets go of it however the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self, owner: dict[str, str | int]) -> None:
        """Take the lock and write who holds it. Raises ``AlreadyRunning`` naming the other process."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.read(file, 4096)
            os.close(file)
            raise AlreadyRunning(
                f"another process uses this database: {_who(holder)} (lock {self._path})"
            ) from exc
        os.ftruncate(file, 0)
        os.pwrite(file, msgspec.json.encode(owner), 0)
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _who(holder: bytes) -> str:
    try:
        facts = msgspec.json.decode(holder, type=dict[str, str | int])
    except msgspec.DecodeError:
        return "unknown"
    return f"process {facts.get('pid')}, started {facts.get('started_at')}"
