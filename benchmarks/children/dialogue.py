"""How a child is asked: one JSON object a line on standard input, one a line on standard output."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

import uvloop

Answerer = Callable[..., Awaitable[dict[str, Any]]]
_MICROSECONDS: Final = 1e6


def run(talk: Callable[..., Coroutine[Any, Any, None]]) -> None:
    """The child's main program: ``talk`` with the arguments of the command line."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(talk(*sys.argv[1:]))


async def answer(commands: Mapping[str, Answerer]) -> None:
    """Until whoever asks closes the pipe, or is gone."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        facts = json.loads(line)
        found = await commands[facts.pop("do")](**facts)
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


class Stopwatch:
    """Wall and CPU time of this process since it was made."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = time.process_time()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._wall

    def sample(self, count: int) -> dict[str, Any]:
        """A sample of ``count`` operations, as ``samples.Sample`` reads it."""
        seconds, cpu = self.seconds, time.process_time() - self._cpu
        return {"count": count, "seconds": seconds, "cpu_us": cpu / count * _MICROSECONDS}
