"""Rights are looked at again whenever they are used: at dispatch, and at every poll (security.md T5)."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import structs

from api.admin import KEYS, create, update
from api.minting import admin_token, key_token
from api.refusals import assert_refused
from api.world import bearer, cancel
from support.attempts import OK, a_provider, refusal
from support.gateway import CHAT, NO_TIME, RunningGateway, chat
from support.workshop import workshop
from tidegate.domain.access import KeyId
from tidegate.domain.retry import RetryPolicy
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

ADMIN: Final = bearer(admin_token())
# What happens to the key, what its holder gets from then on, and the error of a job that was not begun.
CHANGES: Final[Mapping[str, tuple[dict[str, Any] | None, str, str]]] = {
    "deleted": (None, "virtual_key_not_found", "virtual_key_not_found"),
    "inactive": ({"is_active": False}, "virtual_key_blocked", "virtual_key_blocked"),
    "expired": ({"expires_at": "2020-01-01T00:00:00Z"}, "virtual_key_expired", "virtual_key_expired"),
    "no providers": ({"provider_configs": []}, "", "provider_blocked"),
    "other models": (
        {"provider_configs": [{"provider": "narrow", "allowed_models": ["other"]}]},
        "",
        "model_blocked",
    ),
}
CHANGE = pytest.mark.parametrize("change", CHANGES)


async def take_away(gateway: RunningGateway, key_id: str, change: str) -> None:
    members, _, _ = CHANGES[change]
    if members is not None:
        assert (await update(gateway, key_id, members)).status_code == 200
        return
    assert (await gateway.client.delete(f"{KEYS}/{key_id}", headers=ADMIN)).status_code == 200


async def ended(gateway: RunningGateway, job: str) -> dict[str, Any]:
    return await gateway.ended(job, key=admin_token())


async def begun(gateway: RunningGateway, job: str) -> None:
    """The job has been claimed."""
    async with asyncio.timeout(NO_TIME):
        while (await gateway.poll(job, key=admin_token())).json()["status"] == "pending":
            await asyncio.sleep(0.005)


async def assert_holder(gateway: RunningGateway, made: Mapping[str, Any], job: str, code: str) -> None:
    """What the holder of the key gets by its secret and by a token for it, on every route of the job."""
    for credential in (made["value"], key_token(made["id"])):
        for path in (f"{CHAT}/{job}", f"/v1/async/jobs/{job}", "/v1/async/jobs"):
            response = await gateway.client.get(path, headers=bearer(credential))
            if code:
                assert_refused(response, code)
            else:
                assert response.status_code in {200, 202}


@CHANGE
async def test_a_job_that_waits_is_not_begun(
    gateway: RunningGateway, vendor: MockVendor, change: str
) -> None:
    """The provider is busy with somebody else's job until the rights have gone."""
    made = await create(gateway, name=f"waiting, {change}")
    in_front = await gateway.accepted(chat("narrow/held"))
    await begun(gateway, in_front)
    job = await gateway.accepted(chat("narrow/echo", f"of {change}"), key=made["value"])

    await take_away(gateway, made["id"], change)
    await assert_holder(gateway, made, job, CHANGES[change][1])
    await cancel(gateway, in_front)

    envelope = await ended(gateway, job)
    assert (envelope["status"], envelope["error"]["error"]["code"]) == ("failed", CHANGES[change][2])
    assert not [call for call in vendor.calls() if f"of {change}".encode() in (call.body or b"")]


@CHANGE
async def test_a_call_that_runs_finishes_and_its_holder_sees_nothing_of_it(
    gateway: RunningGateway, change: str
) -> None:
    made = await create(gateway, name=f"running, {change}")
    job = await gateway.accepted(chat("moody/late"), key=made["value"])
    await begun(gateway, job)

    await take_away(gateway, made["id"], change)

    assert (await ended(gateway, job))["status"] == "completed"
    await assert_holder(gateway, made, job, CHANGES[change][1])


@CHANGE
async def test_a_result_stays_visible_to_administrators(gateway: RunningGateway, change: str) -> None:
    made = await create(gateway, name=f"finished, {change}")
    job = await gateway.accepted(chat("moody/echo"), key=made["value"])
    before = await ended(gateway, job)

    await take_away(gateway, made["id"], change)

    await assert_holder(gateway, made, job, CHANGES[change][1])
    assert await ended(gateway, job) == before


async def test_the_next_attempt_of_the_same_job_looks_again(tmp_path: Path) -> None:
    """Between two attempts the key is switched off: no second call is made."""
    async with workshop(tmp_path, a_provider(retry=RetryPolicy(max_retries=0))) as shop:
        shop.vendors.will(refusal(503), OK)
        job = await shop.submit()
        await shop.until_told(1)
        key = await shop.store.keys.get(KeyId("alice"))
        assert key is not None
        await shop.store.keys.update(structs.replace(key, is_active=False))

        shop.later(minutes=10)
        await shop.until_status("failed", job)

        found = (await shop.details(job)).error_code
        assert (found, len(shop.vendors.sent)) == ("virtual_key_blocked", 1)


async def test_deleting_a_key_can_end_all_its_jobs_at_once(gateway: RunningGateway) -> None:
    made = await create(gateway, name="with its jobs")
    others = await gateway.accepted(chat("moody/held"))
    in_front = await gateway.accepted(chat("narrow/held"))
    await begun(gateway, in_front)
    jobs = [await gateway.accepted(chat(f"{lane}/held"), key=made["value"]) for lane in ("moody", "narrow")]
    await begun(gateway, jobs[0])

    deleted = await gateway.client.delete(f"{KEYS}/{made['id']}?cancel_jobs=true", headers=ADMIN)

    assert deleted.status_code == 200
    for job in jobs:
        polled = await gateway.poll(job, key=admin_token())
        assert (polled.status_code, polled.json()["status_code"]) == (200, 499)
    for other in (others, in_front):
        assert (await gateway.poll(other)).status_code == 202
        await cancel(gateway, other)
