"""What goes wrong between us and a vendor, and what the transport makes of it: rows F15 to F21 as far as they reach it."""

import asyncio
import gzip
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest
from wreq import exceptions

from support.bombs import CODINGS, compressed
from support.transports import (
    LONG,
    a_call,
    failed,
    opened,
    replied,
    saying,
    saying_and_hanging_up,
    seconds,
)
from support.upstream_server import Peer, Request, chunk, head, serving, unused_port
from tidegate.domain.failures import FailureCode
from tidegate.transport import Limits
from tidegate.transport.trouble import TROUBLE, failure_of

pytestmark = pytest.mark.anyio

CHUNKED = "transfer-encoding: chunked"
KIBIBYTE = 1024


async def test_f15_an_unknown_name_is_told_as_dns_and_nothing_was_sent() -> None:
    # A label of 64 characters is refused by the resolver itself: no name server is asked.
    async with opened() as transport:
        failure = await failed(
            transport.send(a_call(f"http://{'x' * 64}.invalid/v1"), time_limit=LONG),
            FailureCode.CONNECTION_FAILED,
        )

        assert failure.message == 'could not reach provider "acme" (dns)'
        assert not failure.was_sent


async def test_f16_a_refused_connection_was_not_sent() -> None:
    async with opened() as transport:
        failure = await failed(
            transport.send(a_call(f"http://127.0.0.1:{unused_port()}/v1"), time_limit=LONG),
            FailureCode.CONNECTION_FAILED,
        )

        assert failure.message == 'could not reach provider "acme" (connect)'
        assert not failure.was_sent


async def reset(peer: Peer, request: Request) -> None:
    peer.reset()


@pytest.mark.parametrize("script", [reset, saying_and_hanging_up()], ids=["reset", "closed"])
async def test_f16_a_request_that_is_dropped_may_have_been_billed_and_is_not_sent_again(
    script: Callable[[Peer, Request], Awaitable[None]],
) -> None:
    async with serving(script) as upstream, opened() as transport:
        failure = await failed(
            transport.send(a_call(upstream.url()), time_limit=LONG), FailureCode.CONNECTION_FAILED
        )

        assert failure.message == 'could not reach provider "acme" (reset)'
        assert failure.was_sent
        assert failure.upstream_status is None
        assert len(upstream.requests) == 1


async def test_f16_a_request_dropped_on_a_used_connection_is_not_sent_again_either() -> None:
    async def answer_once(peer: Peer, request: Request) -> None:
        if request.body == b"first":
            await peer.reply(b"ok")
        else:
            peer.reset()

    async with serving(answer_once) as upstream, opened() as transport:
        await replied(transport.send(a_call(upstream.url(), body=b"first"), time_limit=LONG))
        failure = await failed(
            transport.send(a_call(upstream.url(), body=b"second"), time_limit=LONG),
            FailureCode.CONNECTION_FAILED,
        )

        assert failure.was_sent
        assert [request.body for request in upstream.requests] == [b"first", b"second"]
        assert upstream.connections == 1


async def test_f16_a_connection_that_the_vendor_closed_while_idle_costs_nothing() -> None:
    async def answer_and_hang_up(peer: Peer, request: Request) -> None:
        await peer.reply(b"ok")
        peer.hang_up()

    async with serving(answer_and_hang_up) as upstream, opened() as transport:
        for _ in range(20):
            await replied(transport.send(a_call(upstream.url()), time_limit=LONG))
            await upstream.until(lambda: not upstream.peers)

        assert len(upstream.requests) == 20


@pytest.mark.parametrize(
    "beginning",
    [
        head("content-length: 50") + b"ab",
        head(f"content-length: {1 << 20}") + b"ab",
        head(CHUNKED) + chunk(b"ab"),
        head(CHUNKED),
    ],
    ids=["announced", "long", "chunked", "nothing"],
)
async def test_f17_silence_in_the_body_is_bounded(beginning: bytes) -> None:
    async with serving(saying(beginning)) as upstream, opened(Limits(idle_timeout=seconds(0.2))) as transport:
        began = asyncio.get_running_loop().time()
        failure = await failed(transport.send(a_call(upstream.url()), time_limit=LONG), FailureCode.TIMEOUT)

        assert asyncio.get_running_loop().time() - began < 1
        assert failure.message == 'provider "acme" did not answer within 0.2 s (idle)'
        assert failure.was_sent
        assert failure.upstream_status == 200
        await upstream.until(lambda: not upstream.peers, within=1)


async def test_f17_the_time_limit_counts_on_while_the_body_comes() -> None:
    async with serving(saying(head(CHUNKED) + chunk(b"ab"))) as upstream, opened() as transport:
        failure = await failed(
            transport.send(a_call(upstream.url()), time_limit=seconds(0.3)), FailureCode.TIMEOUT
        )

        assert failure.message == 'provider "acme" did not answer within 0.3 s'
        await upstream.until(lambda: not upstream.peers, within=1)


async def endless_events(peer: Peer, request: Request) -> None:
    await peer.send(head(CHUNKED, "content-type: text/event-stream"))
    while True:
        await peer.send(chunk(b"data: {}\n\n" * 500))


async def endless_line(peer: Peer, request: Request) -> None:
    await peer.send(head())
    while True:
        await peer.send(b"x" * 4096)


@pytest.mark.parametrize(
    "script",
    [endless_events, endless_line, saying(head("content-length: 1000000000"))],
    ids=["events", "line", "announced"],
)
async def test_f19_a_body_above_the_limit_is_refused(
    script: Callable[[Peer, Request], Awaitable[None]],
) -> None:
    async with (
        serving(script) as upstream,
        opened(Limits(max_response_bytes=100 * KIBIBYTE)) as transport,
    ):
        failure = await failed(
            transport.send(a_call(upstream.url()), time_limit=LONG), FailureCode.RESPONSE_TOO_LARGE
        )

        assert failure.message == 'response of provider "acme" exceeds 102400 bytes'
        assert failure.was_sent
        await upstream.until(lambda: not upstream.peers, within=1)


@pytest.mark.parametrize("form", ["announced", "chunked", *CODINGS])
async def test_f19_a_body_of_exactly_the_limit_is_taken(form: str) -> None:
    async def script(peer: Peer, request: Request) -> None:
        body = b"x" * (200 * KIBIBYTE + int(request.target.removeprefix("/")))
        if form == "announced":
            await peer.reply(body)
        elif form == "chunked":
            await peer.send(head(CHUNKED), chunk(body), chunk(b""))
        else:
            await peer.reply(compressed(form, body), f"content-encoding: {form}")

    async with (
        serving(script) as upstream,
        opened(Limits(max_response_bytes=200 * KIBIBYTE)) as transport,
    ):
        reply = await replied(transport.send(a_call(upstream.url("/0")), time_limit=LONG))
        await failed(
            transport.send(a_call(upstream.url("/1")), time_limit=LONG), FailureCode.RESPONSE_TOO_LARGE
        )

        assert reply.body == b"x" * 200 * KIBIBYTE


async def test_f19_a_flood_of_one_byte_chunks_does_not_multiply_in_memory() -> None:
    """Each part may hold on to the network buffer it came in, so parts must be copied."""
    crumbs = chunk(b"x") * 500

    async def script(peer: Peer, request: Request) -> None:
        await peer.send(head(CHUNKED))
        for _ in range(20):
            await peer.send(crumbs)
        await peer.send(chunk(b""))

    async with serving(script) as upstream, opened() as transport:
        tracemalloc.start()
        try:
            reply = await replied(transport.send(a_call(upstream.url()), time_limit=LONG))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert reply.body == b"x" * 10_000
        assert peak < 500 * KIBIBYTE


async def test_f19_headers_without_end_are_refused() -> None:
    async def endless_headers(peer: Peer, request: Request) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await peer.send(b"x-more: " + b"x" * 1000 + b"\r\n")

    async with serving(endless_headers) as upstream, opened() as transport:
        failure = await failed(
            transport.send(a_call(upstream.url()), time_limit=LONG), FailureCode.CONNECTION_FAILED
        )

        assert failure.was_sent
        await upstream.until(lambda: not upstream.peers, within=1)


@pytest.mark.parametrize(
    "said",
    {
        "short": head("content-length: 20") + b"ab",
        "long and short": head(f"content-length: {1 << 20}") + b"ab",
        "bad chunk": head(CHUNKED) + b"zz\r\nab\r\n",
        "unfinished chunks": head(CHUNKED) + chunk(b"ab"),
        "compressed and short": head("content-length: 500", "content-encoding: gzip") + gzip.compress(b"ab"),
    }.items(),
    ids=lambda case: case[0],
)
async def test_f20_a_reply_that_breaks_off_was_sent_and_keeps_its_status(said: tuple[str, bytes]) -> None:
    async with serving(saying_and_hanging_up(said[1])) as upstream, opened() as transport:
        failure = await failed(
            transport.send(a_call(upstream.url()), time_limit=LONG), FailureCode.CONNECTION_FAILED
        )

        assert failure.message == 'could not reach provider "acme" (reset)'
        assert failure.was_sent
        assert failure.upstream_status == 200


@pytest.mark.parametrize(
    "said",
    {
        "not HTTP": b"hello\r\n\r\n",
        "two lengths": head("content-length: 2", "content-length: 3") + b"abc",
        "negative length": head("content-length: -2") + b"ab",
        "unfinished headers": b"HTTP/1.1 200 OK\r\ncontent-",
    }.items(),
    ids=lambda case: case[0],
)
async def test_f20_headers_that_cannot_be_read_were_answered_all_the_same(said: tuple[str, bytes]) -> None:
    async with serving(saying_and_hanging_up(said[1])) as upstream, opened() as transport:
        failure = await failed(
            transport.send(a_call(upstream.url()), time_limit=LONG), FailureCode.CONNECTION_FAILED
        )

        assert failure.message == 'could not reach provider "acme" (reset)'
        assert failure.was_sent
        assert failure.upstream_status is None


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("body", [b"not compressed at all", b""], ids=["other", "empty"])
async def test_f20_a_body_that_does_not_decompress_is_unusable(coding: str, body: bytes) -> None:
    async def script(peer: Peer, request: Request) -> None:
        await peer.reply(body or compressed(coding, b"hello" * 9)[:-3], f"content-encoding: {coding}")

    async with serving(script) as upstream, opened() as transport:
        failure = await failed(
            transport.send(a_call(upstream.url()), time_limit=LONG), FailureCode.INVALID_RESPONSE
        )

        assert failure.message == 'provider "acme" sent an unusable response'
        assert failure.was_sent
        assert failure.upstream_status == 200


async def endless_refusal(peer: Peer, request: Request) -> None:
    await peer.send(head(CHUNKED, "retry-after: 7", status=429))
    while True:
        await peer.send(chunk(b"x" * 4096))


@pytest.mark.parametrize(
    "script",
    [
        saying_and_hanging_up(head("content-length: 20", "retry-after: 7", status=429) + b"ab"),
        saying(head("content-length: 20", "retry-after: 7", status=429) + b"ab"),
        endless_refusal,
    ],
    ids=["broken off", "silent", "endless"],
)
async def test_f20_a_refusal_counts_whatever_becomes_of_its_body(
    script: Callable[[Peer, Request], Awaitable[None]],
) -> None:
    limits = Limits(idle_timeout=seconds(0.2), max_response_bytes=100 * KIBIBYTE)
    async with serving(script) as upstream, opened(limits) as transport:
        reply = await replied(transport.send(a_call(upstream.url()), time_limit=LONG))

        assert reply.status == 429
        assert reply.headers["retry-after"] == "7"
        assert reply.body == b""
        await upstream.until(lambda: not upstream.peers, within=1)


async def test_f21_ninety_headers_are_fine_and_two_hundred_are_not() -> None:
    async def script(peer: Peer, request: Request) -> None:
        count = int(request.target.removeprefix("/"))
        await peer.reply(b"", *(f"retry-after: {index}" for index in range(count)), status=429)

    async with serving(script) as upstream, opened() as transport:
        reply = await replied(transport.send(a_call(upstream.url("/90")), time_limit=LONG))
        failure = await failed(
            transport.send(a_call(upstream.url("/200")), time_limit=LONG), FailureCode.CONNECTION_FAILED
        )

        assert reply.headers["retry-after"] == "89"
        assert failure.was_sent


NOT_FROM_A_CALL = {"BuilderError", "RedirectError", "RustPanic", "StatusError", "WebSocketError"}


@pytest.mark.parametrize("name", sorted(set(exceptions.__all__) - NOT_FROM_A_CALL))
async def test_whatever_the_client_raises_becomes_a_failure(name: str) -> None:
    kind = getattr(exceptions, name)

    failure = failure_of(kind("https://api.example"), "acme", None)

    assert issubclass(kind, TROUBLE)
    assert "api.example" not in failure.message
    assert failure.was_sent == (name not in {"ConnectionError", "ProxyConnectionError"})
