"""A call as the vendor sees it, a reply as the gateway sees it, and what happens to the connection."""

import asyncio
import gzip
import json
from datetime import UTC, datetime

import pytest

from support.bombs import CODINGS, compressed
from support.transports import KEY, LONG, a_call, bearer, opened, replied
from support.upstream_server import Peer, Request, chunk, head, serving
from tidegate import __version__
from tidegate.transport import Egress

pytestmark = pytest.mark.anyio

CHUNKED = "transfer-encoding: chunked"
MEBIBYTE = 1024 * 1024


async def answer(peer: Peer, request: Request) -> None:
    await peer.reply(request.body)


async def test_the_request_is_sent_as_it_was_built_and_nothing_is_added_to_it() -> None:
    async with serving(answer) as upstream, opened() as transport:
        url = upstream.url("/v1/a%2Fb/../c?x=%zz&y=1")
        call = a_call(url, headers=(("X-Title", "a b"),), credential=bearer(upstream.url("")))
        await replied(transport.send(call, time_limit=LONG))

        (request,) = upstream.requests
        assert (request.method, request.target) == ("POST", "/v1/a%2Fb/../c?x=%zz&y=1")
        assert request.body == call.body
        headers = dict(request.headers)
        assert set(headers.pop("accept-encoding").split(",")) == {"gzip", "deflate", "br", "zstd"}
        assert headers == {
            "user-agent": f"tidegate/{__version__}",
            "x-title": "a b",
            "authorization": f"Bearer {KEY}",
            "host": f"127.0.0.1:{upstream.port}",
            "content-length": str(len(call.body)),
        }
        assert len(request.headers) == len(headers) + 1


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH"])
async def test_other_methods_are_sent_too(method: str) -> None:
    async with serving(answer) as upstream, opened() as transport:
        await replied(transport.send(a_call(upstream.url(), method=method, body=b""), time_limit=LONG))

        assert upstream.requests[0].method == method


@pytest.mark.parametrize("status", [200, 201, 204, 302, 400, 404, 429, 500, 503, 599])
async def test_a_reply_of_any_status_is_handed_on_whole(status: int) -> None:
    async def script(peer: Peer, request: Request) -> None:
        body = b"" if status == 204 else b'{"error": "why"}'
        await peer.reply(body, "X-Request-ID: one", "x-request-id: two", "Retry-After: 7", status=status)

    async with serving(script) as upstream, opened() as transport:
        reply = await replied(transport.send(a_call(upstream.url()), time_limit=LONG))

        assert reply.status == status
        assert reply.headers["x-request-id"] == "two"
        assert reply.headers["retry-after"] == "7"
        assert reply.body == (b"" if status == 204 else b'{"error": "why"}')
        assert reply.received_at == datetime(2026, 3, 2, 9, 15, 4, 123000, UTC)


@pytest.mark.parametrize(
    "said",
    {
        "announced": head("content-length: 5") + b"hello",
        "chunked": head(CHUNKED) + chunk(b"hel") + chunk(b"lo") + chunk(b""),
        "with trailers": head(CHUNKED) + chunk(b"hello") + b"0\r\nx-checksum: 1\r\n\r\n",
        "until the end": head() + b"hello",
        "old": b"HTTP/1.0 200 OK\r\n\r\nhello",
        "after notes": head(status=100) + head("link: </style>", status=103) + head("content-length: 5") + b"hello",
        "compressed": head(CHUNKED, "content-encoding: gzip") + chunk(gzip.compress(b"hello")) + chunk(b""),
    }.items(),
    ids=lambda case: case[0],
)  # fmt: skip
async def test_a_body_may_be_framed_in_any_way(said: tuple[str, bytes]) -> None:
    async def script(peer: Peer, request: Request) -> None:
        await peer.send(said[1])
        peer.hang_up()

    async with serving(script) as upstream, opened() as transport:
        reply = await replied(transport.send(a_call(upstream.url()), time_limit=LONG))

        assert (reply.status, reply.body) == (200, b"hello")


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 5 * MEBIBYTE])
async def test_bodies_of_any_size_go_both_ways_unchanged(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with serving(answer) as upstream, opened() as transport:
        reply = await replied(transport.send(a_call(upstream.url(), body=body), time_limit=LONG))

        assert upstream.requests[0].body == body
        assert reply.body == body


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_compressed_body_arrives_decompressed_and_no_header_says_otherwise(coding: str) -> None:
    body = json.dumps(list(range(100_000))).encode()

    async def script(peer: Peer, request: Request) -> None:
        await peer.reply(compressed(coding, body), f"content-encoding: {coding}")

    async with serving(script) as upstream, opened() as transport:
        reply = await replied(transport.send(a_call(upstream.url()), time_limit=LONG))

        assert reply.body == body
        assert "content-encoding" not in reply.headers
        assert "content-length" not in reply.headers


async def test_a_connection_is_used_again() -> None:
    async with serving(answer) as upstream, opened() as transport:
        for number in range(5):
            body = b"%d" % number
            reply = await replied(transport.send(a_call(upstream.url(), body=body), time_limit=LONG))
            assert reply.body == body

        assert upstream.connections == 1


async def test_calls_at_once_each_get_their_own_reply() -> None:
    everybody_is_here = asyncio.Event()

    async def meet(peer: Peer, request: Request) -> None:
        if len(upstream.requests) == 64:
            everybody_is_here.set()
        await everybody_is_here.wait()
        await peer.reply(request.body)

    async with serving(meet) as upstream, opened() as transport:
        bodies = [b"%d" % number for number in range(64)]
        replies = await asyncio.gather(
            *(replied(transport.send(a_call(upstream.url(), body=body), time_limit=LONG)) for body in bodies)
        )

        assert [reply.body for reply in replies] == bodies
        assert upstream.connections == 64


async def test_no_more_idle_connections_are_kept_than_the_pool_may_hold() -> None:
    everybody_is_here = asyncio.Event()

    async def meet(peer: Peer, request: Request) -> None:
        if len(upstream.requests) == 8:
            everybody_is_here.set()
        await everybody_is_here.wait()
        await peer.reply(b"ok")

    async with serving(meet) as upstream, opened(egress={"acme": Egress(pool_size=3)}) as transport:
        await asyncio.gather(
            *(replied(transport.send(a_call(upstream.url()), time_limit=LONG)) for _ in range(8))
        )

        await upstream.until(lambda: len(upstream.peers) == 3)


async def test_providers_with_the_same_way_out_share_their_connections_and_others_do_not() -> None:
    egress = {"acme": Egress(pool_size=9), "same": Egress(pool_size=9), "other": Egress(pool_size=8)}
    async with serving(answer) as upstream, opened(egress=egress) as transport:
        for provider in ("acme", "same", "acme"):
            await replied(transport.send(a_call(upstream.url(), provider=provider), time_limit=LONG))
        assert upstream.connections == 1

        await replied(transport.send(a_call(upstream.url(), provider="other"), time_limit=LONG))
        assert upstream.connections == 2


async def test_a_cookie_is_not_kept_for_the_next_caller() -> None:
    async def script(peer: Peer, request: Request) -> None:
        await peer.reply(b"", "set-cookie: session=1; path=/")

    async with serving(script) as upstream, opened() as transport:
        for _ in range(2):
            await replied(transport.send(a_call(upstream.url()), time_limit=LONG))

        assert [request.header("cookie") for request in upstream.requests] == [None, None]


async def test_closing_drops_idle_connections_and_refuses_new_calls() -> None:
    async with serving(answer) as upstream, opened() as transport:
        await replied(transport.send(a_call(upstream.url()), time_limit=LONG))
        assert len(upstream.peers) == 1

        await transport.close()

        await upstream.until(lambda: not upstream.peers, within=1)
        with pytest.raises(RuntimeError, match=r"closed"):
            await transport.send(a_call(upstream.url()), time_limit=LONG)


async def test_closing_lets_a_running_call_end() -> None:
    may_answer = asyncio.Event()

    async def wait(peer: Peer, request: Request) -> None:
        await may_answer.wait()
        await peer.reply(b"done")

    async with serving(wait) as upstream, opened() as transport:
        task = asyncio.create_task(replied(transport.send(a_call(upstream.url()), time_limit=LONG)))
        await upstream.until(lambda: bool(upstream.requests))

        await transport.close()
        may_answer.set()

        assert (await task).body == b"done"
        await upstream.until(lambda: not upstream.peers, within=1)
