"""Cancel stops the spend (P16, F37): in each phase the vendor's connection is closed within a second."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from support.fakes import SeededRng
from support.gateway import KEY, RunningGateway, chat, provider
from support.scenes import ONE_AT_A_TIME, PATIENCE, calls_of, cancel, gateway_on, held_up, until
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

SOON: Final = timedelta(seconds=1)
AUTHORIZATION: Final = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
async def vendor() -> AsyncIterator[MockVendor]:
    async with MockVendor.serve() as served:
        yield served


async def with_calls(gateway: RunningGateway, job: str) -> dict[str, Any]:
    """The rich view once the worker has booked what it did."""
    async with asyncio.timeout(PATIENCE):
        while not calls_of(view := await gateway.details(job)):
            await asyncio.sleep(0.005)
    return view


PHASES: Final[dict[str, dict[str, Any]]] = {
    "before headers": {"hang": "before_headers"},
    "in body": {"hang": "in_body"},
    "while the body drips": {"size": 1_000_000, "drip": 2000},
}


@pytest.mark.parametrize("rule", PHASES.values(), ids=PHASES)
async def test_a_running_call_is_closed(rule: dict[str, Any], tmp_path: Path, vendor: MockVendor) -> None:
    vendor.set_script({"rules": [{"model": "slow", "latency": 0.05, **rule}]})
    limits = {"max_retries": 0, "base_url": vendor.url}
    async with gateway_on(
        tmp_path, vendor, {"openai": provider(vendor.url, network_config=limits)}
    ) as gateway:
        job = await held_up(gateway, vendor, "openai/slow")
        await asyncio.sleep(0.1)

        view = await cancel(gateway, job)
        cancelled_at = datetime.now(UTC)

        assert (view["status"], view["status_code"], view["outcome"]) == ("failed", 499, "cancelled")
        await until(lambda: vendor.in_flight == 0)
        (call,) = vendor.calls()
        assert call.hung_up_at is not None
        assert call.hung_up_at - cancelled_at < SOON
        view = await with_calls(gateway, job)
        assert [call["billing"] for call in calls_of(view)] == ["unknown"]
        assert view["attempts"][0]["end"] == "cancelled"
        assert (await gateway.poll(job)).json()["status_code"] == 499


async def test_a_queued_job_never_reaches_the_vendor(tmp_path: Path, vendor: MockVendor) -> None:
    vendor.set_script({"rules": [{"model": "hang", "hang": "before_headers"}]})
    async with gateway_on(tmp_path, vendor, {"openai": provider(vendor.url, **ONE_AT_A_TIME)}) as gateway:
        in_front = await held_up(gateway, vendor)
        queued = await gateway.accepted(chat("openai/queued"))

        await cancel(gateway, queued)
        await cancel(gateway, in_front)
        await gateway.run(chat("openai/last"))

        assert [call.model for call in vendor.calls()] == ["hang", "last"]
        assert (await gateway.details(queued))["attempts"] == []


async def test_a_pause_before_a_retry_is_its_last(tmp_path: Path, vendor: MockVendor) -> None:
    vendor.set_script({"rules": [{"model": "busy", "status": 503, "retry_after": 1}]})
    async with gateway_on(tmp_path, vendor) as gateway:
        job = await gateway.accepted(chat("openai/busy"))
        await until(lambda: vendor.total == 1 and vendor.in_flight == 0)

        await cancel(gateway, job)
        view = await with_calls(gateway, job)
        await asyncio.sleep(1.3)

        assert vendor.total == 1
        assert [call["error_code"] for call in calls_of(view)] == ["upstream_server_error"]


async def test_a_cancelled_call_makes_room_at_once(tmp_path: Path, vendor: MockVendor) -> None:
    vendor.set_script({"rules": [{"model": "hang", "hang": "before_headers"}]})
    async with gateway_on(tmp_path, vendor, {"openai": provider(vendor.url, **ONE_AT_A_TIME)}) as gateway:
        in_front = await held_up(gateway, vendor)
        queued = await gateway.accepted()

        await cancel(gateway, in_front)
        began = asyncio.get_running_loop().time()
        await gateway.ended(queued)

        assert asyncio.get_running_loop().time() - began < SOON.total_seconds()


async def test_a_job_that_has_ended_cannot_be_cancelled(tmp_path: Path, vendor: MockVendor) -> None:
    async with gateway_on(tmp_path, vendor) as gateway:
        job = (await gateway.run())["id"]

        answer = await gateway.client.post(f"/v1/async/jobs/{job}/cancel", headers=AUTHORIZATION)

        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_not_cancellable")
        assert (await gateway.poll(job)).json()["status"] == "completed"


async def test_cancelling_while_results_arrive_makes_one_end_of_each_job(
    tmp_path: Path, vendor: MockVendor
) -> None:
    vendor.set_script({"rules": [{"model": "brief", "latency": {"min": 0.0, "max": 0.3}}]})
    async with gateway_on(tmp_path, vendor) as gateway:
        chance = SeededRng().chance

        async def race() -> tuple[int, int]:
            job = await gateway.accepted(chat("openai/brief"))
            await asyncio.sleep(1.2 * chance())
            answer = await gateway.client.post(f"/v1/async/jobs/{job}/cancel", headers=AUTHORIZATION)
            return answer.status_code, (await gateway.ended(job))["status_code"]

        ends = Counter(await asyncio.gather(*[race() for _ in range(60)]))

        assert {*ends} == {(200, 499), (409, 200)}, "cancelled or completed, and the answer says which"
        await until(lambda: vendor.in_flight == 0)
        assert len([call for call in vendor.calls() if call.hung_up]) <= ends[200, 499]
