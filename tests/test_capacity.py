"""The capacity model obeys the laws of queues, gives what was measured, and is what the page shows."""

from functools import cache
from itertools import pairwise, repeat
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from benchmarks.simulation import figures, model, page, scenarios
from benchmarks.simulation.costs import Costs, costs_of
from benchmarks.simulation.figures import Circulation, Cost
from benchmarks.simulation.layout import Layout, Outcome
from benchmarks.simulation.loop import Cores, Lock, Log, Loop, Process, Signal
from benchmarks.simulation.scenarios import Row

ROOT = Path(__file__).resolve().parent.parent
SERVICE = 0.001
ARRIVALS = 30_000
TOLERANCE = 0.2
"""What ``docs/scale.md`` claims for a simulated rate beside the measured one."""


@cache
def costs() -> Costs:
    return costs_of(figures.read())


@cache
def rows() -> list[Row]:
    return scenarios.run(figures.read())


def simulated(layout: Layout) -> Outcome:
    return model.simulate(layout, costs())


class Queue:
    """Visitors who come at random and are each served for the same time."""

    def __init__(self, load: float, servers: int = 1) -> None:
        self.loop = Loop()
        self.cores = Cores(self.loop, servers)
        self.rate = load * servers / SERVICE
        self.stays: list[float] = []
        self._random = Random(7)

    def run(self) -> None:
        self.loop.start(self._arrivals())
        self.loop.run(ARRIVALS / self.rate)

    def _arrivals(self) -> Process:
        while True:
            yield self.loop.after(self._random.expovariate(self.rate))
            self.loop.start(self._visit())

    def _visit(self) -> Process:
        came = self.loop.now
        yield self.cores.use(SERVICE)
        self.stays.append(self.loop.now - came)


class TestLaws:
    @pytest.mark.parametrize(("load", "servers"), [(0.5, 1), (0.8, 1), (0.7, 4)])
    def test_utilisation_is_the_rate_times_the_service(self, load: float, servers: int) -> None:
        queue = Queue(load, servers)

        queue.run()

        assert queue.cores.utilisation() == pytest.approx(load, rel=0.02)

    @pytest.mark.parametrize("load", [0.5, 0.9])
    def test_as_many_are_present_as_come_in_the_time_of_a_stay(self, load: float) -> None:
        queue = Queue(load)

        queue.run()

        rate = len(queue.stays) / queue.loop.now
        stay = sum(queue.stays) / len(queue.stays)
        assert queue.cores.present.mean() == pytest.approx(rate * stay, rel=0.01)

    @pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
    def test_one_server_with_a_fixed_service_lets_wait_as_long_as_the_formula_says(self, load: float) -> None:
        queue = Queue(load)

        queue.run()

        waited = sum(queue.stays) / len(queue.stays) - SERVICE
        assert waited == pytest.approx(SERVICE * load / (2 * (1 - load)), rel=0.06)

    def test_slices_change_the_order_and_not_the_work(self) -> None:
        loop = Loop()
        cores = Cores(loop, 1, slice_=0.1)
        ended: dict[str, float] = {}

        def visit(name: str, seconds: float) -> Process:
            yield cores.use(seconds)
            ended[name] = loop.now

        loop.start(visit("long", 1.0))
        loop.start(visit("short", 0.1))
        loop.run(2.0)

        assert ended == {"short": pytest.approx(0.2), "long": pytest.approx(1.1)}
        assert cores.busy.mean() == pytest.approx(0.55)


class TestLoop:
    def test_events_of_one_moment_keep_the_order_of_their_making(self) -> None:
        loop = Loop()
        seen: list[int] = []

        for number in range(5):
            loop.call_after(1.0, lambda number=number: seen.append(number))  # type: ignore[misc]
        loop.run(1.0)

        assert seen == [0, 1, 2, 3, 4]

    def test_a_lock_is_held_by_one_at_a_time(self) -> None:
        loop = Loop()
        lock = Lock(loop)
        ended: list[float] = []

        def hold() -> Process:
            yield lock.take
            yield loop.after(1.0)
            lock.give()
            ended.append(loop.now)

        for _ in range(3):
            loop.start(hold())
        loop.run(4.0)

        assert ended == [1.0, 2.0, 3.0]
        assert lock.held.mean() == pytest.approx(0.75)

    def test_commits_that_gather_during_a_flush_share_the_next(self) -> None:
        loop = Loop()
        log = Log(loop, sync=1.0, per_byte=0.01)
        ended: list[float] = []

        def commit(after: float) -> Process:
            yield loop.after(after)
            yield log.commit(50)
            ended.append(loop.now)

        for after in (0.0, 0.5, 0.6, 0.7):
            loop.start(commit(after))
        loop.run(10.0)

        assert ended == [1.5, 4.0, 4.0, 4.0]
        assert (log.flushes, log.commits, log.written) == (2, 4, 200)

    def test_a_signal_wakes_everybody_and_nobody_twice(self) -> None:
        loop = Loop()
        signal = Signal(loop)
        woken: list[float] = []

        def wait() -> Process:
            yield signal.within(5.0)
            woken.append(loop.now)

        for process in repeat(wait, 2):
            loop.start(process())
        loop.call_after(1.0, signal.fire)
        loop.run(10.0)

        assert woken == [1.0, 1.0]


class TestFigures:
    def test_a_line_is_found_again(self) -> None:
        wanted = Cost(200.0, 20.0)

        found = figures.fit([(rows, wanted.of(rows)) for rows in (1, 16, 64, 256)])

        assert found.fixed == pytest.approx(wanted.fixed)
        assert found.row == pytest.approx(wanted.row)

    def test_no_statement_costs_less_than_nothing(self) -> None:
        found = figures.fit([(1, 10.0), (10, 200.0)])

        assert found.fixed == 0.0


class TestModel:
    LAYOUT = Layout(rate=3_000, gateways=2, workers=2, cores=4)

    def test_the_same_seed_gives_the_same_history(self) -> None:
        first, again = (model.simulate(self.LAYOUT, costs(), seed=3) for _ in range(2))
        other = model.simulate(self.LAYOUT, costs(), seed=4)

        assert first == again
        assert first != other

    def test_what_comes_in_goes_out(self) -> None:
        outcome = model.simulate(self.LAYOUT, costs(), seconds=3.0)

        assert outcome.offered == pytest.approx(self.LAYOUT.rate, rel=0.1)
        assert outcome.accepted == pytest.approx(outcome.offered, rel=0.02)
        assert outcome.settled == pytest.approx(outcome.offered, rel=0.02)

    def test_as_many_jobs_are_inside_as_come_in_the_time_of_one(self) -> None:
        outcome = model.simulate(self.LAYOUT, costs(), seconds=3.0)

        assert outcome.inside == pytest.approx(outcome.settled * outcome.latency, rel=0.05)

    def test_more_cores_never_give_less(self) -> None:
        many = replace(self.LAYOUT, rate=30_000, gateways=14, workers=12)

        settled = [simulated(replace(many, cores=cores)).settled for cores in (1, 2, 4, 8)]

        assert all(fewer <= more * 1.01 for fewer, more in pairwise(settled))
        assert settled[0] < 0.7 * settled[-1]

    def test_more_databases_never_give_less(self) -> None:
        many = replace(self.LAYOUT, rate=40_000, gateways=20, workers=16)

        settled = [simulated(replace(many, databases=count)).settled for count in (1, 2, 4)]

        assert all(fewer <= more * 1.01 for fewer, more in pairwise(settled))
        assert settled[0] < 0.7 * settled[-1]

    def test_a_slower_disk_never_gives_more(self) -> None:
        many = replace(self.LAYOUT, rate=20_000, gateways=10, workers=8, cores=16)

        settled = [simulated(replace(many, sync_us=sync)).settled for sync in (50, 5_000, 20_000)]

        assert all(faster >= slower * 0.97 for faster, slower in pairwise(settled))
        assert settled[-1] < 0.7 * settled[0]


@pytest.mark.parametrize(
    "number", range(len(figures.read().circulations)), ids=lambda n: _name(figures.read().circulations[n])
)
def test_what_was_measured_comes_out_again(number: int) -> None:
    check = scenarios.reproduce(figures.read())[number]

    assert check.ratio == pytest.approx(1.0, abs=TOLERANCE)


def _name(one: Circulation) -> str:
    return f"{one.processes}-processes-{one.population}-jobs"


class TestPage:
    def test_the_page_shows_what_the_simulation_gives(self) -> None:
        page_path = ROOT / "docs" / "scale.md"

        assert page_path.read_text("utf-8") == page.filled(page_path, figures.read(), rows())

    def test_a_case_that_keeps_up_names_no_culprit(self) -> None:
        outcome = simulated(TestModel.LAYOUT)
        fine = Row(scenarios.Case("fine", TestModel.LAYOUT), outcome)
        slow = Row(scenarios.Case("slow", TestModel.LAYOUT), replace(outcome, settled=outcome.settled / 2))

        assert fine.broken is None
        assert slow.broken is not None

    def test_too_many_connections_break_before_anything_is_slow(self) -> None:
        layout = replace(TestModel.LAYOUT, max_connections=40)

        assert Row(scenarios.Case("crowded", layout), simulated(layout)).broken == model.CONNECTIONS
