"""What one round of a measurement brought, and how rounds become a figure."""

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import TypeVar

from msgspec import Struct

from benchmarks.load.histogram import Histogram


class Latency(Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float


class Sample(Struct, frozen=True, omit_defaults=True):
    """One round."""

    count: int
    """Requests, jobs or operations that were over within it."""
    seconds: float
    cpu_us: float | None = None
    """CPU time of the measured process, by operation, in microseconds."""
    latency: Latency | None = None
    load_busy: float | None = None
    """Share of its core that the load generator used; near 1 it is what was measured."""
    facts: dict[str, float] = {}
    """What else the round showed."""

    @property
    def rate(self) -> float:
        return self.count / self.seconds


Rounds = Sequence[Sample]
T = TypeVar("T")


def latency_of(histogram: Histogram) -> Latency:
    def ms(share: float) -> float:
        return histogram.percentile(share) / 1000

    return Latency(ms(0.5), ms(0.9), ms(0.99), ms(0.999), histogram.longest / 1000)


def best_rate(rounds: Rounds) -> float:
    """On a machine shared with others the fastest round was disturbed least."""
    return max(sample.rate for sample in rounds)


def least_cpu(rounds: Rounds) -> float:
    """Microseconds; the smallest of all rounds for the same reason."""
    return min(known(sample.cpu_us for sample in rounds))


def typical(rounds: Rounds, percentile: Callable[[Latency], float]) -> float:
    """Milliseconds: the median over the rounds, as one disturbed round has a tail of its own."""
    return median(percentile(latency) for latency in known(sample.latency for sample in rounds))


def known(values: Iterable[T | None]) -> list[T]:
    return [value for value in values if value is not None]
