"""Nobody but the operator says where a call goes, and with which headers (security.md T1, T3, T18)."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import pytest

from api.world import SCRIPT, bearer
from providers.test_passthrough import STEERING
from support.gateway import CHAT, RunningGateway, chat
from tidegate.mock_vendor import MockVendor
from tidegate.mock_vendor.journal import Call

pytestmark = pytest.mark.anyio

REDIRECTS: Final = (300, 301, 302, 303, 304, 305, 307, 308)
# Values in the shapes that clients know for such members.
SHAPES: Final = ("text", "object", "list")
PLAIN: Final = chat("moody/echo")
# Their names would change what is asked for, not where: they are looked at like any known member.
KNOWN: Final = {"model", "stream", "stream_options"}

HEADERS: Final[Mapping[str, str]] = {
    "accept": "text/evil",
    "accept-encoding": "evil",
    "anthropic-version": "1999-01-01",
    "api-base": "http://evil.example",
    "api-key": "evil",
    "cookie": "session=evil",
    "content-type": "text/evil",
    "forwarded": "for=evil;host=evil.example",
    "from": "evil@evil.example",
    "http2-settings": "AAMAAABkAARAAAAAAAIAAAAA",
    "origin": "https://evil.example",
    "openai-organization": "evil",
    "openai-project": "evil",
    "proxy-authorization": "Basic ZXZpbA==",
    "proxy-connection": "keep-alive",
    "referer": "https://evil.example",
    "te": "trailers",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "upgrade": "websocket",
    "user-agent": "evil",
    "via": "1.1 evil.example",
    "x-api-key": "evil",
    "x-base-url": "http://evil.example",
    "x-bf-eh-x-evil": "evil",
    "x-bf-dim-evil": "evil",
    "x-bf-api-key": "evil",
    "x-forwarded-for": "10.0.0.1",
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "https",
    "x-goog-api-key": "evil",
    "x-host": "evil.example",
    "x-http-method-override": "DELETE",
    "x-original-url": "/evil",
    "x-portkey-custom-host": "http://evil.example",
    "x-real-ip": "10.0.0.1",
    "x-stainless-lang": "evil",
}


@pytest.fixture(scope="module")
async def elsewhere() -> AsyncIterator[MockVendor]:
    """Where nothing may ever arrive."""
    async with MockVendor.serve() as served:
        yield served


@pytest.fixture(scope="module")
async def vendor(elsewhere: MockVendor) -> AsyncIterator[MockVendor]:
    away = {"location": f"{elsewhere.url}/v1/chat/completions", "refresh": f"0; url={elsewhere.url}"}
    moved = [{"model": f"moved-{status}", "status": status, "headers": away} for status in REDIRECTS]
    async with MockVendor.serve(script={"rules": [*SCRIPT["rules"], *moved]}, keep_bodies=True) as served:
        yield served


@pytest.fixture(scope="module")
async def usual(gateway: RunningGateway, vendor: MockVendor) -> Call:
    """The call of a request that steers nothing."""
    await gateway.run(PLAIN)
    return vendor.calls()[-1]


def shaped(shape: str, url: str) -> Any:
    match shape:
        case "text":
            return url
        case "object":
            return {"url": url, "authorization": "Bearer evil", "x-evil": "1", "http": url, "https": url}
        case _:
            return [url]


def assert_same_envelope(call: Call, usual: Call) -> None:
    """Method, path, and every header with its value; the length of the body apart."""
    assert (call.method, call.path) == (usual.method, usual.path) == ("POST", "/v1/chat/completions")
    assert lines_of(call) == lines_of(usual)


def lines_of(call: Call) -> list[tuple[bytes, bytes]]:
    lines = call.header_lines.split(b"\n")
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    return [(name, value) for name, value in pairs if name != b"content-length"]


@pytest.mark.parametrize("passes", ["true", "false"], ids=["passed through", "not passed through"])
@pytest.mark.parametrize("word", STEERING)
async def test_a_member_steers_nothing(
    gateway: RunningGateway,
    vendor: MockVendor,
    elsewhere: MockVendor,
    usual: Call,
    word: str,
    passes: str,
) -> None:
    for shape in SHAPES:
        body = PLAIN | {word: shaped(shape, elsewhere.url)}
        before = vendor.total

        response = await gateway.submit(body, {"x-bf-passthrough-extra-params": passes, "prefer": "wait=20"})

        if response.status_code == 400:
            assert word in KNOWN
            continue
        assert response.json()["status"] == "completed", response.text
        (call,) = vendor.calls()[-(vendor.total - before) :]
        assert_same_envelope(call, usual)
        assert json.loads(call.body or b"") == json.loads(usual.body or b"")
        assert word in response.json()["result"]["extra_fields"]["dropped_params"]
    assert elsewhere.total == 0


def test_there_are_at_least_fifty_such_members() -> None:
    assert len(set(STEERING)) >= 50


async def test_no_header_of_a_request_reaches_a_vendor(
    gateway: RunningGateway, vendor: MockVendor, usual: Call
) -> None:
    response = await gateway.client.post(
        CHAT, content=json.dumps(PLAIN), headers=bearer() | {"prefer": "wait=20"} | dict(HEADERS)
    )

    assert response.json()["status"] == "completed", response.text
    assert_same_envelope(vendor.calls()[-1], usual)
    assert "evil" not in repr(vendor.calls()[-1])


@pytest.mark.parametrize("header", HEADERS)
async def test_no_header_alone_does_either(
    gateway: RunningGateway, vendor: MockVendor, usual: Call, header: str
) -> None:
    response = await gateway.client.post(
        CHAT,
        content=json.dumps(PLAIN),
        headers=bearer() | {"prefer": "wait=20", header: HEADERS[header]},
    )

    assert response.json()["status"] == "completed", response.text
    assert_same_envelope(vendor.calls()[-1], usual)


@pytest.mark.parametrize("status", REDIRECTS)
async def test_a_redirect_is_a_failure_and_nobody_follows_it(
    gateway: RunningGateway, vendor: MockVendor, elsewhere: MockVendor, status: int
) -> None:
    before = vendor.total

    ended = await gateway.run(chat(f"moody/moved-{status}"))

    assert ended["error"]["error"]["code"] == "upstream_unexpected_status"
    assert vendor.total == before + 1
    assert elsewhere.total == 0


async def test_the_watch_on_elsewhere_would_notice(elsewhere: MockVendor, gateway: RunningGateway) -> None:
    """The control: a call that does go there is counted, and forgotten again."""
    response = await gateway.client.post(f"{elsewhere.url}/v1/chat/completions", json=chat("echo"))

    assert response.status_code == 200
    assert elsewhere.total == 1
    elsewhere.clear_calls()
