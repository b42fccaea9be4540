"""How long a result stays readable (contract §4.6)."""

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from api.raw import exchange, request
from api.refusals import assert_refused
from api.world import MODEST_KEY, bearer, config_of
from support.gateway import CHAT, RunningGateway, chat, running
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

TTL = "x-bf-async-job-result-ttl"
DEFAULT = 3600
LONGEST = 30 * 24 * 3600


async def test_46_expiry_is_completion_plus_ttl(gateway: RunningGateway) -> None:
    envelope = await gateway.run(headers={TTL: "120"})

    lifetime = datetime.fromisoformat(envelope["expires_at"]) - datetime.fromisoformat(
        envelope["completed_at"]
    )
    assert lifetime == timedelta(seconds=120)


@pytest.mark.parametrize(
    ("value", "effective"),
    [
        pytest.param("1", 1, id="1"),
        pytest.param("+7200", 7200, id="with a plus"),
        pytest.param("0060", 60, id="leading zeros"),
        pytest.param("0", DEFAULT, id="zero"),
        pytest.param("+0", DEFAULT, id="zero with a plus"),
        pytest.param("-5", DEFAULT, id="negative"),
        pytest.param("1.5", DEFAULT, id="decimal"),
        pytest.param("1e3", DEFAULT, id="exponent"),
        pytest.param("an hour", DEFAULT, id="non-numeric"),
        pytest.param("", DEFAULT, id="empty"),
        pytest.param("++1", DEFAULT, id="two signs"),
        pytest.param("1 2", DEFAULT, id="two numbers"),
        pytest.param("60, 60", DEFAULT, id="a list"),
        pytest.param("\xb2", DEFAULT, id="foreign digits"),
        pytest.param(str(LONGEST), LONGEST, id="the maximum"),
        pytest.param(str(LONGEST + 1), LONGEST, id="above the maximum"),
        pytest.param("9" * 400, LONGEST, id="far above the maximum"),
    ],
)
async def test_46_what_the_header_means(gateway: RunningGateway, value: str, effective: int) -> None:
    response = await gateway.client.post(
        CHAT, json=chat(), headers=httpx2.Headers(bearer() | {TTL: value}, encoding="latin-1")
    )

    assert response.status_code == 202, response.text
    view = await gateway.details(response.json()["id"])
    assert view["options"]["result_ttl"] == effective


async def test_46_spaces_around_the_value_are_no_part_of_it(gateway: RunningGateway) -> None:
    body = json.dumps(chat()).encode()
    lines = [
        f"authorization: {bearer()['authorization']}",
        f"{TTL}: \t 60 \t",
        f"content-length: {len(body)}",
    ]

    response = await exchange(gateway.url, request(CHAT, *lines, method="POST", body=body))

    assert (await gateway.details(response.json()["id"]))["options"]["result_ttl"] == 60


async def test_46_a_repeated_header_means_the_default(gateway: RunningGateway) -> None:
    response = await gateway.client.post(
        CHAT, json=chat(), headers=[*bearer().items(), (TTL, "60"), (TTL, "60")]
    )

    assert response.status_code == 202
    assert (await gateway.details(response.json()["id"]))["options"]["result_ttl"] == DEFAULT


async def test_46_without_the_header_it_is_the_default(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted()

    assert (await gateway.details(job_id))["options"]["result_ttl"] == DEFAULT


async def test_46_default_and_maximum_are_the_operators(vendor: MockVendor, tmp_path: Path) -> None:
    config = config_of(tmp_path, vendor) | {
        "client": {"async_job_result_ttl": 30, "async_job_result_ttl_max": 90}
    }
    async with running(tmp_path, config) as gateway:
        plain = await gateway.details(await gateway.accepted())
        junk = await gateway.details(await gateway.accepted(headers={TTL: "junk"}))
        large = await gateway.details(await gateway.accepted(headers={TTL: "91"}))

    assert plain["options"]["result_ttl"] == junk["options"]["result_ttl"] == 30
    assert large["options"]["result_ttl"] == 90


@pytest.mark.parametrize(("asked", "effective"), [(None, 60), ("59", 59), ("61", 60)])
async def test_46_a_virtual_key_may_have_a_lower_maximum(
    gateway: RunningGateway, asked: str | None, effective: int
) -> None:
    job_id = await gateway.accepted(headers={TTL: asked} if asked else None, key=MODEST_KEY)

    view = await gateway.details(job_id, key=MODEST_KEY)

    assert view["options"]["result_ttl"] == effective


async def test_46_the_header_is_ignored_on_polls(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted()
    ended = await gateway.ended(job_id)

    response = await gateway.poll(job_id, {TTL: "5"})

    assert response.json() == ended


async def test_46_from_the_instant_of_expiry_every_route_says_404(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted(headers={TTL: "1"})
    expires_at = datetime.fromisoformat((await gateway.ended(job_id))["expires_at"])
    view = f"/v1/async/jobs/{job_id}"

    async with asyncio.timeout(20):
        while (polled := await gateway.poll(job_id)).status_code == 200:
            assert datetime.now(expires_at.tzinfo) < expires_at + timedelta(seconds=0.5)
            await asyncio.sleep(0.05)

    assert datetime.now(expires_at.tzinfo) >= expires_at
    assert_refused(polled, "job_not_found")
    assert_refused(await gateway.client.get(view, headers=bearer()), "job_not_found")
    assert_refused(await gateway.client.post(f"{view}/cancel", headers=bearer()), "job_not_found")
    listed = (await gateway.client.get("/v1/async/jobs?limit=200", headers=bearer())).json()["data"]
    assert job_id not in [entry["id"] for entry in listed]
