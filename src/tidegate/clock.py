"""Real time and real chance: the only file that asks the machine for either."""

import asyncio
import os
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Final, final

_ASKED_AT_ONCE: Final = 1024


@final
class SystemClock:
    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())


@final
class SystemRng:
    def chance(self) -> float:
        return random.random()  # noqa: S311 – jitter and weighted choices need no secrecy

    def __init__(self) -> None:
        self._unused = b""

    def secret_bytes(self, count: int) -> bytes:
        """From the system's generator, asked for many bytes at a time: ids are made for every request."""
        if len(self._unused) < count:
            self._unused = os.urandom(max(count, _ASKED_AT_ONCE))
        taken, self._unused = self._unused[:count], self._unused[count:]
        return taken
