"""Counts of several processes that share one address: whichever is scraped shows those of all.

Each writes its own into a file of a common folder, every second. What a process had counted stays when it is gone,
so the sums never go back.
"""

import os
from pathlib import Path
from typing import final

import msgspec

from tidegate.tally import State

_Written = dict[str, list[tuple[tuple[str, ...], list[float]]]]


@final
class FamilyTallies:
    """The files in ``folder``, one for each process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = folder / f"{os.getpid()}.json"

    def write(self, state: State) -> None:
        """Whole or not at all: the others may be reading it."""
        written: _Written = {name: list(series.items()) for name, series in state.items()}
        unfinished = self._own.with_suffix(".new")
        unfinished.write_bytes(msgspec.json.encode(written))
        unfinished.replace(self._own)

    def others(self) -> list[State]:
        """As each last wrote it."""
        return [_read(path) for path in self._folder.glob("*.json") if path != self._own]


def _read(path: Path) -> State:
    written = msgspec.json.decode(path.read_bytes(), type=_Written)
    return {name: dict(series) for name, series in written.items()}
