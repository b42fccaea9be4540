"""Jobs against a real vendor over HTTP: retries, fallbacks, keys, time limits, closed lanes, postponement."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from support.gateway import RunningGateway, chat, provider
from support.processes import free_port
from support.scenes import ONE_AT_A_TIME, calls_of, cancel, gateway_on, held_up, own_provider, until
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

NOT_REPEATED: Final = {"max_retries": 0}


@pytest.fixture
async def vendor() -> AsyncIterator[MockVendor]:
    async with MockVendor.serve() as served:
        yield served


async def run(gateway: RunningGateway, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    """The rich view of a job that has ended."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    job = await gateway.accepted(body, named)
    await gateway.ended(job)
    return await gateway.details(job)


def in_short(view: dict[str, Any]) -> list[tuple[str | None, int | None, str | None]]:
    return [(call.get("key"), call.get("status_code"), call.get("error_code")) for call in calls_of(view)]


async def test_a_call_that_fails_twice_is_repeated_until_it_succeeds(
    tmp_path: Path, vendor: MockVendor
) -> None:
    vendor.set_script({"rules": [{"first": 1, "status": 503}, {"first": 1, "reset": "before_headers"}]})
    async with gateway_on(tmp_path, vendor) as gateway:
        view = await run(gateway, chat())

    assert view["status"] == "completed"
    assert in_short(view) == [
        ("main", 503, "upstream_server_error"),
        ("main", None, "upstream_connection_failed"),
        ("main", 200, None),
    ]
    assert view["attempts"][0]["end"] == "succeeded"


async def test_fallbacks_are_asked_in_order_until_one_answers(tmp_path: Path, vendor: MockVendor) -> None:
    vendor.set_script({"rules": [{"model": "a", "status": 404}, {"model": "b", "status": 400}]})
    own = {name: own_provider(vendor.url) for name in ("one", "two", "three", "four")}
    async with gateway_on(tmp_path, vendor, own) as gateway:
        view = await run(gateway, chat("one/a", fallbacks=["two/b", "one/a", "three/c", "four/d"]))

    assert view["result"]["extra_fields"]["provider"] == "three"
    assert view["candidates"] == ["one/a", "two/b", "one/a", "three/c", "four/d"]
    assert [(call["candidate"], call.get("provider"), call.get("error_code")) for call in calls_of(view)] == [
        (0, "one", "model_not_found"),
        (1, "two", "upstream_rejected"),
        (2, None, "duplicate_candidate"),
        (3, "three", None),
    ]


async def test_a_provider_that_cannot_be_reached_is_replaced(tmp_path: Path, vendor: MockVendor) -> None:
    own = {
        "down": own_provider(f"http://127.0.0.1:{free_port()}"),
        "up": own_provider(vendor.url),
    }
    async with gateway_on(tmp_path, vendor, own) as gateway:
        view = await run(gateway, chat("down/m", fallbacks=["up/m"]))

    assert view["result"]["extra_fields"]["provider"] == "up"


async def test_the_primarys_error_is_the_jobs(tmp_path: Path, vendor: MockVendor) -> None:
    vendor.set_script({"rules": [{"model": "a", "status": 503}, {"model": "b", "status": 501}]})
    own = {name: own_provider(vendor.url) for name in ("one", "two")}
    async with gateway_on(tmp_path, vendor, own) as gateway:
        view = await run(gateway, chat("one/a", fallbacks=["two/b"]))

    assert (view["status_code"], view["error"]["error"]["code"]) == (503, "upstream_server_error")
    assert view["error"]["extra_fields"]["provider"] == "one"
    assert [call["status_code"] for call in calls_of(view)] == [503, 503, 503, 501]


async def test_a_fallback_without_a_free_slot_is_not_waited_for(tmp_path: Path, vendor: MockVendor) -> None:
    vendor.set_script({"rules": [{"model": "hang", "hang": "before_headers"}, {"model": "a", "status": 503}]})
    own = {"one": own_provider(vendor.url), "two": own_provider(vendor.url, **ONE_AT_A_TIME)}
    async with gateway_on(tmp_path, vendor, own) as gateway:
        in_front = await held_up(gateway, vendor, "two/hang")

        view = await run(gateway, chat("one/a", fallbacks=["two/b"]), x_bf_async_max_attempts="1")

        assert calls_of(view)[-1] == {"candidate": 1, "error_code": "provider_busy"}
        await cancel(gateway, in_front)


async def test_refused_keys_are_replaced_at_once(tmp_path: Path, vendor: MockVendor) -> None:
    keys: list[dict[str, Any]] = [
        {"name": "bad-key-1", "value": "bad-key-1", "weight": 1000},
        {"name": "bad-key-2", "value": "bad-key-2", "weight": 1000},
        {"name": "good", "value": "sk-good"},
    ]
    async with gateway_on(tmp_path, vendor, {"openai": provider(vendor.url, keys=keys)}) as gateway:
        views = [await run(gateway, chat()) for _ in range(5)]

    assert {view["status"] for view in views} == {"completed"}
    assert all(in_short(view)[-1] == ("good", 200, None) for view in views)
    refused = [call for view in views for call in in_short(view)[:-1]]
    assert {call[1:] for call in refused} == {(401, "upstream_key_refused")}
    assert len(refused) > 5


async def test_a_limited_key_is_relieved_by_another(tmp_path: Path, vendor: MockVendor) -> None:
    vendor.set_script({"rules": [{"api_key": "sk-limited", "status": 429, "retry_after": 25}]})
    keys = [{"name": "limited", "value": "sk-limited", "weight": 1000}, {"name": "free", "value": "sk-free"}]
    async with gateway_on(tmp_path, vendor, {"openai": provider(vendor.url, keys=keys)}) as gateway:
        began = time.monotonic()
        views = [await run(gateway, chat()) for _ in range(5)]

    assert {view["status"] for view in views} == {"completed"}
    assert time.monotonic() - began < 10, "the wish of one key held back the other, or closed the lane"
    limited = [call for view in views for call in calls_of(view) if call.get("retry_after")]
    assert {(call["key"], call["retry_after"]) for call in limited} == {("limited", 25)}


async def test_a_retry_after_is_waited_for(tmp_path: Path, vendor: MockVendor) -> None:
    vendor.set_script({"rules": [{"first": 1, "status": 503, "retry_after": 1}]})
    async with gateway_on(tmp_path, vendor) as gateway:
        await run(gateway, chat())

    first, second = vendor.calls()
    assert second.at - first.at >= timedelta(seconds=0.95)


# Postponement


async def test_a_postponed_job_says_when_to_ask_again(tmp_path: Path, vendor: MockVendor) -> None:
    vendor.set_script({"rules": [{"status": 429, "retry_after": 45}]})
    async with gateway_on(tmp_path, vendor) as gateway:
        job = await gateway.accepted()
        await until(lambda: vendor.total == 1 and vendor.in_flight == 0)
        async with asyncio.timeout(5):
            while "next_run_at" not in (view := await gateway.details(job)):
                await asyncio.sleep(0.01)

        poll = await gateway.poll(job)

    assert (poll.status_code, poll.json()["status"]) == (202, "pending")
    assert 40 <= int(poll.headers["retry-after"]) <= 46
    waits = datetime.fromisoformat(view["next_run_at"]) - datetime.now(UTC)
    assert timedelta(seconds=40) < waits <= timedelta(seconds=45)
    assert view["queue"] == {"held_by": "retry"}
    assert (view["attempt"], view["attempts"][0]["end"]) == (1, "requeued")
    assert in_short(view) == [("main", 429, "upstream_rate_limited")]


async def test_a_very_long_wish_is_told_as_a_minute_at_most(tmp_path: Path, vendor: MockVendor) -> None:
    vendor.set_script({"rules": [{"status": 503, "retry_after": 1800}]})
    async with gateway_on(tmp_path, vendor) as gateway:
        job = await gateway.accepted()
        async with asyncio.timeout(5):
            while "next_run_at" not in await gateway.details(job):
                await asyncio.sleep(0.01)

        poll = await gateway.poll(job)

    assert poll.headers["retry-after"] == "60"


async def test_a_lane_the_provider_closed_opens_again_by_itself(tmp_path: Path, vendor: MockVendor) -> None:
    vendor.set_script({"rules": [{"first": 1, "status": 429, "retry_after": 1}]})
    async with gateway_on(
        tmp_path, vendor, {"openai": provider(vendor.url) | {"network_config": {"base_url": vendor.url}}}
    ) as gateway:
        first = await gateway.accepted()
        await until(lambda: vendor.total == 1)
        others = [await gateway.accepted() for _ in range(5)]
        for job in (first, *others):
            await gateway.ended(job)

    calls = vendor.calls()
    assert calls[1].at - calls[0].at >= timedelta(seconds=0.95)
    assert len(calls) == 7


# Time limits


@pytest.mark.parametrize(
    "rule",
    [{"hang": "before_headers"}, {"hang": "in_body"}, {"size": 100_000, "drip": 1000}],
    ids=["silence", "silence in the body", "drip"],
)
async def test_a_call_that_takes_too_long_is_closed(
    rule: dict[str, Any], tmp_path: Path, vendor: MockVendor
) -> None:
    vendor.set_script({"rules": [{"model": "slow", **rule}]})
    own = {
        "impatient": own_provider(vendor.url, {"default_request_timeout_in_seconds": 1, "max_retries": 0}),
        "openai": provider(vendor.url),
    }
    async with gateway_on(tmp_path, vendor, own) as gateway:
        view = await run(gateway, chat("impatient/slow", fallbacks=["openai/echo"]))
        await until(lambda: vendor.in_flight == 0)

    assert view["result"]["extra_fields"]["provider"] == "openai"
    first = calls_of(view)[0]
    assert (first["error_code"], first["billing"]) == ("upstream_timeout", "unknown")
    slow = vendor.calls()[0]
    assert slow.hung_up_at is not None
    assert timedelta(seconds=0.9) < slow.hung_up_at - slow.at < timedelta(seconds=2)
