"""What one job costs, as ``measure`` found it: one file, read by everything that reckons with it."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

PATH: Final = Path(__file__).with_name("figures.json")


class Conditions(Struct, frozen=True):
    """Where and of what it was measured."""

    commit: str
    measured_at: datetime
    processor: str
    postgresql: str
    server_cores: int
    note: str


class Step(Struct, frozen=True):
    """One kind of statement, so and so many rows in each, over so and so many connections at once."""

    verb: str
    """accept, claim, settle, prune; poll: one reading; look: a claim that finds nothing."""
    batch: int
    connections: int
    body_kb: int
    owners: int
    """1: all rows have the same owner and lane; otherwise each connection has its own."""
    rows_per_second: float
    commits_per_second: float
    client_us: float
    """CPU time a row, of this process."""
    server_us: float
    """CPU time a row, of all processes of the server."""
    wal_bytes: float
    """A row."""


class Circulation(Struct, frozen=True):
    """So many jobs going round: accepted, claimed, settled, and the next is accepted."""

    processes: int
    """Stores side by side on one core of the client."""
    population: int
    jobs_per_second: float
    client_us: float
    server_us: float
    wal_bytes: float
    client_share: float
    """Of the client's core: what nobody else used meanwhile."""
    server_share: float
    """Likewise of the server's cores."""


class Fanout(Struct, frozen=True):
    """One notification, heard by so many."""

    listeners: int
    server_us: float
    client_us: float


class Vacuum(Struct, frozen=True):
    """What jobs leave behind that were accepted, claimed, settled and erased."""

    dead_rows_per_job: float
    """In all tables; with the erased."""
    hot_share: float
    """Of the updates of ``jobs``: those that touched no index."""
    cpu_us_per_job: float
    """Of one VACUUM of all tables."""
    busiest_table_us_per_job: float
    """A table is vacuumed by one process: this one sets the pace."""
    bytes_per_finished_job: float
    """On disk, indexes included, body and result of 1 KB."""


class Renewal(Struct, frozen=True):
    """One heartbeat of a worker that holds so many leases."""

    leases: int
    server_us: float
    client_us: float


class Gateway(Struct, frozen=True):
    """CPU time of our processes beside the store, from the published run of the benchmarks."""

    commit: str
    submit_us: float
    poll_us: float
    run_us: float
    """Of a job between claim and settle: what is left of the whole without submit, claim and settle."""
    upstream_us: float


class Figures(Struct, frozen=True):
    """Everything that was measured."""

    conditions: Conditions
    fsync_us: float
    """How long a commit of a few bytes waits, beside computing."""
    wal_us_per_mb: float
    """And how much longer for each megabyte of log."""
    steps: list[Step]
    circulations: list[Circulation]
    fanouts: list[Fanout]
    renewals: list[Renewal]
    vacuum: Vacuum
    gateway: Gateway


class Cost(Struct, frozen=True):
    """CPU time of a statement: so much for itself, so much for each row. Microseconds."""

    fixed: float
    row: float

    def of(self, rows: int) -> float:
        return self.fixed + self.row * rows


def read(path: Path = PATH) -> Figures:
    """Raises ``OSError`` or ``msgspec.DecodeError``."""
    return msgspec.json.decode(path.read_bytes(), type=Figures)


def write(figures: Figures, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")


def fit(points: Sequence[tuple[int, float]]) -> Cost:
    """The line through CPU times of whole statements by their rows; the relative error is what it keeps small."""
    weights = [1 / cost**2 for _, cost in points]
    total = sum(weights)
    mean_rows = sum(w * rows for w, (rows, _) in zip(weights, points, strict=True)) / total
    mean_cost = sum(w * cost for w, (_, cost) in zip(weights, points, strict=True)) / total
    spread = sum(w * (rows - mean_rows) ** 2 for w, (rows, _) in zip(weights, points, strict=True))
    together = sum(
        w * (rows - mean_rows) * (cost - mean_cost) for w, (rows, cost) in zip(weights, points, strict=True)
    )
    row = together / spread if spread else 0.0
    return Cost(max(0.0, mean_cost - row * mean_rows), row)
