"""F4b: a disk that fails once, at any call: nobody is lied to, nothing is tried again, and a restart has everything.

``TIDEGATE_IO_ERRORS`` says how many calls of each kind are tried, spread over a life from its first start on;
``TIDEGATE_IO_ERROR`` replays a single one.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

import apsw
import pytest

from store.lives import Life, wrongs
from support.disk_model import Event, Fact
from support.faulty_vfs import WRITES, FaultyVFS
from support.virtual_time import VirtualLoop
from tidegate.domain.errors import CommitUnknown, StorageUnavailable, StoreError
from tidegate.store.refusal import StoreRefused
from tidegate.store.sqlite.writer import Writer

MOST: Final = int(os.environ.get("TIDEGATE_IO_ERRORS", "60"))
ONLY: Final = os.environ.get("TIDEGATE_IO_ERROR")
THIS: Final = "tests/store/test_io_errors.py"
ROUNDS: Final = 25
FAST: Final = Path("/dev/shm")


class Diary:
    def __init__(self, vfs: FaultyVFS) -> None:
        self._vfs = vfs
        self.events: list[Event] = []
        self.lies: list[Any] = []
        """What somebody was told was durable when the disk had failed already."""

    def fact(self, value: Any) -> None:
        self.events.append(Fact(value))
        if self._vfs.afterwards is not None and value.is_told:
            self.lies.append(value)


async def how_it_ends(life: Life) -> Exception | None:
    """What ended the life before its time."""
    try:
        await life.live()
    except (StoreError, StoreRefused, apsw.IOError) as exc:
        return exc
    return None


def life_in(directory: Path, vfs: FaultyVFS, diary: Diary) -> Life:
    return Life(Random("a life"), directory / "tidegate.db", diary, vfs=vfs.name, rounds=ROUNDS)


def calls_of(call: str, directory: Path) -> int:
    """How many there are in a life on a good disk."""
    vfs = FaultyVFS(f"never-fails-{directory}")
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(life_in(directory, vfs, Diary(vfs)).live())
    vfs.unregister()
    return vfs.calls[call]


def fail(call: str, number: int, directory: Path) -> None:
    """One life whose ``number``-th ``call`` fails."""
    vfs = FaultyVFS(f"fails-once-{directory}")
    diary = Diary(vfs)
    life = life_in(directory, vfs, diary)
    vfs.fail_once(call, number)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        ending = runner.run(how_it_ends(life))
        is_open = not isinstance(ending, StoreRefused)
        if is_open:
            runner.run(check_it_is_over(life))
    vfs.unregister()
    assert vfs.afterwards is not None, "the disk never failed"
    assert diary.lies == []
    # A database that is being made for the first time is taken back by SQLite; nobody knows of it yet.
    is_known_of = is_open or diary.events
    assert not (is_known_of and WRITES & vfs.afterwards.keys()), vfs.afterwards
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(wrongs(directory / "tidegate.db", diary.events)) == []


async def check_it_is_over(life: Life) -> None:
    """Everybody who waited knows that it is not known, and whoever comes later is refused."""
    assert {type(refusal) for refusal in life.refusals} <= {CommitUnknown}
    assert len(life.store.fatal) == 1, "the store went on after its disk had failed"
    with pytest.raises(StorageUnavailable):
        await life.store.accept()
    await life.store.store.close(is_orderly=False)


def fail_at_each(call: str) -> int:
    """One life per call of this kind, or as many as are wanted, from the first to the last; how many there were."""
    with TemporaryDirectory(dir=FAST if os.access(FAST, os.W_OK) else None) as directory:
        last = calls_of(call, Path(directory))
        numbers = range(1, last + 1) if ONLY is None else [int(ONLY)]
        wanted = numbers[:: -(-len(numbers) // MOST)]
        for number in wanted:
            place = Path(directory) / str(number)
            place.mkdir()
            try:
                fail(call, number, place)
            except BaseException as exc:
                exc.add_note(f"replay it: TIDEGATE_IO_ERROR={number} pytest {THIS} -k {call}")
                raise
    return len(wanted)


@pytest.mark.parametrize("call", sorted(WRITES))
def test_a_disk_that_fails_once_ends_the_process_and_loses_nothing(
    call: str, record_property: Callable[[str, object], None]
) -> None:
    failures = fail_at_each(call)

    record_property("tried", failures)
    assert failures > 0


def test_a_writer_that_goes_on_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the test above would be blind."""
    monkeypatch.setattr(Writer, "fail", lambda writer, reason: writer._on_fatal(str(reason)))

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        fail_at_each("xWrite")


def test_a_commit_whose_failure_is_overlooked_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    in_thread = Writer._in_thread

    async def overlook(writer: Writer, work: Callable[[], object]) -> object:
        try:
            return await in_thread(writer, work)
        except apsw.IOError as reason:
            writer.fail(reason)
            return None

    monkeypatch.setattr(Writer, "_in_thread", overlook)

    with pytest.raises(AssertionError, match="is_told=True"):
        fail_at_each("xSync")
