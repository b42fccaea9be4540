"""The job envelope of the seed routes (contract §4.1) and the states it goes through (§4.3)."""

import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from api.world import cancel, until_processing
from support.gateway import CHAT, RunningGateway, chat

pytestmark = pytest.mark.anyio

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIMES = ("created_at", "completed_at", "expires_at")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_41_an_unfinished_job_has_three_members(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted(chat("openai/held"))

    submitted = (await gateway.submit(chat("openai/held"))).json()
    await until_processing(gateway, job_id)
    running = (await gateway.poll(job_id)).json()

    assert list(submitted) == list(running) == ["id", "status", "created_at"]
    assert submitted["status"] == "pending"
    assert running["status"] == "processing"


async def test_41_a_completed_job_has_its_members_in_the_order_of_the_seed(gateway: RunningGateway) -> None:
    envelope = await gateway.run()

    assert list(envelope) == [
        "id", "status", "expires_at", "created_at", "completed_at", "status_code", "result",
    ]  # fmt: skip
    assert (envelope["status"], envelope["status_code"]) == ("completed", 200)


async def test_41_a_failed_job_has_an_error_and_no_result(gateway: RunningGateway) -> None:
    envelope = await gateway.run(chat("moody/refused"))

    assert list(envelope) == [
        "id", "status", "expires_at", "created_at", "completed_at", "status_code", "error",
    ]  # fmt: skip
    assert envelope["status"] == "failed"
    assert envelope["status_code"] == envelope["error"]["status_code"] == 400


async def test_41_the_id_is_a_uuid7_of_the_time_of_the_submit(gateway: RunningGateway) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    envelope = (await gateway.submit()).json()
    after = datetime.now(UTC)

    job_id = uuid.UUID(envelope["id"])

    assert UUID7.fullmatch(envelope["id"])
    created = datetime.fromtimestamp((job_id.int >> 80) / 1000, UTC)
    assert before <= created <= after
    assert created == moment(envelope["created_at"])


async def test_41_ids_share_nothing_but_their_time(gateway: RunningGateway) -> None:
    """A counter in the random bits would let one id lead to the next."""
    random_bits = [uuid.UUID(await gateway.accepted()).int & ((1 << 62) - 1) for _ in range(20)]

    distances = {abs(one - other) for one in random_bits for other in random_bits if one is not other}

    assert len(set(random_bits)) == 20
    assert min(distances) > 1 << 32


async def test_41_timestamps_have_three_digits_and_do_not_change(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted()
    first = await gateway.ended(job_id)

    again = (await gateway.poll(job_id)).json()
    view = await gateway.details(job_id)

    assert again == first
    for name in TIMES:
        assert TIMESTAMP.fullmatch(first[name])
        assert view[name] == first[name]
    assert moment(first["created_at"]) <= moment(first["completed_at"]) <= moment(first["expires_at"])


async def test_41_text_is_not_escaped_for_html(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted(chat(text="<b> & é"))
    await gateway.ended(job_id)

    body = (await gateway.poll(job_id)).text

    assert '"<b> & é"' in body


async def test_42_the_event_id_of_a_job_error_is_the_request_id_of_the_submit(
    gateway: RunningGateway,
) -> None:
    job_id = await gateway.accepted(chat("moody/refused"), {"x-request-id": "my-submit.1"})

    polls = [await gateway.ended(job_id) for _ in range(2)]

    for envelope in polls:
        assert envelope["error"]["event_id"] == envelope["error"]["error"]["event_id"] == "my-submit.1"


async def test_42_the_error_of_a_job_names_provider_model_and_type(gateway: RunningGateway) -> None:
    error = (await gateway.run(chat("moody/refused")))["error"]

    assert error["type"] == error["error"]["code"] == "upstream_rejected"
    assert error["error"]["type"] == "invalid_request_error"
    assert error["error"]["message"] == "provider moody: no such thing"
    assert error["extra_fields"] == {
        "provider": "moody", "model_requested": "moody/refused", "request_type": "chat_completion",
    }  # fmt: skip


async def test_42_a_cancelled_job_looks_like_the_example(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted(chat("openai/held"), {"x-request-id": "submit-2"})
    await cancel(gateway, job_id)

    envelope = await gateway.ended(job_id)

    assert (envelope["status"], envelope["status_code"]) == ("failed", 499)
    assert envelope["error"] == {
        "event_id": "submit-2",
        "type": "request_cancelled",
        "is_bifrost_error": True,
        "status_code": 499,
        "error": {
            "event_id": "submit-2",
            "type": "cancelled_error",
            "code": "request_cancelled",
            "message": "job was cancelled",
        },
        "extra_fields": {"model_requested": "openai/held", "request_type": "chat_completion"},
    }


async def test_43_a_job_is_pending_until_its_lane_has_room(gateway: RunningGateway) -> None:
    first = await gateway.accepted(chat("narrow/held"))
    await until_processing(gateway, first)
    second = await gateway.accepted(chat("narrow/echo"))

    waiting = (await gateway.poll(second)).json()["status"]
    await cancel(gateway, first)
    ended = await gateway.ended(second)

    assert waiting == "pending"
    assert ended["status"] == "completed"


async def test_43_a_job_that_is_tried_again_is_pending_in_between(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted(chat("limiting/limited"))

    view = await gateway.details(job_id)
    while not view["attempts"] or view["status"] == "processing":
        view = await gateway.details(job_id)

    assert view["status"] == "pending"
    assert view["attempts"][0]["end"] == "requeued"
    assert view["queue"] == {"held_by": "retry"}
    assert list((await gateway.poll(job_id)).json()) == ["id", "status", "created_at"]


@pytest.mark.parametrize("model", ["openai/echo", "moody/refused", "openai/held"])
async def test_43_an_ended_job_stays_as_it_is(gateway: RunningGateway, model: str) -> None:
    job_id = await gateway.accepted(chat(model))
    if model == "openai/held":
        await cancel(gateway, job_id)
    ended = await gateway.ended(job_id)

    await cancel(gateway, job_id)

    assert (await gateway.poll(job_id)).json() == ended


async def test_43_a_job_past_its_deadline_fails_without_ever_having_been_called(
    gateway: RunningGateway,
) -> None:
    blocker = await gateway.accepted(chat("narrow/held"), {"x-bf-async-timeout": "5"})
    await until_processing(gateway, blocker)
    job_id = await gateway.accepted(chat("narrow/echo"), {"x-bf-async-timeout": "1"})

    ended = await gateway.ended(job_id)

    assert (ended["status_code"], ended["error"]["type"]) == (504, "queue_timeout")
    assert (await gateway.details(job_id))["attempts"] == []


async def test_43_the_location_of_the_submit_is_the_poll(gateway: RunningGateway) -> None:
    response = await gateway.submit()

    assert response.headers["location"] == f"{CHAT}/{response.json()['id']}"
