"""The order of checks on submit (contract §3): of several mistakes the earliest step answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from api.raw import exchange, request
from api.refusals import assert_refused
from api.world import INACTIVE_KEY, LIMITED_KEY, bearer, config_of
from support.gateway import CHAT, RunningGateway, chat, running
from tidegate.domain.errors import StoreBusy
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

REQUIRED = "x-team"
USED = "used-before"


@dataclass
class Attempt:
    """A submit in the making; without a mistake it is accepted."""

    method: str = "POST"
    path: str = CHAT
    headers: dict[str, str] = field(default_factory=lambda: bearer(LIMITED_KEY) | {REQUIRED: "search"})
    members: dict[str, Any] = field(default_factory=chat)
    body: bytes | None = None
    process_is_draining: bool = False
    store_is_busy: bool = False


Mistake = Callable[[Attempt], None]


def sets(name: str, value: object) -> Mistake:
    return lambda attempt: setattr(attempt, name, value)


def sends(**headers: str) -> Mistake:
    return lambda attempt: attempt.headers.update({
        name.replace("_", "-"): value for name, value in headers.items()
    })  # fmt: skip


def asks(**members: Any) -> Mistake:
    return lambda attempt: attempt.members.update(members)


def forgets(name: str) -> Mistake:
    def forget(attempt: Attempt) -> None:
        attempt.members.pop(name, None)
        attempt.headers.pop(name, None)

    return forget


# Earliest first. Where two touch the same member, the earlier one is made last.
STEPS: list[tuple[str, str, Mistake]] = [
    ("step 1 path", "route_not_found", sets("path", "/v1/async/chat")),
    ("step 1 method", "method_not_allowed", sets("method", "PUT")),
    ("step 2 draining", "shutting_down", sets("process_is_draining", value=True)),
    ("step 3 no credential", "virtual_key_required", forgets("authorization")),
    ("step 3 inactive key", "virtual_key_blocked", sends(authorization=f"Bearer {INACTIVE_KEY}")),
    ("step 4 content encoding", "unsupported_content_encoding", sends(content_encoding="br")),
    ("step 4 declared length", "request_too_large", sends(content_length=str(2**20 + 1))),
    ("step 5 option header", "invalid_header", sends(x_bf_async_priority="9")),
    ("step 5 idempotency key", "invalid_header", sends(idempotency_key="é")),
    ("step 6 compression", "invalid_encoding", sends(content_encoding="gzip")),
    ("step 6 JSON", "invalid_json", sets("body", b"{")),
    ("step 7 idempotency", "idempotency_key_reused", sends(idempotency_key=USED)),
    ("step 8 types", "invalid_type", asks(user=5)),
    ("step 8 model present", "missing_required_parameter", forgets("model")),
    ("step 8 model resolved", "provider_unresolved", asks(model="nobody-has-this")),
    ("step 8 fallbacks: how many", "too_many_items", asks(fallbacks=["x"] * 11)),
    ("step 8 fallbacks resolved", "provider_unresolved", asks(fallbacks=["bare"])),
    ("step 8 required fields", "missing_required_parameter", forgets("messages")),
    ("step 8 ranges", "out_of_range", asks(temperature=3)),
    ("step 8 enums", "invalid_value", asks(verbosity="max")),
    ("step 8 nested schemas", "missing_required_parameter", asks(tools=[{}])),
    (
        "step 8 conflicting fields",
        "conflicting_parameters",
        asks(reasoning={"effort": "low"}, reasoning_effort="low"),
    ),
    ("step 8 stream", "stream_not_supported", asks(stream=True)),
    ("step 9 provider configured", "provider_not_configured", asks(model="deepseek/chat")),
    ("step 9 model listed", "model_not_found", asks(model="other/unlisted")),
    ("step 9 usable key", "no_eligible_keys", asks(model="mistral/small")),
    ("step 10 required headers", "missing_required_headers", forgets(REQUIRED)),
    ("step 10 provider allowed", "provider_blocked", asks(model="other/llama")),
    ("step 10 model allowed", "model_blocked", asks(model="openai/other")),
    ("step 13 commit", "store_busy", sets("store_is_busy", value=True)),
]
NAMES = [name for name, _, _ in STEPS]
# The body as a whole, and its compression, can be wrong in one way only.
BODIES = {"step 4 content encoding", "step 4 declared length", "step 6 compression", "step 6 JSON"}
# A mistake in a member that a later step would have to find right.
KEYS = {"step 5 idempotency key", "step 7 idempotency"}


@pytest.fixture(scope="module")
async def strict(
    vendor: MockVendor, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    """A gateway that demands a header; one ``Idempotency-Key`` is used up."""
    directory = tmp_path_factory.mktemp("strict")
    config = config_of(directory, vendor) | {
        "client": {"required_headers": ["X-Team"], "max_request_body_size_mb": 1}
    }
    async with running(directory, config) as gateway:
        first = Attempt(members=chat(text="first"))
        first.headers["idempotency-key"] = USED
        with pytest.MonkeyPatch.context() as patch:
            assert (await send(gateway, first, patch)).status_code == 202
        yield gateway


def attempt_from(step: str) -> Attempt:
    """Wrong in ``step`` and in every later one."""
    attempt = Attempt()
    begin = NAMES.index(step)
    for name, _, make in reversed(STEPS[begin:]):
        if name == step or name not in BODIES | KEYS:
            make(attempt)
    return attempt


async def send(gateway: RunningGateway, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> httpx2.Response:
    if attempt.store_is_busy:

        async def accept(job: object) -> None:
            raise StoreBusy

        monkeypatch.setattr(gateway.gateway.store.jobs, "accept", accept)
    monkeypatch.setattr(gateway.gateway.drain, "is_on", attempt.process_is_draining)
    body = json.dumps(attempt.members).encode() if attempt.body is None else attempt.body
    headers = {"content-length": str(len(body))} | attempt.headers
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return await exchange(gateway.url, request(attempt.path, *lines, method=attempt.method, body=body))


@pytest.mark.parametrize(("step", "code"), [(name, code) for name, code, _ in STEPS], ids=NAMES)
async def test_3_the_earliest_step_answers(
    strict: RunningGateway, monkeypatch: pytest.MonkeyPatch, step: str, code: str
) -> None:
    response = await send(strict, attempt_from(step), monkeypatch)

    assert_refused(response, code)


@pytest.mark.parametrize(("step", "code"), [(name, code) for name, code, _ in STEPS], ids=NAMES)
async def test_3_each_step_refuses_on_its_own(
    strict: RunningGateway, monkeypatch: pytest.MonkeyPatch, step: str, code: str
) -> None:
    attempt = Attempt()
    STEPS[NAMES.index(step)][2](attempt)

    response = await send(strict, attempt, monkeypatch)

    assert_refused(response, code)


async def test_3_refused_submits_write_nothing(
    strict: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = "/v1/async/jobs?limit=200"
    before = (await strict.client.get(listing, headers=bearer(LIMITED_KEY))).json()["data"]

    for step in NAMES:
        with monkeypatch.context() as patch:
            await send(strict, attempt_from(step), patch)

    after = (await strict.client.get(listing, headers=bearer(LIMITED_KEY))).json()["data"]
    assert after == before


async def test_3_without_a_mistake_it_is_accepted(
    strict: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = await send(strict, Attempt(), monkeypatch)

    assert response.status_code == 202


async def test_3_a_replay_is_answered_whatever_a_later_step_would_say(
    strict: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 7 comes before steps 8 to 13: what was accepted once is not refused for today's rules."""
    attempt = Attempt(members=chat(text="first"), store_is_busy=True)
    attempt.headers |= {"idempotency-key": USED}
    attempt.headers.pop(REQUIRED)

    response = await send(strict, attempt, monkeypatch)

    assert response.status_code == 202
    assert response.headers["idempotent-replayed"] == "true"


async def test_3_a_stranger_is_refused_before_the_body_is_read(strict: RunningGateway) -> None:
    """The server does not even ask for the body that ``Expect`` announces."""
    host, _, port = strict.url.removeprefix("http://").partition(":")
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n"
        "Authorization: Bearer sk-bf-stranger\r\n\r\n"
    )
    status_lines = (
        await first_line(host, int(port), head),
        await first_line(host, int(port), head.replace("sk-bf-stranger", LIMITED_KEY)),
    )

    assert status_lines == (b"HTTP/1.1 401 Unauthorized\r\n", b"HTTP/1.1 100 Continue\r\n")


async def first_line(host: str, port: int, head: str) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(head.encode())
        return await asyncio.wait_for(reader.readline(), 10)
    finally:
        writer.close()
