"""F4b: a disk that fails once, at any call: nobody is lied to, nothing is tried again, and a restart has everything.

``TIDEGATE_IO_ERRORS`` says up to which call of each kind it fails; beyond the last one there is nothing to fail.
"""

import asyncio
import os
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
from tidegate.domain.errors import StoreError
from tidegate.store.sqlite.connection import StoreRefused

MOST: Final = int(os.environ.get("TIDEGATE_IO_ERRORS", "60"))
ROUNDS: Final = 25
FAST: Final = Path("/dev/shm")


class Diary:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def fact(self, value: Any) -> None:
        self.events.append(Fact(value))


async def how_it_ends(life: Life) -> Exception | None:
    """What ended the life before its time."""
    try:
        await life.live()
    except (StoreError, StoreRefused, apsw.IOError) as exc:
        return exc
    return None


def fail(call: str, number: int, directory: Path) -> bool:
    """One life whose ``number``-th ``call`` fails; whether there was such a call."""
    vfs, diary = FaultyVFS(f"fails-once-{directory}"), Diary()
    life = Life(Random("a life"), directory / "tidegate.db", diary, vfs=vfs.name, rounds=ROUNDS)
    vfs.fail_once(call, number)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        ending = runner.run(how_it_ends(life))
        if vfs.afterwards is None:
            return False
        if not isinstance(ending, StoreRefused):
            assert life.store.fatal, "the store went on after its disk had failed"
            life.store.pull_the_plug()
            assert not WRITES & vfs.afterwards.keys(), vfs.afterwards
    vfs.unregister()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(wrongs(directory / "tidegate.db", diary.events)) == []
    return True


@pytest.mark.parametrize("call", sorted(WRITES))
def test_a_disk_that_fails_once_ends_the_process_and_loses_nothing(call: str) -> None:
    number = 0
    with TemporaryDirectory(dir=FAST if os.access(FAST, os.W_OK) else None) as directory:
        while number < MOST:
            place = Path(directory) / str(number)
            place.mkdir()
            if not fail(call, number + 1, place):
                break
            number += 1

    assert number > 0, "the disk never failed"
