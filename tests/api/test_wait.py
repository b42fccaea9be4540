"""``Prefer: wait`` (contract §4.5)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from api.refusals import assert_refused
from api.world import bearer, cancel, config_of, until_processing
from support.gateway import CHAT, RunningGateway, chat, running
from tidegate.mock_vendor import MockVendor
from tidegate.services import read_job

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def held(gateway: RunningGateway) -> AsyncIterator[str]:
    """A job that runs until the end of the block."""
    job_id = await gateway.accepted(chat("openai/held"))
    try:
        yield job_id
    finally:
        await cancel(gateway, job_id)


async def ask(gateway: RunningGateway, path: str, prefer: str | None = None) -> httpx2.Response:
    headers = bearer() | ({"prefer": prefer} if prefer is not None else {})
    return await gateway.client.get(path, headers=headers)


async def test_45_a_submit_that_ends_in_time_is_200_with_the_end(gateway: RunningGateway) -> None:
    response = await gateway.submit(headers={"prefer": "wait=20"})

    assert response.status_code == 200
    assert response.json()["status"] == "completed"
    assert response.headers["preference-applied"] == "wait=20"
    assert response.headers["location"] == f"{CHAT}/{response.json()['id']}"
    assert "retry-after" not in response.headers


async def test_45_a_submit_whose_job_fails_in_time_is_200_too(gateway: RunningGateway) -> None:
    response = await gateway.submit(chat("moody/refused"), {"prefer": "wait=20"})

    assert response.status_code == 200
    assert response.json()["status"] == "failed"


async def test_45_a_submit_whose_job_takes_longer_is_202(gateway: RunningGateway) -> None:
    response = await gateway.submit(chat("openai/held"), {"prefer": "wait=1"})
    await cancel(gateway, response.json()["id"])

    assert response.status_code == 202
    assert response.json()["status"] == "processing"
    assert response.headers["preference-applied"] == "wait=1"
    assert int(response.headers["retry-after"]) >= 1


async def test_45_without_the_preference_a_submit_says_pending(gateway: RunningGateway) -> None:
    response = await gateway.submit()

    assert (response.status_code, response.json()["status"]) == (202, "pending")
    assert "preference-applied" not in response.headers


async def test_45_a_held_poll_is_answered_when_the_job_ends(gateway: RunningGateway) -> None:
    async with held(gateway) as job_id:
        waiting = asyncio.create_task(gateway.poll(job_id, {"prefer": "wait=30"}))
        await until_processing(gateway, job_id)

        await cancel(gateway, job_id)
        response = await waiting

    assert response.status_code == 200
    assert response.json()["status_code"] == 499
    assert response.headers["preference-applied"] == "wait=30"


@pytest.mark.parametrize("path", [f"{CHAT}/{{}}", "/v1/async/jobs/{}"], ids=["poll", "rich view"])
@pytest.mark.parametrize(
    ("query", "prefer", "applied"),
    [
        pytest.param("", "wait=0", "wait=0", id="wait=0 answers at once"),
        pytest.param("?wait=0", None, "wait=0", id="the query is an alias"),
        pytest.param("?wait=50", "wait=0", "wait=0", id="the header wins"),
        pytest.param("?wait=junk", "wait=0", "wait=0", id="the header wins over an unreadable query"),
        pytest.param("", "respond-async, wait=0", "wait=0", id="among others"),
        pytest.param("", 'WAIT = "0"; x=y', "wait=0", id="any way RFC 7240 writes it"),
        pytest.param("?wait=0", "wait=soon", "wait=0", id="an unreadable header leaves the query"),
    ],
)
async def test_45_where_the_preference_is_read(
    gateway: RunningGateway, path: str, query: str, prefer: str | None, applied: str
) -> None:
    async with held(gateway) as job_id:
        response = await ask(gateway, path.format(job_id) + query, prefer)

    assert response.headers["preference-applied"] == applied
    assert response.json()["status"] in {"pending", "processing"}


@pytest.mark.parametrize("prefer", ["wait", "wait=", "wait=-1", "wait=1.5", "wait=x", "waiting=5", "", "=5"])
async def test_45_an_unreadable_prefer_is_ignored(gateway: RunningGateway, prefer: str) -> None:
    async with held(gateway) as job_id:
        polled = await gateway.poll(job_id, {"prefer": prefer})
    submitted = await gateway.submit(headers={"prefer": prefer})

    for response in (polled, submitted):
        assert response.status_code == 202
        assert "preference-applied" not in response.headers


@pytest.mark.parametrize("value", ["x", "", "-1", "1.5", "1&wait=2", "%31%20"])
async def test_45_an_unreadable_wait_in_the_query_is_refused(gateway: RunningGateway, value: str) -> None:
    job_id = await gateway.accepted()

    polled = await ask(gateway, f"{CHAT}/{job_id}?wait={value}")
    submitted = await gateway.client.post(f"{CHAT}?wait={value}", json=chat(), headers=bearer())

    for response in (polled, submitted):
        assert_refused(response, "invalid_query_parameter", param="wait")


@pytest.mark.parametrize("asked", ["61", "3600", "9" * 30])
async def test_45_more_than_a_minute_is_a_minute(gateway: RunningGateway, asked: str) -> None:
    by_header = await gateway.submit(headers={"prefer": f"wait={asked}"})
    by_query = await gateway.client.post(f"{CHAT}?wait={asked}", json=chat(), headers=bearer())

    for response in (by_header, by_query):
        assert response.status_code == 200
        assert response.headers["preference-applied"] == "wait=60"


async def test_45_if_none_match_is_judged_by_the_final_answer(gateway: RunningGateway) -> None:
    async with held(gateway) as job_id:
        await until_processing(gateway, job_id)
        etag = (await gateway.poll(job_id)).headers["etag"]
        unchanged = await gateway.poll(job_id, {"prefer": "wait=1", "if-none-match": etag})
        waiting = asyncio.create_task(gateway.poll(job_id, {"prefer": "wait=30", "if-none-match": etag}))
        await cancel(gateway, job_id)
        changed = await waiting

    assert unchanged.status_code == 304
    assert unchanged.headers["preference-applied"] == "wait=1"
    assert changed.status_code == 200


async def test_45_hanging_up_does_not_affect_the_job(gateway: RunningGateway) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        await gateway.client.post(
            CHAT,
            json=chat("openai/late", metadata={"tag": "hung up"}),
            headers=bearer() | {"prefer": "wait=30", "idempotency-key": "hung-up"},
            timeout=0.15,
        )

    # The repeat finds the job of the first submit.
    again = await gateway.submit(
        chat("openai/late", metadata={"tag": "hung up"}), {"idempotency-key": "hung-up", "prefer": "wait=20"}
    )

    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["status"] == "completed"


async def test_45_a_replay_under_the_preference_waits_too(gateway: RunningGateway) -> None:
    options = {"idempotency-key": "wait-replay"}
    first = await gateway.submit(headers=options)
    await gateway.ended(first.json()["id"])

    plain = await gateway.submit(headers=options)
    waited = await gateway.submit(headers=options | {"prefer": "wait=5"})

    assert (plain.status_code, plain.json()["status"]) == (202, "completed")
    assert (waited.status_code, waited.json()) == (200, plain.json())


async def test_45_with_too_many_open_waits_the_answer_comes_at_once(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_job, "MOST_OPEN_WAITS", 0)

    async with held(gateway) as job_id:
        polled = await gateway.poll(job_id, {"prefer": "wait=30"})
        viewed = await ask(gateway, f"/v1/async/jobs/{job_id}", "wait=30")
    submitted = await gateway.submit(headers={"prefer": "wait=30"})

    for response in (polled, viewed, submitted):
        assert "preference-applied" not in response.headers
        assert response.json()["status"] in {"pending", "processing"}


async def test_45_a_process_that_goes_down_answers_at_once(vendor: MockVendor, tmp_path: Path) -> None:
    async with running(tmp_path, config_of(tmp_path, vendor)) as gateway:
        job_id = await gateway.accepted(chat("openai/held"))
        await until_processing(gateway, job_id)
        waiting = asyncio.create_task(gateway.poll(job_id, {"prefer": "wait=60"}))
        submitting = asyncio.create_task(gateway.submit(chat("openai/held"), {"prefer": "wait=60"}))
        async with asyncio.timeout(10):
            while read_waits(gateway) < 2:
                await asyncio.sleep(0.01)

        gateway.gateway.drain.turn_on()
        gateway.sqlite.wake_ups.release_everybody()
        answers = await asyncio.wait_for(asyncio.gather(waiting, submitting), 5)

    for response in answers:
        assert response.status_code == 202
        assert response.json()["status"] in {"pending", "processing"}


def read_waits(gateway: RunningGateway) -> int:
    """How many answers are held: what the wake-ups know of."""
    watches = gateway.sqlite.wake_ups._watches.values()
    return sum(len(found) for found in watches)
