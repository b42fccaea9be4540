"""Stand-ins for what we own: time, chance, and an observer that remembers."""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, final

from tidegate.domain.access import VirtualKey
from tidegate.domain.inference import Call
from tidegate.domain.jobs import Claimed, Ending, JobDetails, NewJob


@final
class FakeClock:
    """Time that moves when told to. Sleepers wake as soon as it has moved far enough."""

    def __init__(self, start: datetime = datetime(2026, 3, 2, 9, 15, 4, 123000, UTC)) -> None:
        self._now = start
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self.slept: list[timedelta] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, duration: timedelta) -> None:
        self.slept.append(duration)
        if duration <= timedelta(0):
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._monotonic + duration.total_seconds(), woken))
        await woken

    def advance(self, duration: timedelta) -> None:
        self._now += duration
        self._monotonic += duration.total_seconds()
        for due, woken in self._sleepers:
            if due <= self._monotonic and not woken.done():
                woken.set_result(None)
        self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[1].done()]

    def step_wall_clock(self, by: timedelta) -> None:
        """NTP or an operator moved the wall clock; the monotonic one stays."""
        self._now += by


@final
class SeededRng:
    """Chance that repeats itself."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def chance(self) -> float:
        return self._random.random()

    def secret_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


@final
class RecordingObserver:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.accepted: list[tuple[NewJob, bool]] = []
        self.ended: list[tuple[Claimed, Ending, tuple[Call, ...], bool]] = []
        self.cancelled: list[JobDetails] = []
        self.keys: list[tuple[str, VirtualKey, str]] = []
        self.rescued = 0
        self.expired = 0
        self.problems: list[tuple[str, dict[str, Any]]] = []

    def job_accepted(self, job: NewJob, *, is_replay: bool) -> None:
        self.accepted.append((job, is_replay))

    def job_ended(
        self, job: Claimed, ending: Ending, calls: Sequence[Call], *, duration: timedelta, was_ours: bool
    ) -> None:
        self.ended.append((job, ending, tuple(calls), was_ours))

    def job_cancelled(self, job: JobDetails) -> None:
        self.cancelled.append(job)

    def key_changed(self, action: str, key: VirtualKey, actor: str) -> None:
        self.keys.append((action, key, actor))

    def jobs_rescued(self, count: int) -> None:
        self.rescued += count

    def jobs_expired(self, count: int) -> None:
        self.expired += count

    def problem(self, event: str, **facts: object) -> None:
        self.problems.append((event, facts))
