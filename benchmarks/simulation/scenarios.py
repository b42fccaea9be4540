"""What is simulated, and what it says: the first thing that breaks, and what its remedy gives."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from benchmarks.simulation import model
from benchmarks.simulation.costs import costs_of
from benchmarks.simulation.figures import Circulation, Figures
from benchmarks.simulation.layout import Layout, Outcome

_KEEPS_UP: Final = 0.95
_FULL: Final = 0.95
_JOBS: Final = 10_000
# What takes whole batches is always busy, and makes them larger when there is no time left.
_PATIENT: Final = frozenset({model.FSYNC, model.NOTIFY_LOCK, model.ACCEPT_LOCK, model.CLAIM_LOCK})


class Case(Struct, frozen=True):
    """One row of the table."""

    name: str
    layout: Layout


# Assumed, not measured: what a block device of a cloud does.
_SMALL: Final = Layout(rate=1_000, cores=2, sync_us=500.0, log_mb_s=500.0)
_TEN: Final = replace(_SMALL, rate=10_000, gateways=4, workers=4, cores=4)
_TEN_LARGE: Final = replace(_TEN, gateways=5, workers=5, body_kb=20.0)
_HUNDRED: Final = replace(_SMALL, rate=100_000, gateways=44, workers=32, cores=64)
_ADMITTED: Final = replace(_HUNDRED, max_connections=1_500)
_LATER: Final = replace(_ADMITTED, shared_ranks=False)
_FOUR: Final = replace(_HUNDRED, cores=16, max_connections=1_000, databases=4)
_FOUR_LARGE: Final = replace(_FOUR, gateways=52, workers=40, body_kb=20.0)
CASES: Final = (
    Case("1 gateway, 1 worker; PostgreSQL on 2 cores", _SMALL),
    Case("1 gateway, 1 worker; 4 cores", replace(_TEN, gateways=1, workers=1)),
    Case("4 gateways, 1 worker; 4 cores", replace(_TEN, workers=1)),
    Case("4 gateways, 4 workers; 1 core", replace(_TEN, cores=1)),
    Case("the same on 4 cores", _TEN),
    Case("the same, a sync takes 20 ms", replace(_TEN, sync_us=20_000.0)),
    Case("5 gateways, 5 workers; 4 cores; 20 KB bodies", _TEN_LARGE),
    Case("the same on two databases", replace(_TEN_LARGE, databases=2)),
    Case("on one, bodies in object storage", replace(_TEN_LARGE, bodies_outside=True)),
    Case("44 gateways, 32 workers; 64 cores, 500 connections", _HUNDRED),
    Case("the same with 1 500 connections", _ADMITTED),
    Case("and batches of 1 024", replace(_ADMITTED, batch=1_024)),
    Case("batches of 256, ranks given later (not built)", _LATER),
    Case("and a log device of 1 GB/s", replace(_LATER, log_mb_s=1_000.0)),
    Case("as built, 2 databases of 32 cores, 1 000 connections each", replace(_FOUR, cores=32, databases=2)),
    Case("as built, 4 databases of 16 cores", _FOUR),
    Case("the same, 52 gateways, 40 workers, 20 KB bodies", _FOUR_LARGE),
    Case("the same, bodies in object storage", replace(_FOUR_LARGE, bodies_outside=True)),
)


class Row(Struct, frozen=True):
    """A case and what came of it."""

    case: Case
    outcome: Outcome

    @property
    def keeps_up(self) -> bool:
        return self.broken is None

    @property
    def broken(self) -> str | None:
        """What breaks first, if anything does."""
        used, outcome = self.outcome.used, self.outcome
        if used[model.CONNECTIONS] > 1:
            return model.CONNECTIONS
        if used[model.VACUUM] >= _FULL:
            return model.VACUUM
        enough = _KEEPS_UP * outcome.offered
        if outcome.accepted < enough:
            return self._fullest_of(model.GATEWAY_CPU, model.ACCEPT_LOCK)
        if outcome.settled < enough:
            return self._fullest_of(model.WORKER_CPU, model.CLAIM_LOCK)
        return None

    def _fullest_of(self, *own: str) -> str:
        """What all share comes first: where it is full, the others wait for it."""
        used = self.outcome.used
        names = (model.DATABASE_CPU, model.WAL, model.NETWORK, *own)
        full = [name for name in names if used[name] >= _FULL]
        return full[0] if full else max((*names, model.FSYNC), key=lambda name: used[name])

    @property
    def fullest(self) -> list[tuple[str, float]]:
        """The two resources that have least left."""
        used = [(name, share) for name, share in self.outcome.used.items() if name not in _PATIENT]
        return sorted(used, key=lambda one: one[1], reverse=True)[:2]


class Check(Struct, frozen=True):
    """The same configuration, measured and simulated."""

    measured: Circulation
    simulated: Outcome

    @property
    def ratio(self) -> float:
        return self.simulated.settled / self.measured.jobs_per_second


def run(figures: Figures, cases: Iterable[Case] = CASES) -> list[Row]:
    costs = costs_of(figures)
    return [Row(case, model.simulate(case.layout, costs, seconds=_long(case.layout))) for case in cases]


def _long(layout: Layout) -> float:
    """Seconds in which enough jobs come for chance not to show."""
    return max(0.4, _JOBS / layout.rate)


def write(rows: Sequence[Row], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = [
        {"case": row.case, "outcome": row.outcome, "broken": row.broken, "fullest": dict(row.fullest)}
        for row in rows
    ]
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def reproduce(figures: Figures) -> list[Check]:
    """The measured circulations, on the cores they were measured on."""
    alone, beside = costs_of(figures, 1), costs_of(figures)
    return [
        Check(
            one,
            model.simulate(_as_measured(one, figures), alone if one.processes == 1 else beside, seconds=1.0),
        )
        for one in figures.circulations
    ]


def _as_measured(one: Circulation, figures: Figures) -> Layout:
    return Layout(
        population=one.population,
        gateways=one.processes,
        workers=one.processes,
        cores=figures.conditions.server_cores,
    )
