"""Figures as the simulation takes them: lines through what was measured. Seconds and bytes throughout."""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from benchmarks.simulation.figures import Cost, Figures, Step, fit

_MICRO: Final = 1e-6
MANY: Final = 4
"""Connections at once: a statement costs a little more beside others."""
_LARGE: Final = 20
"""KB: the size of body that was measured beside 1 KB."""
_LARGE_BATCH: Final = 64


class Statement(Struct, frozen=True):
    """What a statement takes, by its rows and by the KB of a body beyond the first."""

    client: Cost
    server: Cost
    wal: Cost
    client_kb: float
    server_kb: float
    wal_kb: float

    def client_time(self, rows: int, body_kb: float) -> float:
        return (self.client.of(rows) + rows * self.client_kb * _beyond(body_kb)) * _MICRO

    def server_time(self, rows: int, body_kb: float) -> float:
        return (self.server.of(rows) + rows * self.server_kb * _beyond(body_kb)) * _MICRO

    def wal_bytes(self, rows: int, body_kb: float) -> float:
        return self.wal.of(rows) + rows * self.wal_kb * _beyond(body_kb)


class Costs(Struct, frozen=True):
    """Of everything a job meets."""

    accept: Statement
    claim: Statement
    settle: Statement
    prune: Statement
    poll_client: float
    poll_server: float
    notify_server: float
    notify_listener: float
    """Of the server, for each that listens."""
    hear: float
    """Of each that listens."""
    renew_server: float
    renew_lease: float
    vacuum: float
    """CPU time a job."""
    sync: float
    sync_byte: float
    submit: float
    """CPU time of the handlers, without a store."""
    poll: float
    run: float
    """CPU time of a job between claim and settle."""
    upstream: float
    """CPU time of one bare call to another server."""
    most_of_a_core: float
    """What a server's processes get of a core that has no time left: the kernel's own work is nobody's."""


def costs_of(figures: Figures, connections: int = MANY) -> Costs:
    """As measured over so many connections at once."""
    few, many = figures.fanouts[0], figures.fanouts[-1]
    idle, laden = figures.renewals
    spread, leases = many.listeners - few.listeners, laden.leases - idle.leases
    listener = (many.server_us - few.server_us) / spread * _MICRO
    poll = _only(figures, "poll", 1, 1)
    gateway = figures.gateway
    return Costs(
        accept=_statement(figures, "accept", connections),
        claim=_statement(figures, "claim", connections),
        settle=_statement(figures, "settle", connections),
        prune=_pruning(figures),
        poll_client=poll.client_us * _MICRO,
        poll_server=poll.server_us * _MICRO,
        notify_server=few.server_us * _MICRO - listener * few.listeners,
        notify_listener=listener,
        hear=(many.client_us - few.client_us) / spread * _MICRO,
        renew_server=idle.server_us * _MICRO,
        renew_lease=(laden.server_us - idle.server_us) / leases * _MICRO,
        vacuum=figures.vacuum.cpu_us_per_job * _MICRO,
        sync=figures.fsync_us * _MICRO,
        sync_byte=figures.wal_us_per_mb * _MICRO / 2**20,
        submit=gateway.submit_us * _MICRO,
        poll=gateway.poll_us * _MICRO,
        run=gateway.run_us * _MICRO,
        upstream=gateway.upstream_us * _MICRO,
        most_of_a_core=_most_of_a_core(figures),
    )


def _most_of_a_core(figures: Figures) -> float:
    busy = [
        *(step.rows_per_second * step.server_us for step in figures.steps),
        *(one.jobs_per_second * one.server_us for one in figures.circulations),
    ]
    return min(1.0, max(busy) * _MICRO / figures.conditions.server_cores)


def _statement(figures: Figures, verb: str, connections: int) -> Statement:
    steps = [
        step
        for step in figures.steps
        if (step.verb, step.connections, step.body_kb, step.owners) == (verb, connections, 1, 1)
    ]
    looks = [
        (0, step) for step in figures.steps if (step.verb, step.body_kb) == ("look", 1) and verb == "claim"
    ][:1]
    rows = [(step.batch, step) for step in steps]
    small, large = (
        next(
            step for step in _all(figures, verb, size) if (step.batch, step.connections) == (_LARGE_BATCH, 1)
        )
        for size in (1, _LARGE)
    )
    return Statement(
        client=fit([(n, step.client_us * max(n, 1)) for n, step in (*looks, *rows)]),
        server=fit([(n, step.server_us * max(n, 1)) for n, step in (*looks, *rows)]),
        wal=fit([(n, step.wal_bytes * n) for n, step in rows]),
        client_kb=_slope(small.client_us, large.client_us),
        server_kb=_slope(small.server_us, large.server_us),
        wal_kb=_slope(small.wal_bytes, large.wal_bytes),
    )


def _pruning(figures: Figures) -> Statement:
    """Always a thousand at a time: what it takes for itself lies in the row."""
    small = min(_all(figures, "prune", 1), key=lambda step: step.server_us)
    large = min(_all(figures, "prune", _LARGE), key=lambda step: step.server_us)
    return Statement(
        client=Cost(0.0, small.client_us),
        server=Cost(0.0, small.server_us),
        wal=Cost(0.0, small.wal_bytes),
        client_kb=0.0,
        server_kb=_slope(small.server_us, large.server_us),
        wal_kb=_slope(small.wal_bytes, large.wal_bytes),
    )


def _only(figures: Figures, verb: str, connections: int, body_kb: int) -> Step:
    """The cheapest of those rounds: they did the same."""
    found = (step for step in _all(figures, verb, body_kb) if step.connections == connections)
    return min(found, key=lambda step: step.server_us)


def _all(figures: Figures, verb: str, body_kb: int) -> Iterator[Step]:
    return (step for step in figures.steps if (step.verb, step.body_kb) == (verb, body_kb))


def _slope(small: float, large: float) -> float:
    return max(0.0, large - small) / (_LARGE - 1)


def _beyond(body_kb: float) -> float:
    """A body that lies elsewhere saves what its first KB had cost, as far as that is known: nothing."""
    return max(0.0, body_kb - 1)
