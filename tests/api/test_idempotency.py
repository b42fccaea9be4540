"""``Idempotency-Key`` (contract §10): the same submit twice is one job."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.minting import admin_token, claims, key_token, signed
from api.refusals import assert_refused
from api.world import bearer, config_of
from support.gateway import CHAT, KEY, OTHER_KEY, RunningGateway, chat, running
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

REPLAYED = "idempotent-replayed"


def key(value: str) -> dict[str, str]:
    return {"idempotency-key": value}


async def test_10_a_repeat_gets_the_same_job(gateway: RunningGateway, vendor: MockVendor) -> None:
    first = await gateway.submit(headers=key("repeat"))
    await gateway.ended(first.json()["id"])
    calls = vendor.total

    second = await gateway.submit(headers=key("repeat"))

    assert REPLAYED not in first.headers
    assert second.status_code == 202
    assert second.headers[REPLAYED] == "true"
    assert second.headers["location"] == first.headers["location"]
    assert second.json()["id"] == first.json()["id"]
    assert second.json()["status"] == "completed"
    assert vendor.total == calls


async def test_10_concurrent_duplicates_make_one_job(gateway: RunningGateway, vendor: MockVendor) -> None:
    vendor.clear_calls()

    answers = await asyncio.gather(*(gateway.submit(headers=key("at-once")) for _ in range(20)))
    await gateway.ended(answers[0].json()["id"])

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    assert vendor.total == 1


async def test_10_concurrent_different_requests_make_one_job_and_refusals(gateway: RunningGateway) -> None:
    answers = await asyncio.gather(
        *(gateway.submit(chat(text=str(number)), key("contested")) for number in range(10))
    )

    accepted = [answer for answer in answers if answer.status_code == 202]
    assert len(accepted) == 1
    for answer in answers:
        if answer not in accepted:
            assert_refused(answer, "idempotency_key_reused")


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "user", "content": "other"}]},
        {"temperature": 1},
        {"mystery": 1},
        {"model": "openai/other"},
    ],
    ids=str,
)
async def test_10_another_body_is_refused(gateway: RunningGateway, change: dict[str, Any]) -> None:
    await gateway.accepted(headers=key("body"))

    response = await gateway.submit(chat() | change, key("body"))

    assert_refused(response, "idempotency_key_reused", param="Idempotency-Key")


async def test_10_the_fingerprint_is_of_bytes(gateway: RunningGateway) -> None:
    """Even a space more is another request: only bytes can be compared before validation."""
    body = json.dumps(chat()).encode()
    headers = bearer() | key("bytes")
    await gateway.client.post(CHAT, content=body, headers=headers)

    response = await gateway.client.post(CHAT, content=body + b" ", headers=headers)

    assert_refused(response, "idempotency_key_reused")


async def test_10_it_is_of_the_decompressed_body(gateway: RunningGateway) -> None:
    body = json.dumps(chat()).encode()
    headers = bearer() | key("compressed")
    plain = await gateway.client.post(CHAT, content=body, headers=headers)

    packed = await gateway.client.post(
        CHAT, content=gzip.compress(body), headers=headers | {"content-encoding": "gzip"}
    )

    assert packed.json()["id"] == plain.json()["id"]


async def test_10_option_headers_are_no_part_of_it_and_the_first_hold(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted(headers=key("options") | {"x-bf-async-priority": "2"})

    again = await gateway.submit(
        headers=key("options") | {"x-bf-async-priority": "5", "x-bf-async-job-result-ttl": "60"}
    )
    view = await gateway.details(job_id)

    assert again.json()["id"] == job_id
    assert (view["options"]["priority"], view["options"]["result_ttl"]) == (2, 3600)


async def test_10_the_scope_is_the_key(gateway: RunningGateway) -> None:
    mine = await gateway.accepted(headers=key("scope"))

    by_token = await gateway.accepted(headers=key("scope"), key=key_token("key-a"))
    of_another = await gateway.accepted(headers=key("scope"), key=OTHER_KEY)

    assert by_token == mine
    assert of_another != mine


async def test_10_the_scope_of_an_admin_is_issuer_and_subject(gateway: RunningGateway) -> None:
    local = gateway.gateway.local_key
    assert local is not None
    same_subject = signed(claims(iss="tidegate-local", sub="one", role="admin"), secret=local.reveal())

    one = await gateway.accepted(headers=key("admins"), key=admin_token("one"))
    again = await gateway.accepted(headers=key("admins"), key=admin_token("one", jti="2"))
    two = await gateway.accepted(headers=key("admins"), key=admin_token("two"))
    elsewhere = await gateway.accepted(headers=key("admins"), key=same_subject)

    assert one == again
    assert len({one, two, elsewhere}) == 3


async def test_10_anonymous_callers_share_one_scope(open_gateway: RunningGateway) -> None:
    first, second = [
        (await open_gateway.client.post(CHAT, json=chat(), headers=key("shared"))).json()["id"]
        for _ in range(2)
    ]
    of_key = await open_gateway.accepted(headers=key("shared"))

    assert first == second != of_key


@pytest.mark.parametrize("quoted", ['"q"', "q"])
async def test_10_quotes_are_no_part_of_the_key(gateway: RunningGateway, quoted: str) -> None:
    assert await gateway.accepted(headers=key(quoted)) == await gateway.accepted(headers=key("q"))


@pytest.mark.parametrize(
    "value",
    ["", '""', "a b", "tab\tbed", "\xe9", "x" * 256, '"' + "x" * 256 + '"'],
    ids=["empty", "empty in quotes", "space", "tab", "not ASCII", "too long", "too long in quotes"],
)
async def test_10_a_malformed_key_is_refused(gateway: RunningGateway, value: str) -> None:
    headers = httpx2.Headers(bearer() | key(value), encoding="latin-1")

    response = await gateway.client.post(CHAT, json=chat(), headers=headers)

    assert_refused(
        response,
        "invalid_header",
        "invalid Idempotency-Key: expected 1 to 255 visible ASCII characters, sent once",
        param="Idempotency-Key",
    )


async def test_10_a_repeated_key_is_refused(gateway: RunningGateway) -> None:
    headers = [*bearer().items(), *key("k").items(), *key("k").items()]

    response = await gateway.client.post(CHAT, json=chat(), headers=headers)

    assert_refused(response, "invalid_header", param="Idempotency-Key")


@pytest.mark.parametrize(
    "value", ["x" * 255, '"' + "y" * 255 + '"', "!~", "'; DROP TABLE jobs;--".replace(" ", "_")]
)
async def test_10_any_visible_ascii_is_a_key(gateway: RunningGateway, value: str) -> None:
    assert await gateway.accepted(headers=key(value)) == await gateway.accepted(headers=key(value))


async def test_10_a_refused_submit_uses_up_no_key(gateway: RunningGateway) -> None:
    assert_refused(await gateway.submit(chat(temperature=9), key("unused")), "out_of_range")

    assert (await gateway.submit(headers=key("unused"))).status_code == 202


async def test_10_the_job_of_an_expired_key_is_not_run_again(
    gateway: RunningGateway, vendor: MockVendor
) -> None:
    options = key("expired") | {"x-bf-async-job-result-ttl": "1"}
    job_id = await gateway.accepted(headers=options)
    await gateway.ended(job_id)
    async with asyncio.timeout(20):
        while (await gateway.poll(job_id)).status_code == 200:
            await asyncio.sleep(0.05)
    calls = vendor.total

    response = await gateway.submit(headers=options)

    assert_refused(response, "idempotent_job_gone", param="Idempotency-Key")
    assert vendor.total == calls


async def test_10_a_replay_is_answered_after_the_configuration_has_changed(
    vendor: MockVendor, tmp_path: Path
) -> None:
    """The provider is gone, the key may use nothing, a header is demanded: what was accepted is accepted."""
    config = config_of(tmp_path, vendor)
    async with running(tmp_path, config) as gateway:
        job_id = await gateway.accepted(headers=key("kept"))
        await gateway.ended(job_id)
    del config["providers"]["openai"]
    config["governance"]["virtual_keys"][0]["provider_configs"] = []
    config["client"] = {"required_headers": ["x-team"]}
    config["governance"]["virtual_keys"] = config["governance"]["virtual_keys"][:1]

    async with running(tmp_path, config) as gateway:
        replay = await gateway.submit(headers=key("kept"))
        fresh = await gateway.submit(headers=key("fresh"))

    assert replay.status_code == 202
    assert replay.json()["id"] == job_id
    assert replay.json()["status"] == "completed"
    assert_refused(fresh, "provider_not_configured")


async def test_10_a_replay_needs_a_credential_all_the_same(gateway: RunningGateway) -> None:
    await gateway.accepted(headers=key("guarded"))

    response = await gateway.client.post(CHAT, json=chat(), headers=key("guarded"))

    assert_refused(response, "virtual_key_required")


async def test_10_the_key_itself_is_not_kept(gateway: RunningGateway, tmp_path_factory: Any) -> None:
    await gateway.accepted(headers=key("a-very-telling-key"))

    path = gateway.gateway.settings.store.path
    stored = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))

    assert b"a-very-telling-key" not in stored
    assert KEY.encode() not in stored
