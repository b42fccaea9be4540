"""Slots are handed out in order of asking, and their number may change meanwhile."""

import asyncio

import pytest

from tidegate.services.provider_slots import ProviderSlots

pytestmark = pytest.mark.anyio


async def started(slots: ProviderSlots, count: int) -> list["asyncio.Task[object]"]:
    tasks: list[asyncio.Task[object]] = [asyncio.create_task(slots.take("openai")) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def end(tasks: list["asyncio.Task[object]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_in_order_of_asking() -> None:
    slots = ProviderSlots({"openai": 2})
    first = await slots.take("openai")
    tasks = await started(slots, 3)

    assert [task.done() for task in tasks] == [True, False, False]
    first.release()
    first.release()
    await asyncio.sleep(0)

    assert [task.done() for task in tasks] == [True, True, False]
    await end(tasks)


async def test_more_room_wakes_those_who_wait_and_less_stops_nobody() -> None:
    slots = ProviderSlots({"openai": 1})
    tasks = await started(slots, 4)

    slots.resize("openai", 3)
    await asyncio.sleep(0)
    assert [task.done() for task in tasks] == [True, True, True, False]

    slots.resize("openai", 1)
    assert not slots.has_room("openai")
    await end(tasks)


async def test_whoever_gives_up_waiting_takes_no_slot_along() -> None:
    slots = ProviderSlots({"openai": 1})
    taken = await slots.take("openai")
    tasks = await started(slots, 2)
    tasks[0].cancel()
    await asyncio.sleep(0)
    taken.release()
    tasks[1].cancel()  # in the moment in which its turn has come
    await asyncio.gather(*tasks, return_exceptions=True)

    assert slots.has_room("openai")
