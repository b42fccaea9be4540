"""Many jobs at once: a bad provider hurts only its own (P10), a noisy key nobody else (F14), a stop loses none (P7)."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import pytest

from support.fakes import SeededRng
from support.gateway import KEY, OTHER_KEY, RunningGateway, chat, provider
from support.scenes import PATIENCE, gateway_on, own_provider, until
from tidegate.domain.access import AllOwners, KeyId, owner_of_key
from tidegate.domain.ids import uuid7
from tidegate.domain.inference import RequestType
from tidegate.domain.jobs import JobDetails, JobId, JobRef, Lane, NewJob, Options
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

SLACK: Final = timedelta(milliseconds=20)
"""By how much a shared machine may be late."""


@pytest.fixture
async def vendor() -> AsyncIterator[MockVendor]:
    async with MockVendor.serve() as served:
        yield served


async def flood(gateway: RunningGateway, count: int, model: str) -> list[JobId]:
    """So many jobs of key ``a`` in the queue, past the HTTP surface to save time."""
    clock, store, rng = gateway.gateway.clock, gateway.gateway.store.jobs, SeededRng()
    body = msgspec.json.encode(chat(model))
    jobs = [
        NewJob(
            id=JobId(uuid7(clock.now(), rng.secret_bytes(10))),
            request_type=RequestType.CHAT_COMPLETION,
            owner=owner_of_key(KeyId("key-a")),
            actor=None,
            model=model,
            candidates=(model,),
            lane=Lane(model.split("/", maxsplit=1)[0]),
            weight=1.0,
            options=Options(),
            passes_extra_params=False,
            request_id="flood",
            created_at=clock.now(),
            body=body,
        )
        for _ in range(count)
    ]
    for start in range(0, count, 500):
        await asyncio.gather(*map(store.accept, jobs[start : start + 500]))
    return [job.id for job in jobs]


async def waits(gateway: RunningGateway, model: str, count: int, *, key: str) -> list[timedelta]:
    """From submit to end, by the store's clock, of so many jobs one after the other."""
    found = []
    for _ in range(count):
        envelope = await gateway.ended(await gateway.accepted(chat(model), key=key), key=key)
        submitted, completed = (
            datetime.fromisoformat(envelope[name]) for name in ("created_at", "completed_at")
        )
        found.append(completed - submitted)
    return found


def typical(values: Sequence[timedelta]) -> timedelta:
    return statistics.median_high(values)


async def test_a_thousand_jobs_of_a_hanging_provider_delay_nobody_else(
    tmp_path: Path, vendor: MockVendor
) -> None:
    vendor.set_script({"rules": [{"model": "hang", "hang": "before_headers"}]})
    narrow = {"concurrency_and_buffer_size": {"concurrency": 50}}
    own = {"hanging": own_provider(vendor.url, **narrow), "openai": provider(vendor.url)}
    async with gateway_on(tmp_path, vendor, own, server={"port": 0, "drain_timeout": 0}) as gateway:
        alone = await waits(gateway, "openai/echo", 25, key=KEY)

        await flood(gateway, 1000, "hanging/hang")
        await until(lambda: vendor.in_flight == 50)
        beside = await waits(gateway, "openai/echo", 25, key=KEY)

        assert typical(beside) <= 2 * typical(alone) + SLACK
        assert gateway.gateway.worker.running[Lane("hanging")] == 50


async def test_ten_thousand_jobs_of_one_key_do_not_hold_up_the_first_of_another(
    tmp_path: Path, vendor: MockVendor
) -> None:
    # Not all calls alike: in step they would free every place at the same moment.
    vendor.set_script({"default": {"latency": {"min": 0.04, "max": 0.06}}})
    own = {"openai": provider(vendor.url, concurrency_and_buffer_size={"concurrency": 8})}
    async with gateway_on(tmp_path, vendor, own, server={"port": 0, "drain_timeout": 0}) as gateway:
        alone = await waits(gateway, "openai/any", 21, key=OTHER_KEY)

        await flood(gateway, 10_000, "openai/any")
        await until(lambda: vendor.in_flight == 8)
        beside = await waits(gateway, "openai/any", 21, key=OTHER_KEY)

        counts = await gateway.gateway.store.jobs.counts()
        assert sum(counts.pending.values()) > 9000, "the backlog was gone before anybody could be held up"
        assert typical(beside) <= 2 * typical(alone)


async def test_a_stop_under_load_loses_nothing_and_repeats_nothing(
    tmp_path: Path, vendor: MockVendor
) -> None:
    vendor.set_script({"default": {"latency": {"min": 0.05, "max": 0.3}}})
    own = {"openai": provider(vendor.url, concurrency_and_buffer_size={"concurrency": 40})}
    async with gateway_on(tmp_path, vendor, own) as gateway:
        jobs = await flood(gateway, 300, "openai/any")
        await until(lambda: vendor.total >= 100)
        began = time.monotonic()

    assert time.monotonic() - began < 3
    assert vendor.in_flight == 0
    assert 100 <= vendor.total < 300
    vendor.set_script(None)
    async with gateway_on(tmp_path, vendor, own) as gateway:
        ended = await all_ended(gateway, jobs)

    assert vendor.total == 300
    assert Counter(job.state.status for job in ended) == {"completed": 300}
    assert {job.losses for job in ended} == {0}
    ends = Counter(attempt.end for job in ended for attempt in job.attempts)
    assert ends["succeeded"] == 300
    assert {*ends} <= {"succeeded", "released"}
    assert ends["released"] <= 40


async def test_a_stop_gives_back_what_does_not_finish_in_time(tmp_path: Path, vendor: MockVendor) -> None:
    vendor.set_script({"default": {"hang": "before_headers"}})
    async with gateway_on(tmp_path, vendor, server={"port": 0, "drain_timeout": 1}) as gateway:
        jobs = await flood(gateway, 20, "openai/any")
        await until(lambda: vendor.in_flight == 20)
        began = time.monotonic()

    assert 0.9 < time.monotonic() - began < 4
    await until(lambda: vendor.in_flight == 0)
    vendor.set_script(None)
    async with gateway_on(tmp_path, vendor) as gateway:
        ended = await all_ended(gateway, jobs)

    for job in ended:
        assert (job.state.status, job.losses, job.attempt) == ("completed", 0, 2)
        first, second = job.attempts
        assert (first.end, second.end) == ("released", "succeeded")
        assert [call.billing for call in first.calls] == ["unknown"]


async def all_ended(gateway: RunningGateway, jobs: Sequence[JobId]) -> list[JobDetails]:
    """What became of each, read past the HTTP surface to save time."""
    store = gateway.gateway.store.jobs
    found = []
    async with asyncio.timeout(PATIENCE):
        for job in jobs:
            while (details := await store.inspect(AllOwners(), JobRef(job))) is None or not (
                details.state.status.is_terminal
            ):
                await asyncio.sleep(0.01)
            found.append(details)
    return found
