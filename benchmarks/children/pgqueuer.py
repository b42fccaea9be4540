"""pgqueuer beside us: jobs that do nothing, enqueued while its workers run them.

Run by the Python of a virtual environment that holds pgqueuer and nothing of ours.
"""

import asyncio
from typing import Any, Final

import asyncpg
from pgqueuer import AsyncpgPoolDriver, Job, PgQueuer, Queries

from benchmarks.children import dialogue
from benchmarks.load.requests import chat_body

_BODY: Final = chat_body(1024)
_UNTIL_THEY_LISTEN: Final = 0.5
_EMPTY: Final = "TRUNCATE pgqueuer, pgqueuer_log, pgqueuer_statistics"


async def talk(url: str, _directory: str) -> None:
    pool = await asyncpg.create_pool(url, min_size=5, max_size=20)
    queries = Queries(AsyncpgPoolDriver(pool))
    await queries.install()
    await queries.optimize_autovacuum()

    async def jobs(count: int, workers: int, fetched: int, callers: int, enqueued: int) -> dict[str, Any]:
        """Until every job is settled. Its workers have looked at the tables and listen before the first comes in."""
        left = count
        batches = iter([enqueued] * (count // enqueued))
        all_have_run = asyncio.Event()

        async def no_op(_job: Job) -> None:
            nonlocal left
            left -= 1
            if not left:
                all_have_run.set()

        async def caller() -> None:
            for size in batches:
                await queries.enqueue(["no_op"] * size, [_BODY] * size, [0] * size)

        async with asyncio.TaskGroup() as running:
            started = [PgQueuer(AsyncpgPoolDriver(pool)) for _ in range(workers)]
            for worker in started:
                worker.entrypoint("no_op")(no_op)
                running.create_task(worker.run(batch_size=fetched))
            await asyncio.sleep(_UNTIL_THEY_LISTEN)
            watch = dialogue.Stopwatch()
            await asyncio.gather(*(caller() for _ in range(callers)))
            await all_have_run.wait()
            for worker in started:
                worker.shutdown.set()
        found = watch.sample(count)
        if unsettled := await queries.queue_size():
            raise RuntimeError(f"not every job was settled: {unsettled}")
        return found

    async def empty() -> dict[str, Any]:
        await pool.execute(_EMPTY)
        return {}

    await dialogue.answer({"jobs": jobs, "empty": empty})


if __name__ == "__main__":
    dialogue.run(talk)
