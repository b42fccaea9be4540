"""What every scenario is given: how long to measure, where, on which cores, and the servers to measure."""

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, final

from msgspec import Struct

from benchmarks.configuration import write_configuration
from benchmarks.load.connection import LoadFailed
from benchmarks.machine import cores, processes
from benchmarks.machine.cores import Cores
from benchmarks.machine.http import fetch, free_port
from benchmarks.machine.proc import Meter
from benchmarks.machine.processes import Child, environment_for, python
from benchmarks.samples import Sample

CLIENTS: Final = 64
_READY_WITHIN: Final = 60.0
_LOOK_EVERY: Final = 0.002

Measure = Callable[[], Awaitable[Sample]]


class Pace(Struct, frozen=True):
    """How much is measured."""

    rounds: int = 5
    seconds: float = 3.0
    """Length of a round."""
    is_quick: bool = False
    """Smaller amounts, for a look: the figures are rough."""


QUICK: Final = Pace(rounds=2, seconds=1.0, is_quick=True)


class Server(Struct, frozen=True):
    """A process that answers on a port."""

    child: Child
    port: int
    directory: Path

    def meter(self, *vendors: "Server") -> Meter:
        """Of this server; the vendors share the load's core."""
        return Meter(self.child.pids, [vendor.child.pid for vendor in vendors])


@final
class Bench:
    """One run of the benchmarks. Whatever it starts ends with the ``async with`` that started it."""

    def __init__(self, source: Path, directory: Path, pace: Pace, say: Callable[[str], None]) -> None:
        self.source = source
        """The ``src`` of the checkout that is measured."""
        self.directory = directory
        """Empty, on a real disk."""
        self.pace = pace
        self.say = say
        self.cores: Cores = cores.assign()
        cores.move_to(self.cores.load)
        self._numbers = itertools.count(1)

    async def rounds(self, measures: Mapping[str, Measure]) -> dict[str, list[Sample]]:
        """Each measured once a round, one after the other: what disturbs the machine disturbs all of them."""
        found: dict[str, list[Sample]] = {name: [] for name in measures}
        for number in range(1, self.pace.rounds + 1):
            for name, measure in measures.items():
                self.say(f"round {number} of {self.pace.rounds}: {name}")
                found[name].append(await measure())
        return found

    @asynccontextmanager
    async def vendor(self, script: Mapping[str, Any] | None = None) -> AsyncIterator[Server]:
        """``tidegate mock``, on the core of the load."""
        directory, port = self.new_directory("vendor"), free_port()
        (directory / "script.json").write_text(json.dumps(script or {}), "utf-8")
        command = python("tidegate", "mock", "--port", str(port), "--script", str(directory / "script.json"))
        with self._start(command, directory, core=self.cores.load) as child:
            await self.until_ready(child, port, "/mock/calls")
            yield Server(child, port, directory)

    @asynccontextmanager
    async def gateway(
        self,
        vendor: Server,
        *,
        source: Path | None = None,
        concurrency: int | None = None,
        store: str | None = None,
        works: bool = True,
    ) -> AsyncIterator[Server]:
        """``tidegate serve`` as a user starts it, with an empty store: an SQLite file, or the database at ``store``."""
        directory, port = self.new_directory("gateway"), free_port()
        config = write_configuration(
            directory, port, vendor_url(vendor), concurrency=concurrency, store=store
        )
        command = python("tidegate", "serve", *([] if works else ["--no-worker"]), "--config", str(config))
        with self._start(command, directory, source=source) as child:
            await self.until_ready(child, port, "/readyz")
            yield Server(child, port, directory)

    @asynccontextmanager
    async def worker(self, vendor: Server, *, store: str, concurrency: int) -> AsyncIterator[Server]:
        """``tidegate work`` on the database at ``store``, with so many jobs at once."""
        directory, port = self.new_directory("worker"), free_port()
        config = write_configuration(directory, port, vendor_url(vendor), concurrency=None, store=store)
        command = python(
            "tidegate", "work", "--config", str(config),
            "--concurrency", str(concurrency), "--metrics-port", str(port),
        )  # fmt: skip
        with self._start(command, directory) as child:
            await self.until_ready(child, port, "/readyz")
            yield Server(child, port, directory)

    @asynccontextmanager
    async def hollow(self, result: bytes) -> AsyncIterator[Server]:
        """Yardstick (b): the gateway without a store; every poll finds ``result``."""
        directory, port = self.new_directory("hollow"), free_port()
        config = write_configuration(directory, port, "http://127.0.0.1:9", concurrency=None)
        (directory / "result.json").write_bytes(result)
        command = python("benchmarks.children.hollow", str(config), str(directory / "result.json"))
        with self._start(command, directory) as child:
            await self.until_ready(child, port, "/readyz")
            yield Server(child, port, directory)

    @asynccontextmanager
    async def constant(self, *, receipt: int, result: int) -> AsyncIterator[Server]:
        """Yardstick (a): uvicorn and a constant of the given sizes."""
        directory, port = self.new_directory("constant"), free_port()
        sizes = ("--receipt", str(receipt), "--result", str(result))
        command = python("benchmarks.children.constant", "--port", str(port), *sizes)
        with self._start(command, directory) as child:
            await self.until_ready(child, port, "/")
            yield Server(child, port, directory)

    @contextlib.contextmanager
    def part(
        self,
        name: str,
        *arguments: str,
        source: Path | None = None,
        interpreter: str = sys.executable,
    ) -> Iterator[Child]:
        """A program of ``children`` that is asked, not called over HTTP. Its last argument is its directory."""
        directory = self.new_directory(name)
        command = python(f"benchmarks.children.{name}", *arguments, str(directory), interpreter=interpreter)
        with self._start(command, directory, source=source, answers=True) as child:
            yield child

    def new_directory(self, name: str) -> Path:
        directory = self.directory / f"{next(self._numbers):03}-{name}"
        directory.mkdir()
        return directory

    async def until_ready(self, child: Child, port: int, path: str) -> None:
        """Raises ``ChildFailed`` when it ends or does not answer."""
        give_up = time.monotonic() + _READY_WITHIN
        while True:
            child.check()
            try:
                status, _ = fetch(port, "GET", path)
            except (OSError, HTTPException):
                status = 0
            if status == 200:
                return
            if time.monotonic() > give_up:
                raise child.failure(f"did not answer within {_READY_WITHIN:g} s")
            await asyncio.sleep(_LOOK_EVERY)

    def _start(
        self,
        command: list[str],
        directory: Path,
        *,
        core: int | None = None,
        source: Path | None = None,
        answers: bool = False,
    ) -> contextlib.AbstractContextManager[Child]:
        return processes.running(
            command,
            core=self.cores.server if core is None else core,
            log=directory / f"{directory.name}.log",
            environment=environment_for(source or self.source),
            answers=answers,
        )


def vendor_url(vendor: Server) -> str:
    return f"http://127.0.0.1:{vendor.port}"


__all__ = ["CLIENTS", "QUICK", "Bench", "LoadFailed", "Measure", "Pace", "Server", "vendor_url"]
