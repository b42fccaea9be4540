"""One PostgreSQL in simulated time: cores, a log, the rows everybody wants, and what has to be swept."""

from collections import deque
from typing import Final, final

from msgspec import Struct

from benchmarks.simulation.costs import Costs
from benchmarks.simulation.layout import Layout
from benchmarks.simulation.loop import Cores, Gauge, Lock, Log, Loop, Process, Signal

RESULT_KB: Final = 1.0
_SLICE: Final = 0.001
_EVERY: Final = 0.01
"""Seconds between two looks of whoever sweeps."""
_PRUNED_AT_ONCE: Final = 1000
_ENVELOPE: Final = 500
"""Bytes on the wire of a row, beside bodies and results."""
_KB: Final = 1024


class Group(Struct):
    """Jobs that came in together."""

    origin: int
    """The gateway they came to."""
    count: int
    since: float


def take(queue: deque[Group], room: int) -> list[Group]:
    """As many jobs as there is room for, from the front; a group may be torn."""
    taken: list[Group] = []
    while queue and room:
        group = queue.popleft()
        if group.count > room:
            queue.appendleft(Group(group.origin, group.count - room, group.since))
            group = Group(group.origin, room, group.since)
        room -= group.count
        taken.append(group)
    return taken


def rows_of(groups: list[Group]) -> int:
    return sum(group.count for group in groups)


@final
class Database:
    def __init__(self, loop: Loop, layout: Layout, costs: Costs) -> None:
        self._loop = loop
        self._layout = layout
        self._costs = costs
        self.sync = costs.sync if layout.sync_us is None else layout.sync_us * 1e-6
        self.sync_byte = costs.sync_byte if layout.log_mb_s is None else 1 / (layout.log_mb_s * 2**20)
        self.cores = Cores(loop, layout.cores, slice_=_SLICE, speed=costs.most_of_a_core)
        self.log = Log(loop, self.sync, self.sync_byte)
        # How far an owner has come in a lane is a row: whoever moves it on holds it until the commit.
        self.accepting = Lock(loop)
        # How far the lane has come is another.
        self.claiming = Lock(loop)
        # The server lets one commit with a notification through at a time.
        self.notifying = Lock(loop)
        self.ready: deque[Group] = deque()
        self.work = Signal(loop)
        self.listeners = 0
        self.told = 0
        self.vacuuming = Gauge(loop)
        self.network = 0.0
        self._claimers = 0
        self._expired = 0
        self._dead = 0

    def accept(self, groups: list[Group]) -> Process:
        costs, body, rows = self._costs.accept, self._layout.stored_kb, rows_of(groups)
        before = costs.server_time(0, body)
        yield self.cores.use(before)
        if self._layout.shared_ranks:
            yield self.accepting.take
        yield self.cores.use(costs.server_time(rows, body) - before)
        yield self.log.commit(costs.wal_bytes(rows, body))
        if self._layout.shared_ranks:
            self.accepting.give()
        self.ready.extend(groups)
        self.network += rows * (body * _KB + _ENVELOPE)

    def claim(self, room: int, taken: list[Group]) -> Process:
        costs, body = self._costs.claim, self._layout.stored_kb
        ranking = costs.server_time(0, body) / 2
        self._claimers += 1
        yield self.cores.use(ranking)  # what has become due comes first, in a statement of its own
        # Who claims at the same time shares what is there: each skips what others have locked.
        share = -(-sum(group.count for group in self.ready) // self._claimers)
        taken += take(self.ready, min(room, share))
        rows = rows_of(taken)
        yield self.cores.use(costs.server_time(rows, body) - ranking)
        if rows:
            yield self.claiming.take
            yield self.log.commit(costs.wal_bytes(rows, body))
            self.claiming.give()
        self._claimers -= 1
        if rows:
            self.network += rows * (body * _KB + _ENVELOPE)

    def settle(self, groups: list[Group]) -> Process:
        rows = rows_of(groups)
        yield self.cores.use(self._costs.settle.server_time(rows, RESULT_KB))
        yield self.log.commit(self._costs.settle.wal_bytes(rows, RESULT_KB))
        self._expired += rows
        self._dead += rows
        self.network += rows * (RESULT_KB * _KB + _ENVELOPE)

    def poll(self, rows: float) -> Process:
        yield self.cores.use(rows * self._costs.poll_server)
        self.network += rows * (RESULT_KB * _KB + _ENVELOPE)

    def notify(self) -> Process:
        """Whoever listens is woken, reads, and passes it on to its client."""
        yield self.cores.use(self._costs.notify_server)
        yield self.notifying.take
        yield self.log.commit(0)
        self.notifying.give()
        self.told += 1
        self.work.fire()
        yield self.cores.use(self._costs.notify_listener * self.listeners)

    def renew(self, leases: int) -> Process:
        yield self.cores.use(self._costs.renew_server + leases * self._costs.renew_lease)
        yield self.log.commit(0)

    def prune(self) -> Process:
        """As much expires as ends, once results have been kept for their time."""
        costs, body = self._costs.prune, self._layout.stored_kb
        while True:
            yield self._loop.after(_EVERY)
            while self._expired >= _PRUNED_AT_ONCE:
                self._expired -= _PRUNED_AT_ONCE
                yield self.cores.use(costs.server_time(_PRUNED_AT_ONCE, body))
                yield self.log.commit(costs.wal_bytes(_PRUNED_AT_ONCE, body))

    def vacuum(self) -> Process:
        """Always at work is behind: dead rows become more than are swept."""
        while True:
            jobs, self._dead = self._dead, 0
            if not jobs:
                yield self._loop.after(_EVERY)
                continue
            self.vacuuming.add(1)
            yield self.cores.use(jobs * self._costs.vacuum)
            self.vacuuming.add(-1)

    def reset(self) -> None:
        """Measuring begins."""
        self.log.reset()
        self.network = 0.0
        for gauge in (
            self.cores.busy,
            self.accepting.held,
            self.claiming.held,
            self.notifying.held,
            self.vacuuming,
        ):
            gauge.reset()
