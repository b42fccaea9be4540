"""Text is only text, wherever it stands: no 5xx, nothing broken, nothing found that was not asked for (security.md T8)."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx2
import pytest

from api.admin import KEYS, create, page
from api.chats import EVERY_FIELD
from api.minting import admin_token, claims, signed
from api.raw import exchange, request
from api.world import bearer
from support.gateway import CHAT, KEY, RunningGateway, chat

pytestmark = pytest.mark.anyio

HOSTILE: Final = (
    "' OR '1'='1", "'; DROP TABLE jobs; --", '" OR ""="', "1) UNION SELECT secret FROM keys --", "\\'; --",
    "%", "_", "%%%%", "a%' ESCAPE '", "*", "?1", ":name", "@x", "$1", "/*", "--", ";", "x'00'", "CAST(1 AS TEXT)",
    "\x00", "a\x00b", "\x01\x02\x1b[31m", "\r\n", "\x7f", "\x85", "\u2028\u2029", "\u202eevil", "\ufeff", "\ufffe",
    "\U0010ffff", "e\u0301" * 20, "\u200b", "İ", "ß", "🌊" * 50, "0", "-1", "1e309", "NaN", "true", "null", "[]", "{}",
    "[" * 50, "../../etc/passwd", "%2e%2e%2f", "file:///etc/passwd", "${jndi:ldap://x}", "{{7*7}}", "{0}", "%s%n%x",
    "<script>alert(1)</script>", "`id`", "$(id)", "|id", "__proto__", "constructor", "toString", "a" * 5000,
)  # fmt: skip
HEADERS: Final = (
    "accept", "accept-encoding", "api-key", "authorization", "content-encoding", "content-type", "cookie",
    "expect", "idempotency-key", "if-match", "if-none-match", "origin", "prefer", "range", "sec-fetch-site",
    "te", "traceparent", "tracestate", "user-agent", "x-api-key", "x-bf-async", "x-bf-async-id",
    "x-bf-async-job-result-ttl", "x-bf-async-max-attempts", "x-bf-async-not-before", "x-bf-async-priority",
    "x-bf-async-timeout", "x-bf-async-unknown", "x-bf-async-webhook", "x-bf-passthrough-extra-params", "x-bf-vk",
    "x-forwarded-for", "x-goog-api-key", "x-request-id",
)  # fmt: skip
QUERIES: Final[Mapping[str, tuple[str, ...]]] = {
    f"{CHAT}/x": ("wait",),
    "/v1/async/jobs": ("status", "model", "limit", "order", "after"),
    "/v1/async/jobs/x": ("result", "wait"),
    KEYS: ("limit", "offset", "search"),
    "/metrics": ("x",),
    "/openapi.json": ("x",),
    "/healthz": ("x",),
}
ADMIN: Final = bearer(admin_token())
ECHO: Final = "moody/echo"


@pytest.fixture(scope="module")
async def witness(gateway: RunningGateway) -> str:
    """A job that has ended, and must look the same whatever anybody sends."""
    return str((await gateway.run(chat(ECHO, "a witness")))["id"])


async def assert_unharmed(gateway: RunningGateway, witness: str) -> None:
    """What was stored is there, and the next submit runs."""
    envelope = (await gateway.poll(witness)).json()
    assert envelope["result"]["choices"][0]["message"]["content"] == "a witness"
    assert (await gateway.run(chat(ECHO)))["status"] == "completed"
    assert (await page(gateway))["total_count"] > 0


def assert_answered(response: httpx2.Response, sent: object) -> None:
    """Accepted, or refused in a documented way."""
    assert response.status_code < 500, (sent, response.text)
    if response.status_code >= 400 and response.headers.get("content-type") == "application/json":
        assert response.json()["error"]["code"] != "internal_error"


def bodies(field: str, text: str) -> list[dict[str, Any]]:
    """The text as the field's value, and inside it as a name and a value."""
    plain = chat(ECHO)
    return [plain | {field: text}, plain | {field: {text: [text], "type": text}}]


@pytest.mark.parametrize("field", ["model", "messages", "unknown", *EVERY_FIELD])
async def test_in_a_field_of_the_body(gateway: RunningGateway, witness: str, field: str) -> None:
    for text in HOSTILE:
        answers = await asyncio.gather(*(gateway.submit(body) for body in bodies(field, text)))
        for response in answers:
            assert_answered(response, text)
    await assert_unharmed(gateway, witness)


@pytest.mark.parametrize("member", ["role", "content", "name", "tool_call_id", "refusal"])
async def test_in_a_message(gateway: RunningGateway, witness: str, member: str) -> None:
    for text in HOSTILE:
        message = {"role": "user", "content": "x"} | {member: text}
        response = await gateway.submit({"model": ECHO, "messages": [message]}, {"prefer": "wait=20"})
        assert_answered(response, text)
        if member == "content":
            assert response.json()["result"]["choices"][0]["message"]["content"] == text
    await assert_unharmed(gateway, witness)


async def test_as_a_name_in_the_body(gateway: RunningGateway, witness: str) -> None:
    for text in HOSTILE:
        for passes in ("true", "false"):
            body = chat(ECHO, **{text: text}) | {"metadata": {text: text}}
            response = await gateway.submit(
                body, {"x-bf-passthrough-extra-params": passes, "prefer": "wait=20"}
            )
            assert_answered(response, text)
            view = await gateway.details(response.json()["id"])
            assert view["metadata"] == {text: text}
    await assert_unharmed(gateway, witness)


def on_the_wire(text: str) -> str:
    """UTF-8, in the way ``raw`` writes its lines."""
    return text.encode().decode("latin-1")


@pytest.mark.parametrize("header", HEADERS)
async def test_in_a_header(gateway: RunningGateway, witness: str, header: str) -> None:
    body = json.dumps(chat(ECHO)).encode()
    for text in HOSTILE:
        head = [f"{header}: {on_the_wire(text)}", f"Content-Length: {len(body)}"]
        if header != "authorization":
            head.append(f"Authorization: Bearer {KEY}")
        assert_answered(
            await exchange(gateway.url, request(CHAT, *head, method="POST", body=body)), (header, text)
        )
    await assert_unharmed(gateway, witness)


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer sk-bf-", "Bearer e30.", "Basic ", ""])
async def test_in_the_credential(gateway: RunningGateway, witness: str, scheme: str) -> None:
    """Before anybody has logged in: nothing of it may pass, nothing may break."""
    for text in HOSTILE:
        line = f"Authorization: {scheme}{on_the_wire(text)}"
        response = await exchange(gateway.url, request("/v1/async/jobs", line))
        assert response.status_code in {400, 401}, (text, response.status_code)
    await assert_unharmed(gateway, witness)


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "virtual_key", "role"])
async def test_in_a_claim_of_a_signed_token(gateway: RunningGateway, witness: str, claim: str) -> None:
    for text in HOSTILE:
        token = signed(claims(**({"virtual_key": "key-a"} | {claim: text})))
        response = await gateway.client.get("/v1/async/jobs", headers=bearer(token))
        assert_answered(response, text)
        assert claim in {"sub", "role"} or response.status_code == 401
    await assert_unharmed(gateway, witness)


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, names in QUERIES.items() for name in names]
)
async def test_in_a_query(gateway: RunningGateway, witness: str, path: str, name: str) -> None:
    for text in HOSTILE:
        for query in (f"{name}={quote(text, safe='')}", f"{quote(text, safe='')}={name}"):
            assert_answered(await gateway.client.get(f"{path}?{query}", headers=ADMIN), text)
    await assert_unharmed(gateway, witness)


@pytest.mark.parametrize(
    "path", [f"{CHAT}/%s", "/v1/async/jobs/%s", "/v1/async/jobs/%s/cancel", f"{KEYS}/%s"]
)
async def test_in_a_path(gateway: RunningGateway, witness: str, path: str) -> None:
    for text in HOSTILE:
        method = "POST" if path.endswith("cancel") else "GET"
        response = await gateway.client.request(method, path % quote(text, safe=""), headers=ADMIN)
        assert response.status_code == 404, (text, response.text)
    await assert_unharmed(gateway, witness)


@pytest.mark.parametrize(
    "member", ["description", "expires_at", "is_active", "provider_configs", "async", "zz"]
)
async def test_in_a_member_of_a_key(gateway: RunningGateway, witness: str, member: str) -> None:
    for number, text in enumerate(HOSTILE):
        for value in (
            text,
            [text],
            {text: text},
            [{"provider": text, "allowed_models": [text], "key_ids": [text]}],
        ):
            body = {"name": f"{member} {number}", member: value}
            assert_answered(await gateway.client.post(KEYS, json=body, headers=ADMIN), text)
    await assert_unharmed(gateway, witness)


async def test_a_name_is_found_by_exactly_its_beginning(gateway: RunningGateway, witness: str) -> None:
    """``%`` and ``_`` of a search are themselves."""
    # SQLite's text functions end at a NUL: a name with one is kept, and not found by it.
    names = [text for text in HOSTILE if len(text) <= 128 and "\x00" not in text]
    for name in names:
        await create(gateway, name=name)

    for name in names:
        found = await page(gateway, f"?limit=200&search={quote(name, safe='')}")
        assert name in {key["name"] for key in found["virtual_keys"]}, name
        assert all(key["name"].startswith(name) for key in found["virtual_keys"]), name
    await assert_unharmed(gateway, witness)
