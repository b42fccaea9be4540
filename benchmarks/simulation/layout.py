"""What is built and what is asked of it; and what came of that."""

from typing import Final

from msgspec import Struct

_REFERENCE_KB: Final = 0.1
CONNECTIONS: Final = 12
"""Of each process to each database it uses: ten in the pool, one for heartbeats, one that listens."""
SPARE_CONNECTIONS: Final = 10


class Layout(Struct, frozen=True, kw_only=True):
    """Machines, databases and load."""

    rate: float = 0.0
    """Jobs a second from outside."""
    population: int = 0
    """Instead of them: so many jobs go round, as when costs are measured. Nothing but the store counts then."""
    gateways: int = 1
    workers: int = 1
    """With a population: as many as gateways, on the same core."""
    databases: int = 1
    cores: int = 1
    """Of each database."""
    max_connections: int = 500
    sync_us: float | None = None
    """As measured, if not given; likewise the next."""
    log_mb_s: float | None = None
    network_mb_s: float = 1250.0
    batch: int = 256
    gather_ms: float = 5.0
    """How long news is gathered for one notification."""
    shared_ranks: bool = True
    """Accepts move a row on that they share, as they do now; on paper ranks could be given later."""
    body_kb: float = 1.0
    bodies_outside: bool = False
    vendor: float = 0.2
    """Seconds a call takes."""
    polls: float = 1.0
    """Readings of each job."""

    @property
    def stored_kb(self) -> float:
        return _REFERENCE_KB if self.bodies_outside else self.body_kb

    @property
    def connections(self) -> int:
        """Of one database: every gateway uses all of them, a worker one."""
        return CONNECTIONS * (self.gateways + -(-self.workers // self.databases))


class Outcome(Struct, frozen=True):
    """What the simulated time was like, once it had settled."""

    offered: float
    """Jobs a second; likewise the next two."""
    accepted: float
    settled: float
    latency: float
    """Mean seconds from the request to the settled job."""
    inside: float
    """Mean number of jobs between the two."""
    used: dict[str, float]
    """Share of what there is, by resource; the busiest one of a kind counts."""
    wal_mb_s: float
    """Of one database."""
    commits: float
    """A second, of all databases."""
    rows_per_accept: float
