"""Several processes on one address: the parent holds the socket, starts the others again and stops them together."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Final, final

from msgspec import Struct

from tidegate.cli.exits import Exit
from tidegate.ports import Clock

_SOCKET: Final = "TIDEGATE_LISTENER"
_PLACE: Final = "TIDEGATE_PROCESS"
_COUNTS: Final = "TIDEGATE_COUNTS"
_LOOK_EVERY: Final = timedelta(seconds=1)
_PAUSE: Final = 1.0
"""Seconds before a process that died is started again: one that cannot start must not keep the machine busy."""


class Child(Struct, frozen=True):
    """What a process was given by its parent."""

    listener: socket.socket
    is_first: bool
    parent: int
    counts: Path
    """Folder in which each process tells the others what it has counted."""

    async def until_orphaned(self, clock: Clock) -> None:
        """Returns when the parent is gone: nobody would stop this process any more."""
        while os.getppid() == self.parent:
            await clock.sleep(_LOOK_EVERY)


def this_child() -> Child | None:
    """Only where this process is one of several."""
    handle = os.environ.pop(_SOCKET, None)
    place, counts = os.environ.pop(_PLACE, "0"), os.environ.pop(_COUNTS, "")
    if handle is None:
        return None
    return Child(socket.socket(fileno=int(handle)), place == "0", os.getppid(), Path(counts))


def run(count: int, listener: socket.socket) -> Exit:
    """``count`` processes with this one's command line, until they are all told to stop."""
    with tempfile.TemporaryDirectory(prefix="tidegate-") as counts:
        return _Family(count, listener, counts).live()


@final
class _Family:
    def __init__(self, count: int, listener: socket.socket, counts: str) -> None:
        self._count = count
        self._counts = counts
        self._handle = listener.fileno()
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._is_stopping = False

    def live(self) -> Exit:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for place in range(self._count):
            self._start(place)
        code = Exit.OK
        while self._children:
            place, exit_code = self._next_end()
            if self._is_stopping:
                code = code or (Exit.OK if exit_code == 0 else Exit.FAILED)
            elif exit_code in {Exit.USAGE, Exit.CONFIGURATION, Exit.STORE}:
                code = Exit(exit_code)  # the others would say the same
                self._stop(signal.SIGTERM, None)
            else:
                time.sleep(_PAUSE)
                if not self._is_stopping:
                    self._start(place)
        return code

    def _start(self, place: int) -> None:
        self._children[place] = subprocess.Popen(  # noqa: S603 – ourselves, with our own arguments
            [sys.executable, "-m", "tidegate", *sys.argv[1:]],
            env=os.environ | {_SOCKET: str(self._handle), _PLACE: str(place), _COUNTS: self._counts},
            pass_fds=(self._handle,),
            process_group=0,  # else Ctrl-C would reach it twice, which means at once
        )

    def _next_end(self) -> tuple[int, int]:
        """Which process has ended, and how."""
        while True:
            pid, status = os.wait()
            for place, child in list(self._children.items()):
                if child.pid == pid:
                    child.returncode = os.waitstatus_to_exitcode(status)
                    del self._children[place]
                    return place, child.returncode

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._is_stopping = True
        for child in self._children.values():
            child.send_signal(number)
