"""What a scenario reports: figures as measured, and checks of figures against their targets."""

from typing import Literal

from msgspec import Struct

from benchmarks.samples import Sample


class Figure(Struct, frozen=True):
    """One measurement, all its rounds kept."""

    name: str
    rounds: list[Sample]
    note: str = ""


class Check(Struct, frozen=True, omit_defaults=True):
    """One target and what was measured for it."""

    name: str
    measured: float
    target: float
    relation: Literal["at least", "at most"]
    unit: str = ""
    note: str = ""
    """How the figure came about: against what, with which numbers."""

    @property
    def is_met(self) -> bool:
        if self.relation == "at least":
            return self.measured >= self.target
        return self.measured <= self.target


class Report(Struct, frozen=True):
    """Everything one scenario brought."""

    scenario: str
    figures: list[Figure] = []
    checks: list[Check] = []
    failure: str | None = None
    """Why there is nothing, where there is nothing."""


def at_least(name: str, measured: float, target: float, unit: str = "", *, note: str = "") -> Check:
    return Check(name, measured, target, "at least", unit, note)


def at_most(name: str, measured: float, target: float, unit: str = "", *, note: str = "") -> Check:
    return Check(name, measured, target, "at most", unit, note)
