"""The poll (contract §4.4)."""

import asyncio
import math
import uuid

import httpx2
import pytest

from api.minting import admin_token
from api.refusals import assert_common_headers, assert_refused
from api.world import INACTIVE_KEY, bearer, cancel, until_processing
from support.gateway import CHAT, OTHER_KEY, RunningGateway, chat
from tidegate.domain.errors import StorageUnavailable

pytestmark = pytest.mark.anyio

VIEW = "/v1/async/jobs"


async def test_44_pending_and_processing_are_202_with_retry_after_and_etag(gateway: RunningGateway) -> None:
    first = await gateway.accepted(chat("narrow/held"))
    await until_processing(gateway, first)
    second = await gateway.accepted(chat("narrow/held"))

    processing, pending = await gateway.poll(first), await gateway.poll(second)
    await cancel(gateway, second)
    await cancel(gateway, first)

    for response, status in ((processing, "processing"), (pending, "pending")):
        assert response.status_code == 202
        assert response.json()["status"] == status
        assert 1 <= int(response.headers["retry-after"]) <= 5
        assert response.headers["etag"].startswith('"')
        assert response.headers["cache-control"] == "no-store"
        assert_common_headers(response)


@pytest.mark.parametrize("model", ["openai/echo", "moody/refused"], ids=["completed", "failed"])
async def test_44_an_ended_job_is_200_with_etag_and_without_retry_after(
    gateway: RunningGateway, model: str
) -> None:
    job_id = await gateway.accepted(chat(model))
    await gateway.ended(job_id)

    response = await gateway.poll(job_id)

    assert response.status_code == 200
    assert response.headers["etag"].startswith('"')
    assert "retry-after" not in response.headers
    assert response.headers["content-type"] == "application/json"
    assert_common_headers(response)


async def missing(gateway: RunningGateway) -> dict[str, str]:
    """Ids that lead nowhere, by the reason."""
    foreign = await gateway.accepted(key=OTHER_KEY)
    expired = await gateway.accepted(headers={"x-bf-async-job-result-ttl": "1"})
    await gateway.ended(expired)
    async with asyncio.timeout(20):
        while (await gateway.poll(expired)).status_code != 404:
            await asyncio.sleep(0.05)
    return {
        "unknown": str(uuid.uuid4()),
        "expired": expired,
        "foreign": foreign,
        "malformed": "no-such-id",
        "upper case": foreign.upper(),
        "nil": "00000000-0000-0000-0000-000000000000",
        "percent-encoded": "%6eo-such-id",
        "too long": "a" * 200,
    }


async def test_44_every_missing_job_gets_the_same_404(gateway: RunningGateway) -> None:
    answers: dict[str, httpx2.Response] = {
        reason: await gateway.poll(job_id, {"x-request-id": "same"})
        for reason, job_id in (await missing(gateway)).items()
    }

    for reason, response in answers.items():
        assert_refused(response, "job_not_found", "job not found or expired", extra={})
        assert response.content == answers["unknown"].content, reason
        assert "etag" not in response.headers


async def test_44_credentials_are_judged_before_any_look_up(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted()

    for target in (job_id, "no-such-id"):
        nobody = await gateway.client.get(f"{CHAT}/{target}")
        wrong = await gateway.poll(target, key="sk-bf-unknown")
        inactive = await gateway.poll(target, key=INACTIVE_KEY)

        assert_refused(nobody, "virtual_key_required")
        assert_refused(wrong, "virtual_key_not_found")
        assert_refused(inactive, "virtual_key_blocked")


async def test_44_a_store_that_does_not_answer_is_503_and_never_404(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: object, **kwargs: object) -> None:
        raise StorageUnavailable

    monkeypatch.setattr(gateway.gateway.store.jobs, "get", fail)

    response = await gateway.poll(str(uuid.uuid4()))

    assert_refused(response, "storage_unavailable")


async def test_44_the_etag_is_a_hash_of_the_body(gateway: RunningGateway) -> None:
    first, second = await gateway.accepted(), await gateway.accepted()
    await gateway.ended(first)
    await gateway.ended(second)

    once, again = await gateway.poll(first), await gateway.poll(first)
    other = await gateway.poll(second)

    assert once.headers["etag"] == again.headers["etag"] != other.headers["etag"]
    assert not once.headers["etag"].startswith("W/")


@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', "*", '"y" ,{}'])
async def test_44_a_matching_if_none_match_is_304(gateway: RunningGateway, form: str) -> None:
    job_id = await gateway.accepted()
    await gateway.ended(job_id)
    etag = (await gateway.poll(job_id)).headers["etag"]

    response = await gateway.poll(job_id, {"if-none-match": form.format(etag)})

    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["etag"] == etag
    assert "retry-after" not in response.headers
    # A length here would be that of the body left out.
    assert "content-length" not in response.headers
    assert_common_headers(response)


@pytest.mark.parametrize("tag", ['"something-else"', "without-quotes", ""])
async def test_44_another_etag_gets_the_body(gateway: RunningGateway, tag: str) -> None:
    job_id = await gateway.accepted()
    await gateway.ended(job_id)

    response = await gateway.poll(job_id, {"if-none-match": tag})

    assert response.status_code == 200
    assert response.json()["id"] == job_id


async def test_44_a_304_of_an_unfinished_job_says_when_to_ask_again(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted(chat("openai/held"))
    await until_processing(gateway, job_id)
    etag = (await gateway.poll(job_id)).headers["etag"]

    response = await gateway.poll(job_id, {"if-none-match": etag})

    assert response.status_code == 304
    assert response.headers["etag"] == etag
    assert int(response.headers["retry-after"]) >= 1


async def test_44_a_job_that_waits_says_until_when_at_most_a_minute(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted(chat("limiting/limited"))
    view = await gateway.details(job_id)
    while "next_run_at" not in view:
        view = await gateway.details(job_id)

    seconds = int((await gateway.poll(job_id)).headers["retry-after"])

    # The provider asked for 45 s, and the attempt's own pause is shorter.
    assert 40 <= seconds <= math.ceil(45)


async def test_44_a_poll_changes_nothing(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted()
    await gateway.ended(job_id)
    before = await gateway.details(job_id)

    for _ in range(5):
        await gateway.poll(job_id)

    assert await gateway.details(job_id) == before


async def test_44_an_unfinished_job_never_expires(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted(chat("openai/held"), {"x-bf-async-job-result-ttl": "1"})
    await until_processing(gateway, job_id)

    polled = await gateway.poll(job_id, {"prefer": "wait=2"})

    assert polled.status_code == 202
    assert "expires_at" not in polled.json()


async def test_44_an_admin_polls_every_job(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted()

    response = await gateway.client.get(f"{CHAT}/{job_id}", headers=bearer(admin_token()))

    assert response.json()["id"] == job_id


@pytest.mark.parametrize("query", ["x=1", "wait=1&x=1", "result=false"])
async def test_82_an_unknown_query_parameter_is_refused_on_a_poll(
    gateway: RunningGateway, query: str
) -> None:
    job_id = await gateway.accepted()

    response = await gateway.client.get(f"{CHAT}/{job_id}?{query}", headers=bearer())

    assert_refused(response, "invalid_query_parameter")
