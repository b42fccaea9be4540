"""Requests and tokens per minute: a call waits for its turn, and a part of the fleet's turns is ours."""

import asyncio
from datetime import timedelta

import pytest

from support.fakes import FakeClock
from tidegate.domain.fleet import Fleet
from tidegate.services.provider_pace import PaceLimit, ProviderPace

pytestmark = pytest.mark.anyio


async def turns_within(pace: ProviderPace, clock: FakeClock, seconds: float) -> int:
    """How many of many who want to call get their turn in this time."""
    waiting = [asyncio.create_task(pace.turn("openai")) for _ in range(500)]
    for _ in range(round(seconds * 100)):
        for _ in range(5):
            await asyncio.sleep(0)
        clock.advance(timedelta(milliseconds=10))
    for _ in range(5):
        await asyncio.sleep(0)
    began = sum(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return began


async def test_requests_per_minute() -> None:
    clock = FakeClock()
    pace = ProviderPace({"openai": PaceLimit(requests=1200)}, clock)

    assert 185 <= await turns_within(pace, clock, 10) <= 200  # a little is left for what arrives late


async def test_our_part_of_the_fleets_requests() -> None:
    clock = FakeClock()
    pace = ProviderPace({"openai": PaceLimit(requests=1200)}, clock)
    pace.take_fleet(Fleet(((), (), (), ())))

    assert 45 <= await turns_within(pace, clock, 10) <= 50


async def test_a_rest_is_not_saved_up() -> None:
    clock = FakeClock()
    pace = ProviderPace({"openai": PaceLimit(requests=600)}, clock)
    clock.advance(timedelta(minutes=10))

    assert await turns_within(pace, clock, 1) <= 12


async def test_tokens_are_paid_afterwards_and_waited_for() -> None:
    clock = FakeClock()
    pace = ProviderPace({"openai": PaceLimit(tokens=6000)}, clock)

    await pace.turn("openai")
    pace.spent("openai", 500)

    assert pace.ready_in("openai") == pytest.approx(5)
    assert pace.room("openai") == 0
    clock.advance(timedelta(seconds=5.1))
    assert pace.ready_in("openai") == 0


async def test_until_the_others_have_heard_of_us_nothing_is_ours() -> None:
    clock = FakeClock()
    pace = ProviderPace({"openai": PaceLimit(requests=600)}, clock)

    pace.take_fleet(Fleet(((), ()), is_settled=False))

    assert pace.room("openai") == 0


async def test_no_more_is_claimed_than_has_its_turn_soon() -> None:
    clock = FakeClock()
    pace = ProviderPace({"openai": PaceLimit(requests=600)}, clock)

    assert pace.room("openai") == 10
    for _ in range(3):
        await pace.turn("openai")
        clock.advance(timedelta(milliseconds=105))
    assert pace.room("openai") in {9, 10}


async def test_who_has_no_limit_never_waits() -> None:
    pace = ProviderPace({"openai": PaceLimit()}, FakeClock())

    await asyncio.wait_for(pace.turn("openai"), 1)
    await asyncio.wait_for(pace.turn("unheard-of"), 1)

    assert pace.room("openai") is None
    assert pace.ready_in("openai") == 0
