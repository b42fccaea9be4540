"""F6: store time never goes back, and leases do not depend on time at all."""

import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.fakes import FakeClock
from support.stores import SqliteUnderTest
from tidegate.clock import SystemClock
from tidegate.store.rows import moment
from tidegate.store.sqlite.rows import ms
from tidegate.store.sqlite.time import StoreClock

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
STEPS = [HOUR, -HOUR, DAY, -DAY]


class Watched:
    """A store clock over a wall clock that is moved by hand."""

    def __init__(self) -> None:
        self.wall = FakeClock()
        self.steps: list[timedelta] = []
        self.clock = StoreClock(self.wall, self.steps.append)
        self.began = self.clock.now()

    def gone(self) -> timedelta:
        return self.clock.now() - self.began


class TestStoreTime:
    def test_it_is_the_wall_clock_as_long_as_that_behaves(self) -> None:
        watched = Watched()

        for _ in range(100):
            watched.wall.advance(timedelta(seconds=30))
            watched.wall.step_wall_clock(timedelta(milliseconds=-15))
            assert watched.clock.now() == watched.wall.now()

        assert watched.steps == []

    @pytest.mark.parametrize("step", [HOUR, DAY], ids=str)
    def test_it_goes_forward_with_the_wall_clock(self, step: timedelta) -> None:
        watched = Watched()

        watched.wall.step_wall_clock(step)

        assert (watched.gone(), watched.steps) == (step, [step])

    @pytest.mark.parametrize("step", [HOUR, DAY], ids=str)
    def test_it_does_not_go_back_but_on_at_half_its_pace(self, step: timedelta) -> None:
        watched = Watched()

        watched.wall.step_wall_clock(-step)

        assert (watched.gone(), watched.steps) == (timedelta(0), [-step])
        watched.wall.advance(timedelta(minutes=10))
        assert watched.gone() == timedelta(minutes=5)

    def test_after_a_step_back_the_two_meet_again(self) -> None:
        watched = Watched()
        watched.wall.step_wall_clock(-HOUR)

        for _ in range(121):
            before = watched.clock.now()
            watched.wall.advance(timedelta(minutes=1))
            assert watched.clock.now() >= before

        assert watched.clock.now() == watched.wall.now()

    def test_nothing_is_erased_for_a_minute_after_a_step_forward_alone(self) -> None:
        watched = Watched()
        trusted = []
        for step, passed in ((-HOUR, 0), (HOUR, 0), (None, 59), (None, 1)):
            watched.wall.step_wall_clock(step or timedelta(0))
            watched.wall.advance(timedelta(seconds=passed))
            watched.clock.now()
            trusted.append(watched.clock.is_to_be_trusted)

        assert trusted == [True, False, False, True]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteUnderTest]:
    under_test = SqliteUnderTest(tmp_path / "data" / "tidegate.db")
    under_test.open()
    yield under_test
    await under_test.store.close()


@pytest.mark.parametrize("step", STEPS, ids=str)
async def test_a_lease_outlives_every_step(store: SqliteUnderTest, step: timedelta) -> None:
    job = await store.accept(timeout=604_800)
    claimed = await store.claim_one()

    store.clock.step_wall_clock(step)

    assert await store.jobs.rescue() == 0
    assert await store.jobs.renew([claimed.lease]) == [claimed.lease]
    assert await store.jobs.expire(limit=10) == 0
    assert await store.claim() == []
    assert await store.complete(claimed)
    assert await store.status(job) == "completed"


@pytest.mark.parametrize("step", STEPS, ids=str)
async def test_a_result_lives_as_long_as_promised_in_store_time(
    store: SqliteUnderTest, step: timedelta
) -> None:
    store.clock.step_wall_clock(step)
    job = await store.accept(result_ttl=60, created_at=store.store.clock.now())
    await store.complete(await store.claim_one())
    ended = store.store.clock.now()

    while await store.status(job) != "gone":
        store.later(seconds=0.5)

    assert timedelta(seconds=60) <= store.store.clock.now() - ended <= timedelta(seconds=61)


async def test_a_step_forward_that_is_taken_back_has_erased_nothing(store: SqliteUnderTest) -> None:
    job = await store.accept(result_ttl=60)
    await store.complete(await store.claim_one())

    store.clock.step_wall_clock(DAY)
    assert await store.jobs.prune(limit=10) == 0
    store.clock.step_wall_clock(-DAY)

    store.crash_and_restart()
    assert await store.status(job) == "completed"


async def test_a_step_forward_that_stays_erases_a_minute_later(store: SqliteUnderTest) -> None:
    await store.accept(result_ttl=60)
    await store.complete(await store.claim_one())
    store.clock.step_wall_clock(DAY)
    assert await store.jobs.prune(limit=10) == 0

    store.later(seconds=60)

    assert await store.jobs.prune(limit=10) == 1


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_the_hour_that_comes_twice_in_autumn_comes_once() -> None:
    """Local clocks go from 03:00 back to 02:00 at 01:00 UTC."""
    wall = FakeClock(datetime(2026, 10, 25, 0, 30, tzinfo=UTC))
    steps: list[timedelta] = []
    clock = StoreClock(wall, steps.append)
    assert time.localtime(wall.now().timestamp()).tm_hour == 2

    wall.advance(HOUR)

    assert time.localtime(wall.now().timestamp()).tm_hour == 2
    assert clock.now() == moment(ms(wall.now())) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert steps == []
    assert SystemClock().now().utcoffset() == timedelta(0)
