"""Refusals for which something has to go wrong (contract §8.2), and what they must not tell."""

import logging
from pathlib import Path
from typing import Any

import pytest

from api.raw import exchange
from api.refusals import assert_refused
from api.world import bearer, config_of
from support.gateway import CHAT, KEY, RunningGateway, chat, running
from tidegate.domain.errors import CommitUnknown, GatewayError, StorageFull, StorageUnavailable, StoreBusy
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

STORE_TROUBLES: list[tuple[GatewayError, str]] = [
    (StorageUnavailable(), "the store is not available; nothing was stored"),
    (StoreBusy(), "the store is busy; nothing was stored"),
    (StorageFull(), "the store is full; nothing was stored"),
    (
        CommitUnknown(),
        "it is not known whether the job was stored; repeat with the same Idempotency-Key",
    ),
]


def break_store(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, method: str, trouble: Exception
) -> None:
    async def fail(*args: object, **kwargs: object) -> None:
        raise trouble

    monkeypatch.setattr(gateway.gateway.store.jobs, method, fail)


@pytest.mark.parametrize(("trouble", "message"), STORE_TROUBLES, ids=lambda value: getattr(value, "code", ""))
async def test_82_trouble_of_the_store_on_submit(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, trouble: GatewayError, message: str
) -> None:
    break_store(gateway, monkeypatch, "accept", trouble)

    response = await gateway.submit()

    extra = {"request_type": "chat_completion", "model_requested": "openai/echo"}
    assert_refused(response, trouble.code, message, extra=extra)


@pytest.mark.parametrize(
    ("method", "path", "store_method"),
    [
        ("GET", f"{CHAT}/x", "get"),
        ("GET", "/v1/async/jobs/x", "inspect"),
        ("GET", "/v1/async/jobs", "list"),
        ("POST", "/v1/async/jobs/x/cancel", "cancel"),
        ("POST", CHAT, "replayed"),
    ],
)
async def test_82_trouble_of_the_store_elsewhere(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, method: str, path: str, store_method: str
) -> None:
    break_store(gateway, monkeypatch, store_method, StorageUnavailable())

    response = await gateway.client.request(
        method, path, json=chat(), headers=bearer() | {"idempotency-key": "k"}
    )

    assert_refused(response, "storage_unavailable")


async def test_82_too_little_space_refuses_submits_and_lets_polls_through(
    vendor: MockVendor, tmp_path: Path
) -> None:
    config = config_of(tmp_path, vendor)
    async with running(tmp_path, config) as gateway:
        job_id = (await gateway.run())["id"]
    config["store"]["min_free_bytes"] = 1 << 50

    async with running(tmp_path, config) as gateway:
        refused = await gateway.submit()
        polled = await gateway.poll(job_id)

    assert_refused(refused, "storage_full")
    assert polled.status_code == 200


async def test_82_a_draining_process_takes_no_submits_and_answers_the_rest(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await gateway.accepted()
    monkeypatch.setattr(gateway.gateway.drain, "is_on", True)

    refused = await gateway.submit()
    nobody = await gateway.client.post(CHAT, json=chat())

    for response in (refused, nobody):
        assert_refused(response, "shutting_down", "the server is shutting down")
    assert (await gateway.poll(job_id)).status_code in {200, 202}
    assert (await gateway.client.get("/v1/async/jobs", headers=bearer())).status_code == 200


async def test_81_a_declared_body_over_the_limit_closes_the_connection(gateway: RunningGateway) -> None:
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Length: {2**40}\r\n\r\n"
    )

    response = await exchange(gateway.url, head.encode())

    assert_refused(response, "request_too_large")
    assert response.headers["connection"] == "close"


SECRET = "SELECT * FROM /srv/secret/tidegate.db at 10.0.0.7 with sk-bf-" + "s" * 43


async def test_82_a_defect_is_500_and_tells_nothing(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_store(gateway, monkeypatch, "accept", RuntimeError(SECRET))

    response = await gateway.submit(headers={"x-request-id": "broken-1"})

    assert_refused(response, "internal_error", "internal error", extra={})
    assert response.headers["x-request-id"] == "broken-1"
    for word in ("SELECT", "/srv", "10.0.0.7", "sk-bf", "Traceback", "RuntimeError"):
        assert word not in response.text


async def test_82_after_a_defect_the_connection_serves_on(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        break_store(gateway, patch, "accept", RuntimeError(SECRET))
        await gateway.submit()

    assert (await gateway.submit()).status_code == 202


async def test_83_required_headers(vendor: MockVendor, tmp_path: Path) -> None:
    config = config_of(tmp_path, vendor) | {"client": {"required_headers": ["X-Team", "x-cost-center"]}}
    extra = {"request_type": "chat_completion", "model_requested": "openai/echo"}
    async with running(tmp_path, config) as gateway:
        both = await gateway.submit()
        one = await gateway.submit(headers={"X-TEAM": ""})
        none = await gateway.submit(headers={"x-team": "a", "x-cost-center": "b"})
        polled = await gateway.poll(none.json()["id"])

    message = "missing required headers"
    assert_refused(
        both, "missing_required_headers", f"{message}: x-team, x-cost-center", param="x-team", extra=extra
    )
    assert_refused(one, "missing_required_headers", f"{message}: x-cost-center", param="x-cost-center")
    assert none.status_code == 202
    assert polled.status_code in {200, 202}


ORIGIN = "requests from this origin are not allowed"
FOREIGN: list[dict[str, str]] = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:1"},
    {"sec-fetch-site": "cross-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_82_a_foreign_page_changes_nothing_where_anybody_may_call(
    open_gateway: RunningGateway, headers: dict[str, str]
) -> None:
    submitted = await open_gateway.client.post(CHAT, json=chat(), headers=headers)
    cancelled = await open_gateway.client.post("/v1/async/jobs/x/cancel", headers=headers)
    polled = await open_gateway.client.get(f"{CHAT}/x", headers=headers)

    assert_refused(submitted, "origin_not_allowed", ORIGIN)
    assert_refused(cancelled, "origin_not_allowed", ORIGIN)
    assert_refused(polled, "job_not_found")


@pytest.mark.parametrize("form", ["http://{}", "https://{}"])
async def test_26_our_own_pages_may(open_gateway: RunningGateway, form: str) -> None:
    host = open_gateway.url.removeprefix("http://")
    headers = {"origin": form.format(host), "sec-fetch-site": "same-origin"}

    assert (await open_gateway.client.post(CHAT, json=chat(), headers=headers)).status_code == 202


async def test_26_pages_of_a_listed_origin_may(open_gateway: RunningGateway) -> None:
    headers = {"origin": "https://app.example", "sec-fetch-site": "cross-site"}

    assert (await open_gateway.client.post(CHAT, json=chat(), headers=headers)).status_code == 202


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_26_a_credential_is_proof_enough(
    gateway: RunningGateway, open_gateway: RunningGateway, headers: dict[str, str]
) -> None:
    """A foreign page does not know it, and a browser does not send it along."""
    for one in (gateway, open_gateway):
        assert (await one.submit(headers=headers)).status_code == 202


async def test_81_a_canary_in_every_input_comes_back_in_no_header(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    canary = "sk-bf-" + "canary" * 8

    response = await gateway.client.post(
        CHAT, json=chat(model=f"openai/{canary}"), headers=bearer(canary) | {"x-api-key": canary}
    )

    assert_refused(response, "virtual_key_not_found")
    assert canary not in str(response.headers) + response.text
    assert canary not in capfd.readouterr().out + caplog.text
