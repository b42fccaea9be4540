"""One layout simulated: from the first request through a warm-up to the figures."""

from random import Random
from typing import Final, final

from benchmarks.simulation.costs import Costs
from benchmarks.simulation.database import Database, Group, rows_of
from benchmarks.simulation.layout import SPARE_CONNECTIONS, Layout, Outcome
from benchmarks.simulation.loop import Cores, Gauge, Loop, Process
from benchmarks.simulation.machines import Gateway, Groups, Machine, Worker

CONNECTIONS: Final = "connections"
DATABASE_CPU: Final = "database CPU"
ACCEPT_LOCK: Final = "accept lock"
CLAIM_LOCK: Final = "claim lock"
NOTIFY_LOCK: Final = "NOTIFY lock"
FSYNC: Final = "fsync"
WAL: Final = "WAL bandwidth"
VACUUM: Final = "vacuum"
NETWORK: Final = "network"
GATEWAY_CPU: Final = "gateway CPU"
WORKER_CPU: Final = "worker CPU"

_TICK: Final = 0.003
"""Seconds: what comes to a gateway within is a group."""
_MOST_WAITING: Final = 500
"""Requests that a gateway has taken and not yet looked at."""
_SLICE: Final = 0.001


def simulate(
    layout: Layout, costs: Costs, *, warm_up: float = 0.9, seconds: float = 0.4, seed: int = 1
) -> Outcome:
    """The same arguments give the same outcome."""
    fleet = _Fleet(layout, costs, seed)
    fleet.start()
    fleet.loop.run(warm_up)
    fleet.reset()
    fleet.loop.run(warm_up + seconds)
    return fleet.outcome(seconds)


@final
class _Fleet:
    def __init__(self, layout: Layout, costs: Costs, seed: int) -> None:
        self.loop = loop = Loop()
        self._layout = layout
        self._random = Random(seed)  # noqa: S311 – arrivals need no secrecy
        self._databases = [Database(loop, layout, costs) for _ in range(layout.databases)]
        shared = Cores(loop, 1, slice_=_SLICE)

        def machine(databases: list[Database]) -> Machine:
            cores = shared if layout.population else Cores(loop, 1, slice_=_SLICE)
            return Machine(loop, layout, costs, cores, databases)

        self._gateway_machines = [machine(self._databases) for _ in range(layout.gateways)]
        self._gateways = [Gateway(one) for one in self._gateway_machines]
        homes = [self._databases[number % layout.databases] for number in range(layout.workers)]
        self._worker_machines = (
            self._gateway_machines if layout.population else [machine([home]) for home in homes]
        )
        self._workers = [
            Worker(one, home, self._ended) for one, home in zip(self._worker_machines, homes, strict=True)
        ]
        self._inside = Gauge(loop)
        self._offered = self._settled = 0
        self._waited = 0.0
        self._rows_before = self._batches_before = 0

    def start(self) -> None:
        layout = self._layout
        for number in range(layout.gateways):
            if layout.population:
                self._receive(number, layout.population // layout.gateways)
            else:
                self.loop.start(self._arrivals(number))
        for worker in self._workers:
            self.loop.start(worker.claim())
            self.loop.start(worker.renew())
        if not layout.population:
            for database in self._databases:
                self.loop.start(database.prune())
                self.loop.start(database.vacuum())

    def _arrivals(self, number: int) -> Process:
        """Independent of each other and of us, in groups of what comes within a tick."""
        rate = self._layout.rate / self._layout.gateways
        count = max(1, round(rate * _TICK))
        while True:
            yield self.loop.after(self._random.expovariate(rate / count))
            self._receive(number, count)

    def _receive(self, number: int, count: int) -> None:
        """A gateway that is too far behind says so at once; that costs it nothing to speak of."""
        self._offered += count
        if self._gateways[number].waiting > _MOST_WAITING:
            return
        self._inside.add(count)
        self.loop.start(self._gateways[number].receive(Group(number, count, self.loop.now)))

    def _ended(self, groups: Groups) -> None:
        rows = rows_of(groups)
        self._inside.add(-rows)
        self._settled += rows
        self._waited += sum(group.count * (self.loop.now - group.since) for group in groups)
        for group in groups:
            if self._layout.population:
                self._receive(group.origin, group.count)
            else:
                self.loop.start(self._gateways[group.origin].poll(group.count * self._layout.polls))

    def reset(self) -> None:
        self._inside.reset()
        self._offered = self._settled = 0
        self._waited = 0.0
        self._rows_before, self._batches_before = self._accepted()
        for database in self._databases:
            database.reset()
        for machine in (*self._gateway_machines, *self._worker_machines):
            machine.cores.busy.reset()

    def _accepted(self) -> tuple[int, int]:
        committers = [one for gateway in self._gateways for one in gateway.committers]
        return sum(one.rows for one in committers), sum(one.batches for one in committers)

    def outcome(self, seconds: float) -> Outcome:
        rows, batches = self._accepted()
        rows, batches = rows - self._rows_before, batches - self._batches_before
        return Outcome(
            offered=self._offered / seconds,
            accepted=rows / seconds,
            settled=self._settled / seconds,
            latency=self._waited / self._settled if self._settled else 0.0,
            inside=self._inside.mean(),
            used=self._used(seconds),
            wal_mb_s=max(one.log.written for one in self._databases) / seconds / 2**20,
            commits=sum(one.log.commits for one in self._databases) / seconds,
            rows_per_accept=rows / batches if batches else 0.0,
        )

    def _used(self, seconds: float) -> dict[str, float]:
        layout, databases = self._layout, self._databases
        used = {
            CONNECTIONS: layout.connections / (layout.max_connections - SPARE_CONNECTIONS),
            DATABASE_CPU: max(one.cores.utilisation() for one in databases),
            ACCEPT_LOCK: max(one.accepting.held.mean() for one in databases),
            CLAIM_LOCK: max(one.claiming.held.mean() for one in databases),
            NOTIFY_LOCK: max(one.notifying.held.mean() for one in databases),
            FSYNC: max(one.log.flushes * one.sync for one in databases) / seconds,
            WAL: max(one.log.written * one.sync_byte for one in databases) / seconds,
            VACUUM: max(one.vacuuming.mean() for one in databases),
            NETWORK: max(one.network for one in databases) / seconds / (layout.network_mb_s * 2**20),
            GATEWAY_CPU: max(one.cores.utilisation() for one in self._gateway_machines),
            WORKER_CPU: max(one.cores.utilisation() for one in self._worker_machines),
        }
        return {name: round(share, 4) for name, share in used.items()}
