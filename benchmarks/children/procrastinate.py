"""procrastinate beside us: jobs that do nothing, deferred, then run by its workers.

Run by the Python of a virtual environment that holds procrastinate and nothing of ours.
"""

import asyncio
from typing import Any, Final

from procrastinate import App, PsycopgConnector

from benchmarks.children import dialogue
from benchmarks.load.requests import chat_body

_BODY: Final = chat_body(1024).decode()
_CONNECTIONS: Final = 40
_EMPTY: Final = "TRUNCATE procrastinate_jobs CASCADE"


async def talk(url: str, _directory: str) -> None:
    app = App(connector=PsycopgConnector(conninfo=url, min_size=_CONNECTIONS, max_size=_CONNECTIONS))

    async def no_op(body: str) -> None:
        pass

    task = app.task(no_op, name="no_op")

    async def jobs(count: int, workers: int, at_once: int, callers: int, deferred: int) -> dict[str, Any]:
        """Until every job is settled: a worker that need not wait ends when the queue is empty."""
        batches = iter([deferred] * (count // deferred))

        async def caller() -> None:
            for size in batches:
                await task.batch_defer_async(*[{"body": _BODY}] * size)

        watch = dialogue.Stopwatch()
        await asyncio.gather(*(caller() for _ in range(callers)))
        await asyncio.gather(
            *(
                app.run_worker_async(concurrency=at_once, wait=False, install_signal_handlers=False)
                for _ in range(workers)
            )
        )
        found = watch.sample(count)
        settled = await app.job_manager.list_jobs_async(status="succeeded")
        if len(list(settled)) != count:
            raise RuntimeError(f"not every job was settled: {len(list(settled))} of {count}")
        return found

    async def empty() -> dict[str, Any]:
        await app.connector.execute_query_async(_EMPTY)
        return {}

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await dialogue.answer({"jobs": jobs, "empty": empty})


if __name__ == "__main__":
    dialogue.run(talk)
