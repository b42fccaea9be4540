"""Vendors that answer without end (F19): their jobs fail, and nobody else notices.

The whole gateway, as a process that watches its event loop and its memory.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.bombs import CODINGS, bomb
from support.gateway import CHAT, chat, configuration
from support.upstream_server import Peer, Request, chunk, head, serving
from support.watching import LONGEST_PAUSE, MOST_MEMORY, WatchedGateway, watched

pytestmark = pytest.mark.anyio

CHUNKED = "transfer-encoding: chunked"
WAYS = ("announced", "line", "events", "answer", *CODINGS)
TRIES = 3
"""What the machine does at the moment is not repeated; what a vendor can do to us is."""
ANSWER = json.dumps({"choices": [{"message": {"role": "assistant", "content": "hi"}}]}).encode()


async def answer_without_end(peer: Peer, request: Request) -> None:
    """The model that was asked for says how."""
    model = json.loads(request.body)["model"]
    match model:
        case "quick":
            await peer.reply(ANSWER)
        case "announced":
            await peer.send(head(f"content-length: {10**9}"), bytes(65536))
        case "line":
            await endless(peer, head(), b"x" * 65536)
        case "events":
            await endless(
                peer, head(CHUNKED, "content-type: text/event-stream"), chunk(b"data: {}\n\n" * 5000)
            )
        case "answer":
            await peer.send(head(CHUNKED), chunk(ANSWER[:-1]))
            await endless(peer, b"", chunk(b" " * 65536))
        case "refusal":
            await endless(peer, head(CHUNKED, status=400), chunk(b'{"error":' * 5000))
        case coding:
            await peer.send(head(CHUNKED, f"content-encoding: {coding}"))
            for part in bomb(coding):
                await peer.send(chunk(part))


async def endless(peer: Peer, start: bytes, part: bytes) -> None:
    await peer.send(start)
    while True:
        await peer.send(part)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """For a gateway that serves the whole file."""
    return "asyncio"


@pytest.fixture(scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WatchedGateway]:
    directory = tmp_path_factory.mktemp("gateway")
    async with serving(answer_without_end) as upstream:
        config = configuration(directory, upstream.url(""))
        async with watched(directory, config) as gateway:
            assert (await ended(gateway, "quick"))["status"] == "completed"
            yield gateway


async def ended(gateway: WatchedGateway, model: str) -> Any:
    answer = await gateway.client.post(CHAT, json=chat(f"openai/{model}"), headers={"prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("way", WAYS)
async def test_f19_an_answer_without_end_costs_its_job_and_nothing_else(
    gateway: WatchedGateway, way: str
) -> None:
    for _ in range(TRIES):
        await gateway.seen()
        job = await ended(gateway, way)
        seen = await gateway.seen()

        assert job["status_code"] == 502
        assert job["error"]["error"]["code"] == "response_too_large"
        assert job["error"]["error"]["message"] == 'response of provider "openai" exceeds 33554432 bytes'
        if seen.pause <= LONGEST_PAUSE and seen.growth <= MOST_MEMORY:
            break
    assert seen.pause <= LONGEST_PAUSE
    assert seen.growth <= MOST_MEMORY


async def test_f19_a_refusal_without_end_is_the_refusal(gateway: WatchedGateway) -> None:
    job = await ended(gateway, "refusal")

    assert job["error"]["error"]["code"] == "upstream_rejected"


async def test_f19_others_are_answered_afterwards(gateway: WatchedGateway) -> None:
    assert (await ended(gateway, "quick"))["status"] == "completed"
