"""Counters and histograms of a program with one thread: a dictionary each, given to Prometheus when scraped.

They move several times for every job, so they carry no locks and look nothing up by name.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

LONG: Final = (
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0,
    21600.0, 86400.0,
)  # fmt: skip
"""Upper bounds in seconds, up to the day a job may take."""


Series = dict[tuple[str, ...], list[float]]
"""Numbers by labels; those of several processes can be added up."""
State = dict[str, Series]
"""What one process has counted, by name."""


@final
class Tally:
    """How often something happened, by labels."""

    __slots__ = ("_counts", "_help", "_labels", "name")

    def __init__(self, name: str, help_text: str, labels: Sequence[str] = ()) -> None:
        self.name = f"tidegate_{name}"
        self._help = help_text
        self._labels = labels
        self._counts: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}

    def add(self, labels: tuple[str, ...] = (), amount: float = 1.0) -> None:
        self._counts[labels] = self._counts.get(labels, 0.0) + amount

    def series(self) -> Series:
        return {labels: [count] for labels, count in self._counts.items()}

    def family(self, series: Series) -> Metric:
        family = CounterMetricFamily(self.name, self._help, labels=self._labels)
        for labels, (count,) in series.items():
            family.add_metric(labels, count)
        return family


@final
class Level:
    """How high something stands right now, by labels; set when somebody looks."""

    __slots__ = ("_help", "_labels", "_values", "name")

    def __init__(self, name: str, help_text: str, labels: Sequence[str] = ()) -> None:
        self.name = f"tidegate_{name}"
        self._help = help_text
        self._labels = labels
        self._values: dict[tuple[str, ...], float] = {}

    def set(self, labels: tuple[str, ...], value: float) -> None:
        self._values[labels] = value

    def series(self) -> Series:
        return {labels: [value] for labels, value in self._values.items()}

    def family(self, series: Series) -> Metric:
        family = GaugeMetricFamily(self.name, self._help, labels=self._labels)
        for labels, (value,) in series.items():
            family.add_metric(labels, value)
        return family


@final
class Durations:
    """How long something took, in seconds, by labels."""

    __slots__ = ("_help", "_labels", "_series", "name")

    def __init__(self, name: str, help_text: str, labels: Sequence[str] = ()) -> None:
        self.name = f"tidegate_{name}"
        self._help = help_text
        self._labels = labels
        # Per labels the count of each bucket, the one beyond the last bound, and the sum.
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def observe(self, labels: tuple[str, ...], seconds: float) -> None:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = ([0] * (len(LONG) + 1), [0.0])
        # A clock that stepped back is no negative duration.
        seconds = max(seconds, 0.0)
        series[0][bisect_left(LONG, seconds)] += 1
        series[1][0] += seconds

    def series(self) -> Series:
        return {labels: [*counts, *total] for labels, (counts, total) in self._series.items()}

    def family(self, series: Series) -> Metric:
        family = HistogramMetricFamily(self.name, self._help, labels=self._labels)
        for labels, (*counts, total) in series.items():
            family.add_metric(labels, buckets=_cumulative(counts), sum_value=total)
        return family


def _cumulative(counts: Sequence[float]) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in LONG), "+Inf"]
    so_far = 0.0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip(bounds, counts, strict=True):
        so_far += count
        buckets.append((bound, so_far))
    return buckets


@final
class Tallies(Collector):
    """All of them, as the registry asks for them."""

    def __init__(self, members: Iterable[Tally | Level | Durations]) -> None:
        self._members = tuple(members)
        self.others: Sequence[State] = ()
        """What other processes have counted that are seen as one with this one."""

    def state(self) -> State:
        """Of this process. Levels are what whoever looks makes of them, and not passed on."""
        return {member.name: member.series() for member in self._members if not isinstance(member, Level)}

    def collect(self) -> Iterable[Metric]:
        return [
            member.family(_sum(member.series(), [other.get(member.name, {}) for other in self.others]))
            for member in self._members
        ]


def _sum(ours: Series, others: Iterable[Mapping[tuple[str, ...], Sequence[float]]]) -> Series:
    for other in others:
        for labels, numbers in other.items():
            before = ours.get(labels)
            ours[labels] = (
                [*numbers] if before is None else [a + b for a, b in zip(before, numbers, strict=True)]
            )
    return ours
