"""What a script can do to a call: delays, limits, errors, and replies that are broken on the wire."""

import asyncio
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from mock_vendor.client import playing, rule, until_busy, until_idle

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Resets and cuts reach below the event loop, so they are tried on both."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(autouse=True)
def _the_server_has_nothing_to_complain_of(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.message for record in caplog.records if record.name.startswith("uvicorn")] == []


async def test_the_first_rule_that_matches_answers() -> None:
    script = {
        "rules": [
            {"model": "gpt-4o", "api_key": "sk-poor*", "status": 402},
            {"model": "gpt-*-mini", "status": 418},
            {"model": "gpt-4o", "first": 1, "status": 500},
            {"model": "echo", "status": 404},
        ],
        "default": {"status": 410},
    }
    async with playing(script) as (_, client):
        asked = [
            ("gpt-4o", "sk-poor-1"),
            ("gpt-4o-mini", "sk-1"),
            ("gpt-4o", "sk-1"),
            ("gpt-4o", "sk-1"),
            ("echo", "sk-1"),
            ("fail", "sk-1"),
            ("anything", "sk-1"),
        ]
        statuses = [(await client.ask(model, key=key)).status for model, key in asked]

    assert statuses == [402, 418, 500, 410, 404, 500, 410]


@pytest.mark.parametrize(
    ("latency", "at_least", "at_most"),
    [(0.05, 0.05, 2), ({"min": 0.03, "max": 0.06}, 0.03, 2), ({"mean": 0.05, "sigma": 0}, 0.05, 2)],
)
async def test_latency_delays_the_answer(latency: Any, at_least: float, at_most: float) -> None:
    async with playing(rule(latency=latency)) as (_, client):
        start = time.perf_counter()
        reply = await client.ask("x")
        took = time.perf_counter() - start

    assert reply.status == 200
    # A hundredth less: two clocks take part.
    assert at_least * 0.99 <= took < at_most


@pytest.mark.parametrize(
    ("error", "content_type"),
    [
        ({"error": {"message": "no credit", "type": "insufficient_quota"}}, "application/json"),
        ("<html><body>502 Bad Gateway</body></html>", "text/html"),
        ("upstream connect error", "text/plain"),
    ],
)
async def test_an_error_body_is_sent_as_given(error: Any, content_type: str) -> None:
    async with playing(rule(status=502, error=error)) as (vendor, client):
        reply = await client.ask("x")
        usage = vendor.calls()[0].usage

    assert (reply.status, reply.header("content-type")) == (502, content_type)
    assert reply.body.decode() == error if isinstance(error, str) else reply.json == error
    assert usage is None


async def test_an_error_body_can_come_with_status_200() -> None:
    async with playing(rule(error={"error": {"message": "sorry"}})) as (_, client):
        reply = await client.ask("x")

    assert (reply.status, reply.json) == (200, {"error": {"message": "sorry"}})


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (1, "1"),
        (-5, "-5"),
        (1e9, "1000000000"),
        (0.5, "0.5"),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"),
        ("soon", "soon"),
    ],
)
async def test_retry_after_is_sent_as_given(given: float | str, sent: str) -> None:
    async with playing(rule(status=429, retry_after=given)) as (_, client):
        reply = await client.ask("x")

    assert reply.header("retry-after") == sent


async def test_headers_are_added_repeated_and_replaced() -> None:
    headers = {
        "Location": "http://169.254.169.254/",
        "retry-after": [str(n) for n in range(90)],
        "Content-Type": "x/y",
    }
    async with playing(rule(status=302, headers=headers)) as (_, client):
        reply = await client.ask("x")

    assert (reply.status, reply.header("location")) == (302, "http://169.254.169.254/")
    assert [value for name, value in reply.headers if name == "retry-after"] == headers["retry-after"]
    assert [value for name, value in reply.headers if name == "content-type"] == ["x/y"]


async def test_a_share_of_calls_fails_and_only_those_carry_the_error() -> None:
    members: dict[str, Any] = {
        "fail_rate": 0.5,
        "fail_status": 529,
        "error": {"error": {"message": "overloaded"}},
        "retry_after": 2,
    }
    async with playing(rule(**members), seed=1) as (_, client):
        replies = [await client.ask("x") for _ in range(40)]

    failed = [reply for reply in replies if reply.status == 529]
    answered = [reply for reply in replies if reply.status == 200]
    assert 8 < len(failed) < 32
    assert len(failed) + len(answered) == 40
    assert all(reply.json["error"]["message"] == "overloaded" for reply in failed)
    assert {reply.header("retry-after") for reply in failed} == {"2"}
    assert all("choices" in reply.json and reply.header("retry-after") is None for reply in answered)


async def test_a_rate_limit_lets_a_burst_pass_and_refills() -> None:
    limit = {"requests_per_second": 20, "burst": 2}
    async with playing(rule(rate_limit=limit, retry_after=7)) as (_, client):
        burst = await asyncio.gather(*(client.ask("x") for _ in range(6)))
        await asyncio.sleep(0.2)
        later = await client.ask("x")

    refused = [reply for reply in burst if reply.status == 429]
    assert 1 <= len(refused) <= 4
    assert {reply.header("retry-after") for reply in refused} == {"7"}
    assert later.status == 200


@pytest.mark.parametrize(
    ("over_limit", "statuses"), [("refuse", [200, 200, 429]), ("count", [200, 200, 200])]
)
async def test_calls_above_the_concurrency_limit_are_refused_or_counted(
    over_limit: str, statuses: list[int]
) -> None:
    script = rule(concurrency_limit=2, latency=0.3, over_limit=over_limit)
    async with playing(script) as (vendor, client):
        replies = await asyncio.gather(*(client.ask("x") for _ in range(3)))
        totals = vendor.totals()
        marked = [call.over_limit for call in vendor.calls()]
        afterwards = await client.ask("x")

    assert sorted(reply.status for reply in replies) == statuses
    assert (totals["over_limit"], totals["most_in_flight"]) == (1, 3)
    assert marked == [False, False, True]
    assert afterwards.status == 200


async def test_the_shape_of_the_answer_is_scripted() -> None:
    async with playing(rule(size=200_000, tokens=12, finish_reason="length")) as (vendor, client):
        reply = await client.ask("x")
        usage = vendor.calls()[0].usage

    completion = ChatCompletion.model_validate_json(reply.body, strict=True)
    assert completion.choices[0].message.content == "x" * 200_000
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert usage is not None
    assert completion.usage.completion_tokens == usage.completion_tokens == 12


@pytest.mark.parametrize("body", ["", "{", '{"choices": []}', "null", "<html>"])
async def test_the_body_is_scripted(body: str) -> None:
    async with playing(rule(body=body)) as (_, client):
        reply = await client.ask("x")

    assert (reply.status, reply.body.decode(), reply.header("content-length")) == (200, body, str(len(body)))


async def test_a_reply_without_a_body_has_none() -> None:
    async with playing(rule(status=204)) as (_, client):
        reply = await client.ask("x")

    assert (reply.status, reply.body) == (204, b"")


async def test_silence_before_the_headers_lasts_until_the_client_leaves() -> None:
    async with playing(rule(hang="before_headers")) as (vendor, client):
        async with client.asking("x") as reader:
            await until_busy(vendor)
            came = await _within(0.1, reader)
        await until_idle(vendor)
        call = vendor.calls()[0]

    assert came == b""
    assert (call.status, call.hung_up) == (None, True)


async def test_a_hang_up_after_a_large_request_is_noticed() -> None:
    async with playing(rule(latency=30)) as (vendor, client):
        async with client.asking("x", text="x" * 2_000_000):
            await until_busy(vendor)
        await until_idle(vendor)

        assert vendor.calls()[0].hung_up


async def test_silence_in_the_body_lasts_until_the_client_leaves() -> None:
    async with playing(rule(hang="in_body")) as (vendor, client):
        async with client.asking("x") as reader:
            head = await reader.readuntil(b"\r\n\r\n")
            some = await reader.read(65536)
            rest = await _within(0.1, reader)
        await until_idle(vendor)
        call = vendor.calls()[0]

    declared = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    assert head.startswith(b"HTTP/1.1 200")
    assert 0 < len(some) < declared
    assert rest == b""
    assert (call.status, call.hung_up) == (200, True)


async def test_the_body_drips() -> None:
    async with playing(rule(body="x" * 40, drip=100)) as (vendor, client):
        start = time.perf_counter()
        reply = await client.ask("x")
        took = time.perf_counter() - start
        call = vendor.calls()[0]

    assert reply.body == b"x" * 40
    assert 0.35 < took < 3
    assert not call.hung_up


async def test_a_drip_ends_when_the_client_leaves() -> None:
    async with playing(rule(drip=1)) as (vendor, client):
        async with client.asking("x") as reader:
            await reader.readuntil(b"\r\n\r\n")
        await until_idle(vendor)

        assert vendor.calls()[0].hung_up


async def test_an_endless_body_ends_when_the_client_leaves() -> None:
    script = rule(body="data: more\n\n", endless=True, headers={"content-type": "text/event-stream"})
    async with playing(script) as (vendor, client):
        async with client.asking("x") as reader:
            received = 0
            while received < 2_000_000:
                received += len(await reader.read(65536))
        await until_idle(vendor)

        assert vendor.calls()[0].hung_up


async def test_a_large_answer_is_cut_when_the_client_leaves() -> None:
    async with playing(rule(size=10**12)) as (vendor, client):
        async with client.asking("x") as reader:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(1_000_000)
        await until_idle(vendor)
        call = vendor.calls()[0]

    assert b"content-length: 1000000000" in head
    assert call.hung_up


@pytest.mark.parametrize(("encoding", "window"), [("gzip", 31), ("deflate", 15)])
@pytest.mark.parametrize("size", [1, 5_000_000])
async def test_a_bomb_is_small_on_the_wire(encoding: str, window: int, size: int) -> None:
    async with playing(rule(bomb={"size": size, "encoding": encoding})) as (_, client):
        reply = await client.ask("x")

    unpacker = zlib.decompressobj(window)
    assert reply.header("content-encoding") == encoding
    assert unpacker.decompress(reply.body) == bytes(size)
    assert unpacker.eof
    assert unpacker.unused_data == b""
    assert len(reply.body) < size / 500 + 100


async def test_a_reset_before_the_headers() -> None:
    async with playing(rule(reset="before_headers")) as (vendor, client):
        with pytest.raises(ConnectionResetError):
            await client.raw("x")
        await until_idle(vendor)
        call = vendor.calls()[0]

    assert (call.status, call.hung_up) == (None, False)


async def test_a_reset_in_the_body() -> None:
    async with playing(rule(reset="in_body")) as (vendor, client):
        async with client.asking("x") as reader:
            head = await reader.readuntil(b"\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                await reader.read(-1)
        await until_idle(vendor)
        call = vendor.calls()[0]

    assert head.startswith(b"HTTP/1.1 200")
    assert (call.status, call.hung_up) == (200, False)


@pytest.mark.parametrize("off_by", [7, -7])
async def test_a_declared_length_is_wrong(off_by: int) -> None:
    async with playing(rule(body="x" * 50, content_length_off_by=off_by)) as (vendor, client):
        head, body = await client.raw("x")
        await until_idle(vendor)
        call = vendor.calls()[0]

    assert f"content-length: {50 + off_by}".encode() in head.split(b"\r\n")
    assert body == b"x" * 50
    assert (call.status, call.hung_up) == (200, False)


async def test_a_chunk_without_a_size() -> None:
    async with playing(rule(bad_chunk=True)) as (_, client):
        head, body = await client.raw("x")

    assert b"transfer-encoding: chunked" in head.split(b"\r\n")
    assert body.startswith(b"no-number\r\n")


async def test_trouble_with_one_call_leaves_the_others_alone() -> None:
    script = {"rules": [{"model": "stuck", "hang": "before_headers"}, {"model": "torrent", "size": 10**12}]}
    async with playing(script) as (vendor, client), client.asking("stuck"), client.asking("torrent"):
        await until_busy(vendor, calls=2)
        reply = await client.ask("echo")

    assert reply.status == 200


async def _within(seconds: float, reader: asyncio.StreamReader) -> bytes:
    """What comes in that time."""
    try:
        async with asyncio.timeout(seconds):
            return await reader.read(1)
    except TimeoutError:
        return b""
