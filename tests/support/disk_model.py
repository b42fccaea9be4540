"""A disk that forgets what was not synced: what a power cut may leave of a recorded run.

A recording is a list of what a program asked of its files, in order. Between two syncs the disk owes nothing:
of every write it may have kept all, nothing, or any of its 512-byte sectors; a file may have grown without its
bytes; a directory entry may be missing until the directory itself was synced.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, final

from msgspec import Struct

SECTOR: Final = 512


class Write(Struct, frozen=True):
    file: int
    offset: int
    data: bytes


class Truncate(Struct, frozen=True):
    file: int
    size: int


class Sync(Struct, frozen=True):
    """Everything written to the file before is on the medium."""

    file: int


class Link(Struct, frozen=True):
    """A name in a directory; ``file`` is ``None`` where the name is that of a directory."""

    path: Path
    file: int | None


class Unlink(Struct, frozen=True):
    path: Path


class SyncDirectory(Struct, frozen=True):
    """Every name in the directory is on the medium."""

    path: Path


class Fact(Struct, frozen=True):
    """What somebody asked of the store, or was told by it, at this moment."""

    value: Any


Change = Write | Truncate
Event = Write | Truncate | Sync | Link | Unlink | SyncDirectory | Fact
Image = Mapping[Path, bytes]


@final
class _File:
    """What is on the medium for certain, and what was asked of it since."""

    def __init__(self) -> None:
        self._durable = bytearray()
        self._pending: list[Change] = []

    def ask(self, change: Change) -> None:
        self._pending.append(change)

    def sync(self) -> None:
        for change in self._pending:
            _apply(self._durable, change)
        self._pending.clear()

    def after_cut(self, rng: Random) -> bytes:
        content = bytearray(self._durable)
        for change in _survivors(self._pending, rng):
            _apply(content, change)
        if self._pending and rng.random() < 0.2:
            content.extend(bytes(max(0, _furthest(self._pending) - len(content))))
        return bytes(content)


@final
class Disk:
    """Plays a recording; ``cut`` says what would be found if the power failed now."""

    def __init__(self, *, forgets_names: bool = False) -> None:
        """``forgets_names``: syncing a directory does nothing, for showing that a test would notice."""
        self._files: dict[int, _File] = {}
        self._durable: dict[Path, int | None] = {}
        self._pending: list[Link | Unlink] = []
        self._directories: set[Path] = set()
        self._forgets_names = forgets_names

    def play(self, event: Event) -> None:
        match event:
            case Write(file=file) | Truncate(file=file):
                self._file(file).ask(event)
            case Sync(file=file):
                self._file(file).sync()
            case Link() | Unlink():
                self._pending.append(event)
                if isinstance(event, Link) and event.file is None:
                    self._directories.add(event.path)
            case SyncDirectory(path=directory) if not self._forgets_names:
                for change in self._pending:
                    if change.path.parent == directory:
                        _rename(self._durable, change)
                self._pending = [change for change in self._pending if change.path.parent != directory]

    def cut(self, rng: Random) -> Image:
        names = dict(self._durable)
        keeps_all = rng.random() < 0.5
        for change in self._pending:
            if keeps_all or rng.random() < 0.5:
                _rename(names, change)
        return {
            path: self._file(file).after_cut(rng)
            for path, file in names.items()
            if file is not None and self._is_reachable(path, names)
        }

    def _is_reachable(self, path: Path, names: Mapping[Path, int | None]) -> bool:
        """Whether each directory on the way that is newer than the recording has kept its name."""
        return all(parent in names for parent in path.parents if parent in self._directories)

    def _file(self, number: int) -> _File:
        return self._files.setdefault(number, _File())


def images(
    events: Sequence[Event], cuts: Sequence[int], seed: int, *, forgets_names: bool = False
) -> Iterator[tuple[int, Image]]:
    """What is left when the power fails before event number ``cut``, for each of ``cuts``, in ascending order."""
    disk = Disk(forgets_names=forgets_names)
    played = 0
    for cut in cuts:
        for event in events[played:cut]:
            disk.play(event)
        played = cut
        yield cut, disk.cut(Random(f"{seed}:{cut}"))


def _survivors(pending: Sequence[Change], rng: Random) -> Iterator[Change]:
    """One of the ways a disk may have been caught: in order, in any order, or in the middle of a write."""
    way = rng.choice(("none", "all", "first", "some", "torn"))
    if way == "none":
        return
    last = rng.randrange(len(pending) + 1) if way == "first" else len(pending)
    for change in pending[:last]:
        if way in {"some", "torn"} and isinstance(change, Truncate) and rng.random() < 0.5:
            continue
        if way == "some" and rng.random() < 0.5:
            continue
        if way == "torn" and isinstance(change, Write):
            yield from (sector for sector in _sectors(change) if rng.random() < 0.5)
        else:
            yield change


def _sectors(write: Write) -> Iterator[Write]:
    start, end = write.offset, write.offset + len(write.data)
    while start < end:
        stop = min(end, start - start % SECTOR + SECTOR)
        yield Write(write.file, start, write.data[start - write.offset : stop - write.offset])
        start = stop


def _apply(content: bytearray, change: Change) -> None:
    match change:
        case Truncate(size=size):
            del content[size:]
            content.extend(bytes(max(0, size - len(content))))
        case Write(offset=offset, data=data):
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data


def _furthest(changes: Sequence[Change]) -> int:
    return max(
        (change.offset + len(change.data) for change in changes if isinstance(change, Write)), default=0
    )


def _rename(names: dict[Path, int | None], change: Link | Unlink) -> None:
    match change:
        case Link(path=path, file=file):
            names[path] = file
        case Unlink(path=path):
            names.pop(path, None)
