"""What accept, claim and settle cost in front of a short and of a long queue, and how much memory that takes.

Two stores side by side in one process, asked in turns: whatever disturbs one disturbs the other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import repeat
from pathlib import Path
from typing import Any, Final

from benchmarks.children import dialogue
from benchmarks.children.gateway import built_in
from benchmarks.children.jobs import LANE, new_job
from benchmarks.load.requests import chat_body
from tidegate.bootstrap import Gateway
from tidegate.clock import SystemRng
from tidegate.domain.jobs import Claimed, Completed

_BODY: Final = chat_body(128)
_RESULT: Final = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"at eleven"}}]}'
_AT_ONCE: Final = 256
_WAITING: Final = 64

Step = Callable[[], Awaitable[None]]


async def talk(directory: str) -> None:
    rng = SystemRng()
    stores: dict[str, Gateway] = {}

    async def open_store(name: str, pending: int) -> dict[str, Any]:
        """A store with this many pending jobs."""
        gateway = stores[name] = await built_in(Path(directory) / name)
        watch = dialogue.Stopwatch()
        await _in_parallel(repeat(lambda: _accept(gateway, rng), pending), _AT_ONCE)
        return watch.sample(pending)

    async def cost(name: str, count: int) -> dict[str, Any]:
        """``count`` jobs in, ``count`` jobs out: the queue is as long as before."""
        gateway = stores[name]
        accepted = dialogue.Stopwatch()
        await _in_parallel(repeat(lambda: _accept(gateway, rng), count), _WAITING)
        accept = accepted.sample(count)
        claiming = dialogue.Stopwatch()
        claimed = await _claim(gateway, count)
        claim = claiming.sample(count)
        settling = dialogue.Stopwatch()
        await _in_parallel([_settling(gateway, job) for job in claimed], _WAITING)
        return {"accept": accept, "claim": claim, "settle": settling.sample(count)}

    await dialogue.answer({"open": open_store, "cost": cost})


async def _accept(gateway: Gateway, rng: SystemRng) -> None:
    await gateway.store.jobs.accept(new_job(gateway.clock, rng, _BODY))


async def _claim(gateway: Gateway, count: int) -> list[Claimed]:
    """As the worker does it: as many as there is room for, a batch at a time."""
    claimed: list[Claimed] = []
    while len(claimed) < count:
        claimed += await gateway.store.jobs.claim({LANE: min(_AT_ONCE, count - len(claimed))})
    return claimed


def _settling(gateway: Gateway, job: Claimed) -> Step:
    async def settle() -> None:
        if not await gateway.store.jobs.settle(job.lease, Completed(_RESULT), ()):
            raise RuntimeError("a lease was lost")

    return settle


async def _in_parallel(steps: Iterable[Step], at_once: int) -> None:
    left = iter(steps)

    async def runner() -> None:
        for step in left:
            await step()

    await asyncio.gather(*(runner() for _ in range(at_once)))


if __name__ == "__main__":
    dialogue.run(talk)
