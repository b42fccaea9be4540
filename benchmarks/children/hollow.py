"""Yardstick (b): the gateway as shipped, but its job store keeps nothing.

The router, the handlers and the server are those of ``bootstrap`` and ``serving``, wired as they wire them; a
submit is accepted without being stored, and every poll finds the same finished job.
"""

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, final
from unittest.mock import patch

import uvloop

from benchmarks.children.settings import settings_from
from tidegate import bootstrap, serving, stores
from tidegate.domain.access import Reader
from tidegate.domain.inference import RequestType
from tidegate.domain.jobs import Accepted, Claimed, Idempotency, JobRef, JobState, Lane, NewJob, Status
from tidegate.logs import configure_logging
from tidegate.ports import JobStore
from tidegate.store.sqlite import SqliteStore


@final
class KeepsNothing:
    """The hot methods of ``JobStore`` without a store; the others are those of the one it was given."""

    def __init__(self, real: JobStore, result: bytes) -> None:
        self._real = real
        self._result = result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def accept(self, job: NewJob) -> Accepted:
        state = JobState(
            id=job.id,
            request_type=job.request_type,
            model=job.model,
            request_id=job.request_id,
            status=Status.PENDING,
            created_at=job.created_at,
        )
        return Accepted(state, is_replay=False)

    async def replayed(self, idempotency: Idempotency) -> JobState | None:
        return None

    async def get(self, reader: Reader, ref: JobRef) -> JobState | None:
        now = datetime(2026, 3, 2, 9, 15, 4, tzinfo=UTC)
        return JobState(
            id=ref.id,
            request_type=ref.request_type or RequestType.CHAT_COMPLETION,
            model="openai/echo",
            request_id="request",
            status=Status.COMPLETED,
            created_at=now,
            completed_at=now,
            expires_at=now + timedelta(days=3650),
            status_code=200,
            result=self._result,
        )

    async def claim(
        self, lanes: Mapping[Lane, int], *, fleet: Mapping[Lane, int] | None = None
    ) -> Sequence[Claimed]:
        return ()


async def serve(config: Path, result: bytes) -> None:
    settings = settings_from(config)

    class HollowStore:
        @classmethod
        def open(cls, *args: Any, **options: Any) -> SqliteStore:
            store = SqliteStore.open(*args, **options)
            store.jobs = KeepsNothing(store.jobs, result)  # type: ignore[assignment]  # stands in for the real one
            return store

    with patch.object(stores, "SqliteStore", HollowStore):
        gateway = await bootstrap.build(settings, on_fatal=print)
    process = serving.Process(gateway, serving.bind(settings.server.host, settings.server.port))

    async def on_ready() -> None:
        """Whoever waits for us asks."""

    await process.run(on_ready)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("result", type=Path, help="file with the result that every poll finds")
    asked = parser.parse_args()
    configure_logging("info", has_colors=False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(asked.config, asked.result.read_bytes()))


if __name__ == "__main__":
    main()
