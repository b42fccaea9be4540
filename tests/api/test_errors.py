"""Every refusal this build can answer (contract §8.1–8.3): provoked over HTTP, compared in full."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from api.minting import admin_token
from api.raw import exchange, request
from api.refusals import assert_refused
from api.world import LIMITED_KEY, NOTHING_KEY, bearer, cancel, config_of
from support.gateway import CHAT, KEY, RunningGateway, chat, running
from tidegate.domain.errors import ErrorCode
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

KEYS = "/api/governance/virtual-keys"
MIB = 2**20
TYPE = {"request_type": "chat_completion"}
Send = Callable[[RunningGateway], Awaitable[httpx2.Response]]


@dataclass
class Row:
    """One situation: how to get into it and what the answer says."""

    code: str
    message: str
    send: Send
    param: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def get(path: str, secret: str | None = KEY) -> Send:
    return lambda gateway: gateway.client.get(path, headers=bearer(secret) if secret else {})


def post(path: str, members: Any, secret: str = KEY, **headers: str) -> Send:
    return lambda gateway: gateway.client.post(path, json=members, headers=bearer(secret) | headers)


def put(path: str, members: Any) -> Send:
    return lambda gateway: gateway.client.put(path, json=members, headers=bearer(admin_token()))


def submit(secret: str = KEY, headers: dict[str, str] | None = None, **members: Any) -> Send:
    return lambda gateway: gateway.submit(chat() | members, headers, key=secret)


def sent(body: bytes, *lines: str, length: int | None = None) -> Send:
    """A submit as bytes."""
    size = len(body) if length is None else length
    head = [f"Authorization: Bearer {KEY}", f"Content-Length: {size}", *lines]
    return lambda gateway: exchange(gateway.url, request(CHAT, *head, method="POST", body=body))


def raw(target: str, *lines: str, method: str = "GET", host: str | None = "localhost") -> Send:
    return lambda gateway: exchange(gateway.url, request(target, *lines, method=method, host=host))


async def cancelled_too_late(gateway: RunningGateway) -> httpx2.Response:
    job_id = (await gateway.run())["id"]
    return await cancel(gateway, job_id)


async def replay_of_another_request(gateway: RunningGateway) -> httpx2.Response:
    await gateway.accepted(headers={"idempotency-key": "reused"})
    return await gateway.submit(chat(text="other"), {"idempotency-key": "reused"})


async def replay_of_an_expired_job(gateway: RunningGateway) -> httpx2.Response:
    options = {"idempotency-key": "gone", "x-bf-async-job-result-ttl": "1"}
    job_id = await gateway.accepted(headers=options)
    await gateway.ended(job_id)
    async with asyncio.timeout(20):
        while (await gateway.poll(job_id)).status_code == 200:
            await asyncio.sleep(0.05)
    return await gateway.submit(headers=options)


ANY_ROUTE: dict[str, Row] = {
    "unknown path": Row("route_not_found", "no such route", get("/nope")),
    "wrong method": Row(
        "method_not_allowed",
        "method DELETE is not allowed here",
        lambda gateway: gateway.client.delete(CHAT),
    ),
    "body too large, declared": Row(
        "request_too_large",
        "request body exceeds the limit of 1048576 bytes",
        sent(b"", length=MIB + 1),
        extra=TYPE,
    ),
    "body too large, when decompressed": Row(
        "request_too_large",
        "request body exceeds the limit of 1048576 bytes",
        sent(gzip.compress(b" " * (MIB + 1)), "Content-Encoding: gzip"),
        extra=TYPE,
    ),
    "body too large, in chunks": Row(
        "request_too_large",
        "request body exceeds the limit of 1048576 bytes",
        lambda gateway: exchange(
            gateway.url,
            request(CHAT, f"Authorization: Bearer {KEY}", "Transfer-Encoding: chunked", method="POST")
            + b"%x\r\n" % (MIB + 1)
            + b" " * (MIB + 1)
            + b"\r\n",
        ),
        extra=TYPE,
    ),
    "unsupported encoding": Row(
        "unsupported_content_encoding",
        'content encoding "br" is not supported: send gzip, deflate or none',
        sent(b"x", "Content-Encoding: br"),
        param="content-encoding",
        extra=TYPE,
    ),
    "two encodings": Row(
        "unsupported_content_encoding",
        'content encoding "gzip, br" is not supported: send gzip, deflate or none',
        sent(b"x", "Content-Encoding: gzip", "Content-Encoding: br"),
        param="content-encoding",
        extra=TYPE,
    ),
    **{
        f"bad compressed data: {name}": Row(
            "invalid_encoding",
            "invalid compressed request body",
            sent(body, f"Content-Encoding: {encoding}"),
            param="content-encoding",
            extra=TYPE,
        )
        for name, encoding, body in (
            ("no gzip at all", "gzip", b"{}"),
            ("cut", "gzip", gzip.compress(b"{}")[:-4]),
            ("something behind it", "gzip", gzip.compress(b"{}") + b"x"),
            ("empty", "gzip", b""),
            ("no deflate at all", "deflate", b"{}"),
            ("gzip as deflate", "deflate", gzip.compress(b"{}")),
        )
    },
    "Host missing": Row("host_not_allowed", "host is not allowed", raw("/healthz", host=None)),
    "Host doubled": Row("host_not_allowed", "host is not allowed", raw("/healthz", "Host: localhost")),
    "Host not allowed": Row("host_not_allowed", "host is not allowed", raw("/healthz", host="evil.example")),
    "Host empty": Row("host_not_allowed", "host is not allowed", raw("/healthz", host="")),
    "no credential": Row(
        "virtual_key_required",
        "authentication is required: send a virtual key or a JWT",
        get(f"{CHAT}/x", None),
        extra=TYPE,
    ),
    "admin needed": Row("admin_required", "this needs an admin token", get(KEYS)),
    "query parameter malformed": Row(
        "invalid_query_parameter",
        "invalid limit: expected an integer from 1 to 200",
        get("/v1/async/jobs?limit=0"),
        param="limit",
    ),
    "query parameter unknown": Row(
        "invalid_query_parameter",
        "unknown query parameter 'x': allowed are result, wait",
        get("/v1/async/jobs/x?x=1"),
        param="x",
    ),
    "query parameter where none is known": Row(
        "invalid_query_parameter",
        "unknown query parameter 'x': allowed are none",
        post("/v1/async/jobs/x/cancel?x=1", None),
        param="x",
    ),
    "query unreadable": Row(
        "invalid_query_parameter",
        "invalid query string: it cannot be read",
        get("/v1/async/jobs?" + "&".join(["status=failed"] * 101)),
    ),
}
SUBMIT: dict[str, Row] = {
    "JSON not readable": Row(
        "invalid_json",
        "invalid request format: malformed JSON at byte 10",
        sent(b'{"model": x}'),
        extra=TYPE,
    ),
    "JSON too complex": Row(
        "invalid_json",
        "invalid request format: too complex: nested deeper than 128 levels",
        sent(b"[" * 129 + b"]" * 129),
        extra=TYPE,
    ),
    "wrong type": Row(
        "invalid_type",
        "invalid type for 'messages[0].content': expected string or array, got number",
        submit(messages=[{"role": "user", "content": 5}]),
        param="messages[0].content",
        extra=TYPE,
    ),
    "out of range": Row(
        "out_of_range",
        "'temperature' must be between 0 and 2, got 3",
        submit(temperature=3),
        param="temperature",
        extra=TYPE | {"model_requested": "openai/echo"},
    ),
    "not one of the words": Row(
        "invalid_value",
        "'verbosity' must be one of low, medium, high, got \"max\"",
        submit(verbosity="max"),
        param="verbosity",
        extra=TYPE | {"model_requested": "openai/echo"},
    ),
    "missing field": Row(
        "missing_required_parameter", "model is required", submit(model=None), param="model", extra=TYPE
    ),
    "too many entries": Row(
        "too_many_items",
        "'stop' takes at most 4 entries, got 5",
        submit(stop=list("abcde")),
        param="stop",
        extra=TYPE | {"model_requested": "openai/echo"},
    ),
    "too large": Row(
        "too_large",
        "'metadata' exceeds 16384 bytes",
        submit(metadata={"a": "x" * 20_000}),
        param="metadata",
        extra=TYPE | {"model_requested": "openai/echo"},
    ),
    "alias conflict": Row(
        "conflicting_parameters",
        "both reasoning_effort and reasoning.effort are present",
        submit(reasoning={"effort": "low"}, reasoning_effort="low"),
        param="reasoning_effort",
        extra=TYPE | {"model_requested": "openai/echo"},
    ),
    "stream asked for": Row(
        "stream_not_supported",
        "stream is not supported for async chat completions",
        submit(stream=True),
        param="stream",
        extra=TYPE | {"model_requested": "openai/echo"},
    ),
    "bare model without provider": Row(
        "provider_unresolved",
        "provider is required in model field (format: provider/model): "
        'no provider found for model "meta-llama/Llama-3"',
        submit(model="meta-llama/Llama-3"),
        param="model",
        extra=TYPE | {"model_requested": "meta-llama/Llama-3"},
    ),
    "fallback without known provider": Row(
        "provider_unresolved",
        'fallbacks[1] must be provider/model with a known provider, got "bare"',
        submit(fallbacks=["openai/echo", "bare"]),
        param="fallbacks[1]",
        extra=TYPE | {"model_requested": "openai/echo"},
    ),
    "provider known, not configured": Row(
        "provider_not_configured",
        'provider "deepseek" is not configured',
        submit(model="deepseek/chat"),
        param="model",
        extra=TYPE | {"model_requested": "deepseek/chat", "provider": "deepseek"},
    ),
    "provider of a fallback not configured": Row(
        "provider_not_configured",
        'provider "deepseek" is not configured',
        submit(fallbacks=["deepseek/chat"]),
        param="fallbacks[0]",
        extra=TYPE | {"model_requested": "openai/echo", "provider": "deepseek"},
    ),
    "no key lists the model": Row(
        "model_not_found",
        'model "unlisted" is not available at provider "other"',
        submit(model="other/unlisted"),
        param="model",
        extra=TYPE | {"model_requested": "other/unlisted", "provider": "other"},
    ),
    "no candidate has a usable key": Row(
        "no_eligible_keys",
        'no usable key for model "small" at provider "mistral"',
        submit(model="mistral/small"),
        extra=TYPE | {"model_requested": "mistral/small", "provider": "mistral"},
    ),
    "option header malformed": Row(
        "invalid_header",
        "invalid x-bf-async-priority: expected an integer from 1 to 5",
        submit(headers={"x-bf-async-priority": "high"}),
        param="x-bf-async-priority",
        extra=TYPE,
    ),
    "option header not implemented": Row(
        "invalid_header",
        "invalid x-bf-async-worker-lost: this option is not supported by this version; leave the header out",
        submit(headers={"x-bf-async-worker-lost": "fail"}),
        param="x-bf-async-worker-lost",
        extra=TYPE,
    ),
    "provider not allowed": Row(
        "provider_blocked",
        "provider 'other' is not allowed for this virtual key",
        submit(LIMITED_KEY, model="other/llama"),
        param="model",
        extra=TYPE | {"model_requested": "other/llama", "provider": "other"},
    ),
    "nothing allowed": Row(
        "provider_blocked",
        "provider 'openai' is not allowed for this virtual key",
        submit(NOTHING_KEY),
        param="model",
        extra=TYPE | {"model_requested": "openai/echo", "provider": "openai"},
    ),
    "model of a fallback not allowed": Row(
        "model_blocked",
        "model 'other' is not allowed for this virtual key",
        submit(LIMITED_KEY, fallbacks=["openai/other"]),
        param="fallbacks[0]",
        extra=TYPE | {"model_requested": "openai/echo", "provider": "openai"},
    ),
    "job not visible": Row("job_not_found", "job not found or expired", get("/v1/async/jobs/x")),
    "list cursor malformed": Row(
        "invalid_cursor", "cursor is not valid for this list", get("/v1/async/jobs?after=x"), param="after"
    ),
    "unknown admin member": Row(
        "unknown_field", "unknown field 'nmae'", post(KEYS, {"nmae": "x"}, admin_token()), param="nmae"
    ),
    "admin object unknown": Row("not_found", "no such virtual key", get(f"{KEYS}/x", admin_token())),
    "name taken": Row(
        "already_exists",
        'a virtual key named "a" exists',
        post(KEYS, {"name": "a"}, admin_token()),
        param="name",
    ),
    "object from configuration": Row(
        "managed_by_config", '"a" is defined in the configuration', put(f"{KEYS}/key-a", {"name": "z"})
    ),
    "cancel of a job that ended otherwise": Row(
        "job_not_cancellable", "job has already ended", cancelled_too_late
    ),
    "replay, job expired": Row(
        "idempotent_job_gone",
        "the job of this Idempotency-Key no longer exists",
        replay_of_an_expired_job,
        param="Idempotency-Key",
        extra=TYPE,
    ),
    "Idempotency-Key with another request": Row(
        "idempotency_key_reused",
        "Idempotency-Key was used with a different request",
        replay_of_another_request,
        param="Idempotency-Key",
        extra=TYPE,
    ),
}
# Answered in tests of their own, here or elsewhere in this folder.
ELSEWHERE = {
    "request_timeout", "origin_not_allowed", "storage_unavailable", "store_busy", "storage_full", "commit_unknown",
    "shutting_down", "internal_error", "missing_required_headers",
    # test_credentials, test_jwt_forged
    "invalid_credentials", "virtual_key_not_found", "virtual_key_expired", "invalid_token", "token_expired",
    "conflicting_credentials", "virtual_key_blocked",
}  # fmt: skip
LEFT_FOR_LATER = {"unsupported_operation", "queue_full"}


@pytest.fixture(scope="module")
async def small(
    vendor: MockVendor, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    """Takes bodies of 1 MiB at most."""
    directory = tmp_path_factory.mktemp("small")
    config = config_of(directory, vendor) | {"client": {"max_request_body_size_mb": 1}}
    async with running(directory, config) as gateway:
        yield gateway


def test_8_every_code_has_its_situation() -> None:
    provoked = {row.code for row in (*ANY_ROUTE.values(), *SUBMIT.values())}

    assert provoked | ELSEWHERE | LEFT_FOR_LATER == {str(code) for code in ErrorCode}


@pytest.mark.parametrize("row", ANY_ROUTE.values(), ids=list(ANY_ROUTE))
async def test_82_any_route(small: RunningGateway, row: Row) -> None:
    assert_refused(await row.send(small), row.code, row.message, param=row.param, extra=row.extra)


@pytest.mark.parametrize("row", SUBMIT.values(), ids=list(SUBMIT))
async def test_83_submit_jobs_and_administration(small: RunningGateway, row: Row) -> None:
    assert_refused(await row.send(small), row.code, row.message, param=row.param, extra=row.extra)
