"""A SQLite VFS over the real one that writes down, in order, what is asked of the disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

import apsw

from support.disk_model import Event, Fact, Image, Link, Sync, SyncDirectory, Truncate, Unlink, Write
from tidegate.store.sqlite import connection

_SYNCS_ITS_DIRECTORY: Final = (
    apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
)
"""Files whose first sync SQLite's own VFS follows up with a sync of the directory (``unixSync``)."""


@final
class Recording:
    """What happened to the files under ``root``, and what the program was told meanwhile."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[Event] = []
        self._names: dict[Path, int | None] = {}
        self._files = 0

    def begin_with(self, image: Image) -> None:
        """These files lie on the medium already."""
        for path, content in image.items():
            file = self.opened(path)
            self.events += [Write(file, 0, content), Sync(file)]
        for directory in {self.root, *(parent for path in image for parent in path.parents)}:
            self.events.append(SyncDirectory(directory))

    def fact(self, value: Any) -> None:
        self.events.append(Fact(value))

    def opened(self, path: Path) -> int:
        """The file behind ``path``; it and the directories above it get their names when first seen."""
        self._see_directories(path)
        file = self._names.get(path)
        if file is None:
            self._files += 1
            file = self._names[path] = self._files
            self.events.append(Link(path, file))
        return file

    def deleted(self, path: Path, *, syncs_directory: bool) -> None:
        if self._names.pop(path, None) is not None:
            self.events.append(Unlink(path))
        if syncs_directory:
            self.events.append(SyncDirectory(path.parent))

    def directory_synced(self, directory: Path) -> None:
        """Whatever lies in it now has a name that lasts."""
        for entry in sorted(directory.iterdir()):
            if entry.is_dir():
                self._see_directories(entry / "any")
            elif entry.suffix == ".db":
                self.opened(entry)
        self.events.append(SyncDirectory(directory))

    def _see_directories(self, path: Path) -> None:
        for directory in reversed(path.parents):
            if self.root in directory.parents and directory not in self._names:
                self._names[directory] = None
                self.events.append(Link(directory, None))


@contextmanager
def recorded(root: Path) -> Iterator[Recording]:
    """Record what stores opened with ``vfs=str(root)`` do to the disk below ``root``.

    Nothing is really synced: it is the model that decides what lasts.
    """
    recording = Recording(root)
    vfs = RecordingVFS(str(root), recording)
    sync_directory = connection._sync_directory
    connection._sync_directory = recording.directory_synced
    try:
        yield recording
    finally:
        connection._sync_directory = sync_directory
        vfs.unregister()


@final
class RecordingVFS(apsw.VFS):
    """Registered under ``name`` until ``unregister``."""

    def __init__(self, name: str, recording: Recording) -> None:
        self._recording = recording
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: Any) -> Any:  # noqa: N802 – SQLite's name
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        return _File(self._recording, Path(os.fsdecode(path)), name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802, FBT001 – SQLite's signature
        if Path(name).exists():  # SQLite does not mind one that is missing; an exception of ours it would
            super().xDelete(name, False)  # noqa: FBT003 – nothing is really synced
        self._recording.deleted(Path(name), syncs_directory=bool(syncdir))


@final
class _File(apsw.VFSFile):
    def __init__(self, recording: Recording, path: Path, name: Any, flags: Any) -> None:
        asked = flags[0]
        super().__init__("", name, flags)
        self._recording = recording
        self._directory = path.parent
        self._file = recording.opened(path)
        self._syncs_directory = bool(asked & apsw.SQLITE_OPEN_CREATE and asked & _SYNCS_ITS_DIRECTORY)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 – SQLite's name
        self._recording.events.append(Write(self._file, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802 – SQLite's name
        self._recording.events.append(Truncate(self._file, size))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802 – SQLite's name
        self._recording.events.append(Sync(self._file))
        if self._syncs_directory:
            self._recording.events.append(SyncDirectory(self._directory))
            self._syncs_directory = False
