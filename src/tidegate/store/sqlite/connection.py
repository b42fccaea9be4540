"""Opening the database file: the settings durability rests on, each verified after it was set."""

import os
from pathlib import Path
from typing import Final

import apsw
from msgspec import Struct

from tidegate.store.refusal import StoreRefused

PAGE_SIZE: Final = 8192
BUSY_TIMEOUT_MS: Final = 5000
_OLDEST_SQLITE: Final = (3, 51, 3)
_WITHDRAWN_SQLITE: Final = (3, 52, 0)
# WAL needs shared memory and honest locks.
_NETWORK_FILE_SYSTEMS: Final = frozenset({
    "9p", "afs", "ceph", "cifs", "fuse", "fuseblk", "fuse.sshfs", "fuse.s3fs", "gfs2", "glusterfs",
    "lustre", "nfs", "nfs4", "ocfs2", "smb3", "smbfs",
})  # fmt: skip


class Pragma(Struct, frozen=True):
    name: str
    value: str
    expected: str | int


# Settings of every connection (reliability §3).
_ALWAYS: Final = (
    Pragma("synchronous", "FULL", 2),
    Pragma("fullfsync", "ON", 1),
    Pragma("checkpoint_fullfsync", "ON", 1),
    Pragma("foreign_keys", "ON", 1),
    Pragma("cell_size_check", "ON", 1),
    Pragma("trusted_schema", "OFF", 0),
    Pragma("mmap_size", "0", 0),
    Pragma("wal_autocheckpoint", "0", 0),
    Pragma("temp_store", "MEMORY", 2),
)


def check_library() -> None:
    """Refuse a SQLite that may corrupt a WAL database (fixed in 3.51.3; 3.52.0 was withdrawn)."""
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < _OLDEST_SQLITE or version == _WITHDRAWN_SQLITE:
        raise StoreRefused(
            f"SQLite {apsw.sqlite_lib_version()} may corrupt the database: install a newer apsw"
        )


def prepare_directory(directory: Path) -> None:
    """Create the directory, for us alone; one that exists keeps its mode."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    if missing:
        directory.mkdir(parents=True, mode=0o700)
    for made in missing:
        # Not the directory but the one above it holds its name, and loses it in a power cut.
        _sync_directory(made.parent)
    kind = _file_system(directory)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreRefused(
            f"{directory} is on a network file system ({kind}): use a local disk, or PostgreSQL"
        )


def _file_system(directory: Path) -> str:
    """Type of the file system that holds ``directory``; empty where the system does not tell."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return ""
    best, kind = "", ""
    target = str(directory.resolve())
    for line in mounts.read_text("utf-8", "surrogateescape").splitlines():
        _, point, found, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


def open_writer(path: Path, *, wipe: bool, vfs: str | None) -> apsw.Connection:
    """The one connection that writes. Creates the file, 0600, and makes its directory entry durable."""
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    connection = _connect(path, apsw.SQLITE_OPEN_READWRITE, vfs)
    if connection.pragma("page_count") == 0:
        connection.pragma("page_size", PAGE_SIZE)
        connection.pragma("auto_vacuum", "INCREMENTAL")
    _set(connection, Pragma("journal_mode", "WAL", "wal"))
    for pragma in _ALWAYS:
        _set(connection, pragma)
    connection.pragma("journal_size_limit", 64 * 2**20)
    connection.pragma("secure_delete", "ON" if wipe else "FAST")
    # Also for a file that was there: the process that created it may have been killed before it came to this.
    _sync_directory(path.parent)
    return connection


def open_reader(path: Path, *, vfs: str | None = None) -> apsw.Connection:
    """A connection that cannot write."""
    connection = _connect(path, apsw.SQLITE_OPEN_READONLY, vfs)
    for pragma in _ALWAYS:
        _set(connection, pragma)
    _set(connection, Pragma("query_only", "ON", 1))
    return connection


def _connect(path: Path, flags: int, vfs: str | None) -> apsw.Connection:
    try:
        connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.pragma("schema_version")  # the first read opens the file
    except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError) as exc:
        raise StoreRefused(f"cannot open {path}: check that it exists and that we may write to it") from exc
    except (apsw.NotADBError, apsw.CorruptError) as exc:
        raise StoreRefused(f"{path} is not an intact SQLite database: restore it from a backup") from exc
    return connection


def _set(connection: apsw.Connection, pragma: Pragma) -> None:
    connection.pragma(pragma.name, pragma.value)
    found = connection.pragma(pragma.name)
    if found is not None and found != pragma.expected:
        raise StoreRefused(
            f"SQLite did not take {pragma.name}={pragma.value} (it is {found}): "
            "the file system or another process prevents it"
        )


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
