"""Renewing: asks every few seconds which leases are still ours; the others' calls are closed."""

from datetime import timedelta
from typing import Final, final

from tidegate.domain.errors import StoreError
from tidegate.ports import Clock, JobStore, Observer
from tidegate.worker.worker import Worker

RENEW_EVERY: Final = timedelta(seconds=4)
_UNTIL_SETTLED: Final = timedelta(milliseconds=500)


@final
class Leases:
    """A backstop: a cancel in this process stops the run at once, one elsewhere is found here."""

    def __init__(self, store: JobStore, worker: Worker, clock: Clock, observer: Observer) -> None:
        self._store = store
        self._worker = worker
        self._clock = clock
        self._observer = observer

    async def run(self) -> None:
        while True:
            try:
                await self.renew()
                self._worker.free_stuck_runs()
            except Exception as exc:  # noqa: BLE001 – without this loop a lost lease would go on spending
                self._observer.problem("leases.broken", error=repr(type(exc)), exc_info=exc)
            await self._clock.sleep(RENEW_EVERY if self._store.fleet().is_settled else _UNTIL_SETTLED)

    async def renew(self) -> None:
        """Also without any lease: on a store that is shared it says that this worker lives."""
        held = self._worker.leases()
        try:
            ours = set(await self._store.renew(held))
        except StoreError:
            return  # running calls are paid already: they go on, the fence decides afterwards
        self._worker.take_fleet(self._store.fleet())
        self._worker.lost([lease for lease in held if lease not in ours])
