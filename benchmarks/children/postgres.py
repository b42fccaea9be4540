"""The store on PostgreSQL: accepts that share a commit, accepts that do not, and jobs that do nothing."""

import asyncio
import time
from typing import Any, Final

from benchmarks.children import dialogue, filling
from benchmarks.children.jobs import LANE, new_job
from benchmarks.load.requests import chat_body
from tidegate.clock import SystemClock, SystemRng
from tidegate.domain.access import KeyId, owner_of_key
from tidegate.domain.jobs import Completed, NewJob
from tidegate.domain.secret import Secret
from tidegate.store.postgres import PostgresOptions, PostgresStore
from tidegate.store.postgres.accepting import accept as accept_batch

_BODY: Final = chat_body(1024)
_RESULT: Final = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"at eleven"}}]}'
_AT_ONCE: Final = 256
_WORKERS: Final = 4


async def talk(url: str, _directory: str) -> None:
    clock, rng = SystemClock(), SystemRng()
    options = PostgresOptions(Secret(url), listen_url=Secret(""), pool_size=64)
    store = await PostgresStore.open(options, clock=clock, rng=rng)
    database = store._database  # noqa: SLF001 – what lies below the port is measured too

    def job_of(client: int) -> NewJob:
        """An owner for each client: those of one owner wait for each other's place in the queue."""
        return new_job(clock, rng, _BODY, owner_of_key(KeyId(f"bench-{client}")))

    async def accept(seconds: float, waiting: int) -> dict[str, Any]:
        return await _clients(seconds, waiting, lambda client: store.jobs.accept(job_of(client)))

    async def accept_alone(seconds: float, waiting: int) -> dict[str, Any]:
        """A transaction for each, on as many connections as there are clients."""
        return await _clients(seconds, waiting, lambda client: accept_batch(database, [job_of(client)]))

    async def jobs(count: int) -> dict[str, Any]:
        """In, claimed, settled: no HTTP on either side. As a gateway does it, one claims while others settle."""
        watch = dialogue.Stopwatch()
        left = iter(range(count))
        done = 0

        async def submitter() -> None:
            for _ in left:
                await store.jobs.accept(job_of(0))

        async def worker() -> None:
            nonlocal done
            while done < count:
                claimed = await store.jobs.claim({LANE: _AT_ONCE})
                await asyncio.gather(
                    *(store.jobs.settle(job.lease, Completed(_RESULT), ()) for job in claimed)
                )
                done += len(claimed)

        await asyncio.gather(*(worker() for _ in range(_WORKERS)), *(submitter() for _ in range(_AT_ONCE)))
        return watch.sample(count)

    async def empty() -> dict[str, Any]:
        await database.fetch("TRUNCATE jobs, job_request, job_result, attempts, tails, lanes")
        return {}

    async def fill(count: int) -> dict[str, Any]:
        await filling.fill(url, count)
        return {}

    await dialogue.answer(
        {"accept": accept, "accept_alone": accept_alone, "jobs": jobs, "empty": empty, "fill": fill}
    )


async def _clients(seconds: float, waiting: int, step: Any) -> dict[str, Any]:
    """``waiting`` clients, each with its next job as soon as the last is durable."""
    end = time.perf_counter() + seconds

    async def client(number: int) -> int:
        count = 0
        while time.perf_counter() < end:
            await step(number)
            count += 1
        return count

    watch = dialogue.Stopwatch()
    counts = await asyncio.gather(*(client(number) for number in range(waiting)))
    return watch.sample(sum(counts))


if __name__ == "__main__":
    dialogue.run(talk)
