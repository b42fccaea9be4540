"""Sweeping: deadlines, jobs of dead workers, expired results. Small transactions, pauses between."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final, final

from tidegate.domain.errors import ErrorCode, StorageFull, StoreBusy, StoreError
from tidegate.ports import Clock, JobStore, Observer

SWEEP_EVERY: Final = timedelta(seconds=1)
PRUNE_EVERY: Final = timedelta(seconds=30)
WARN_EVERY: Final = timedelta(hours=1)
_BATCH: Final = 500
_PAUSE: Final = timedelta(milliseconds=50)


@final
class Maintenance:
    def __init__(
        self, store: JobStore, clock: Clock, observer: Observer, warnings: Callable[[], Sequence[str]] = tuple
    ) -> None:
        """``warnings`` tells what is wrong with the store at present."""
        self._store = store
        self._clock = clock
        self._observer = observer
        self._warnings = warnings
        self._warned: Sequence[str] = ()
        self._warn_again_at = float("-inf")

    async def run(self) -> None:
        """Sweep every second, prune every half minute, for ever."""
        prune_at = self._clock.monotonic()
        while True:
            self.warn()
            trouble = await self._patiently(self.sweep)
            if self._clock.monotonic() >= prune_at:
                trouble = await self._patiently(self.prune) or trouble
                prune_at = self._clock.monotonic() + PRUNE_EVERY.total_seconds()
            if trouble is not None:
                self._observer.problem("store.busy", error=trouble)
            await self._clock.sleep(SWEEP_EVERY)

    def warn(self) -> None:
        """Of what is new at once, of what stays every hour."""
        warnings, now = self._warnings(), self._clock.monotonic()
        if warnings == self._warned and now < self._warn_again_at:
            return
        self._warned = warnings
        self._warn_again_at = now + WARN_EVERY.total_seconds()
        for text in warnings:
            self._observer.problem("store.warning", message=text)

    async def sweep(self) -> None:
        rescued = await self._store.rescue()
        if rescued:
            self._observer.jobs_rescued(rescued)
        await self._until_done(self._expire)

    async def _expire(self) -> int:
        expired = await self._store.expire(limit=_BATCH)
        if expired:
            self._observer.jobs_expired(expired)
        return expired

    async def prune(self) -> None:
        await self._until_done(lambda: self._store.prune(limit=_BATCH))

    async def _until_done(self, step: Callable[[], Awaitable[int]]) -> None:
        while await step() >= _BATCH:
            await self._clock.sleep(_PAUSE)

    async def _patiently(self, work: Callable[[], Awaitable[None]]) -> ErrorCode | None:
        """Why the store could not be used for it just now."""
        try:
            await work()
        except (StorageFull, StoreBusy) as exc:
            return exc.code
        except StoreError:
            pass  # reported by whoever noticed first; the process is on its way out
        except Exception as exc:  # noqa: BLE001 – without this loop no deadline would strike any more
            self._observer.problem("maintenance.broken", error=repr(type(exc)), exc_info=exc)
        return None
