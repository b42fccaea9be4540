"""The store alone: accepts with many waiting, and yardstick (c), one commit per row."""

import asyncio
import time
from pathlib import Path
from typing import Any

from benchmarks.children import dialogue
from benchmarks.children.gateway import built_in
from benchmarks.children.jobs import new_job
from benchmarks.load.requests import chat_body
from tidegate.clock import SystemRng

BODY_SIZE = 1024


async def talk(directory: str) -> None:
    gateway, rng = await built_in(Path(directory)), SystemRng()
    body = chat_body(BODY_SIZE)

    async def accept(seconds: float, waiting: int) -> dict[str, Any]:
        """``waiting`` clients, each with its next job as soon as the last is durable."""
        end = time.perf_counter() + seconds

        async def client() -> int:
            count = 0
            while time.perf_counter() < end:
                await gateway.store.jobs.accept(new_job(gateway.clock, rng, body))
                count += 1
            return count

        watch = dialogue.Stopwatch()
        counts = await asyncio.gather(*(client() for _ in range(waiting)))
        return watch.sample(sum(counts))

    await dialogue.answer({"accept": accept})


if __name__ == "__main__":
    dialogue.run(talk)
