"""Job options (contract §10): each header, what it means, and what is refused."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.refusals import assert_refused
from api.world import MODEST_KEY, bearer, config_of
from support.gateway import CHAT, RunningGateway, chat, running
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

TIMEOUT, ATTEMPTS, PRIORITY = "x-bf-async-timeout", "x-bf-async-max-attempts", "x-bf-async-priority"
WEEK = 604_800


async def options_of(
    gateway: RunningGateway, headers: dict[str, str], key: str | None = None
) -> dict[str, Any]:
    """The effective ones, as the rich view shows them."""
    who = {"key": key} if key else {}
    view = await gateway.details(await gateway.accepted(headers=headers, **who), **who)
    options: dict[str, Any] = view["options"]
    return options


async def test_10_the_defaults(gateway: RunningGateway) -> None:
    assert await options_of(gateway, {}) == {
        "result_ttl": 3600, "timeout": 3600, "max_attempts": 3, "worker_lost": "retry", "priority": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("header", "value", "member", "effective"),
    [
        (TIMEOUT, "1", "timeout", 1),
        (TIMEOUT, "007", "timeout", 7),
        (TIMEOUT, str(WEEK), "timeout", WEEK),
        (TIMEOUT, str(WEEK + 1), "timeout", WEEK),
        (TIMEOUT, "9" * 300, "timeout", WEEK),
        (ATTEMPTS, "1", "max_attempts", 1),
        (ATTEMPTS, "10", "max_attempts", 10),
        (PRIORITY, "1", "priority", 1),
        (PRIORITY, "5", "priority", 5),
    ],
)
async def test_10_what_a_header_sets(
    gateway: RunningGateway, header: str, value: str, member: str, effective: int
) -> None:
    assert (await options_of(gateway, {header: value}))[member] == effective


async def test_10_the_names_of_headers_have_no_case(gateway: RunningGateway) -> None:
    assert (await options_of(gateway, {"X-BF-Async-Priority": "2"}))["priority"] == 2


MALFORMED = ["", "0", "-1", "+1", "1.0", "1e1", "one", "1 2", "1,1", "\xb2", "0x1", "null"]
EXPECTED = {
    TIMEOUT: "an integer of at least 1",
    ATTEMPTS: "an integer from 1 to 10",
    PRIORITY: "an integer from 1 to 5",
}


@pytest.mark.parametrize("header", EXPECTED)
@pytest.mark.parametrize("value", MALFORMED, ids=repr)
async def test_10_a_malformed_header_is_refused(gateway: RunningGateway, header: str, value: str) -> None:
    headers = httpx2.Headers(bearer() | {header: value}, encoding="latin-1")

    response = await gateway.client.post(CHAT, json=chat(), headers=headers)

    assert_refused(response, "invalid_header", f"invalid {header}: expected {EXPECTED[header]}", param=header)


@pytest.mark.parametrize(("header", "value"), [(ATTEMPTS, "11"), (PRIORITY, "6"), (PRIORITY, "9" * 300)])
async def test_10_out_of_the_grammar_s_range_is_refused(
    gateway: RunningGateway, header: str, value: str
) -> None:
    assert_refused(await gateway.submit(headers={header: value}), "invalid_header", param=header)


@pytest.mark.parametrize("header", [*EXPECTED, "x-bf-async", "x-bf-async-id"])
@pytest.mark.parametrize("values", [("3", "3"), ("3", "4"), ("12", "12"), ("", "")], ids=str)
async def test_10_a_repeated_header_is_refused(
    gateway: RunningGateway, header: str, values: tuple[str, str]
) -> None:
    headers = [*bearer().items(), *((header, value) for value in values)]

    response = await gateway.client.post(CHAT, json=chat(), headers=headers)

    if header == "x-bf-async":
        assert response.status_code == 202  # of the drop-in routes only
    else:
        assert_refused(response, "invalid_header", param=header)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-bf-async-queue-timeout", "60"),
        ("x-bf-async-worker-lost", "fail"),
        ("x-bf-async-worker-lost", "retry"),
        ("x-bf-async-not-before", "+5m"),
        ("x-bf-async-webhook", "done"),
        ("x-bf-async-prioritty", "1"),
    ],
)
async def test_10_an_option_that_is_not_built_is_refused_and_never_ignored(
    gateway: RunningGateway, header: str, value: str
) -> None:
    assert_refused(await gateway.submit(headers={header: value}), "invalid_header", param=header)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-bf-async": "true"},
        {"x-bf-async-id": "5"},
        {"x-bf-cache-key": "x"},
        {"x-bf-eh-something": "x"},
        {"x-bf-api-key": "x"},
        {"x-bf-send-back-raw-response": "true"},
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"traceparent": "junk", "tracestate": "junk"},
    ],
    ids=str,
)
async def test_10_other_headers_have_no_effect(gateway: RunningGateway, headers: dict[str, str]) -> None:
    assert (await gateway.submit(headers=headers)).status_code == 202


async def test_10_options_are_read_on_submits_only(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted()

    response = await gateway.poll(job_id, {PRIORITY: "junk", "idempotency-key": "", TIMEOUT: "0"})

    assert response.status_code in {200, 202}


async def test_10_the_deadline_counts_from_the_submit(gateway: RunningGateway) -> None:
    view = await gateway.details(await gateway.accepted(headers={TIMEOUT: "90"}))

    distance = datetime.fromisoformat(view["deadline_at"]) - datetime.fromisoformat(view["created_at"])
    assert distance == timedelta(seconds=90)


async def test_10_above_the_operator_s_maximum_it_is_lowered(vendor: MockVendor, tmp_path: Path) -> None:
    config = config_of(tmp_path, vendor) | {"async": {"timeout_max_seconds": 100}}
    async with running(tmp_path, config) as gateway:
        asked = await options_of(gateway, {TIMEOUT: "101"})
        plain = await options_of(gateway, {})

    # The default is a wish like any other.
    assert asked["timeout"] == plain["timeout"] == 100


@pytest.mark.parametrize(("asked", "effective"), [(None, 4), ("1", 4), ("4", 4), ("5", 5)])
async def test_10_a_key_s_ceiling_raises_the_number(
    gateway: RunningGateway, asked: str | None, effective: int
) -> None:
    options = await options_of(gateway, {PRIORITY: asked} if asked else {}, MODEST_KEY)

    assert options["priority"] == effective
