"""What the tests of the transport share."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from support.fakes import FakeClock
from support.upstream_server import Peer, Request
from tidegate.domain.failures import Failure, FailureCode
from tidegate.domain.inference import Credential, HttpCall, HttpReply
from tidegate.domain.secret import Secret
from tidegate.transport import Egress, Limits, UpstreamTransport
from tidegate.transport.patience import Patience

KEY = "sk-0123456789-very-secret"
DEFAULT_LIMITS = Limits()
LONG = timedelta(seconds=10)
"""A time limit that no test means to reach."""


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def a_call(url: str, **changes: object) -> HttpCall:
    members: dict[str, object] = {
        "provider": "acme",
        "method": "POST",
        "url": url,
        "headers": (("content-type", "application/json"),),
        "body": b'{"model": "m"}',
        "credential": None,
    }
    return HttpCall(**{**members, **changes})  # type: ignore[arg-type]


def bearer(origin: str) -> Credential:
    return Credential(origin, "authorization", Secret(f"Bearer {KEY}"))


@asynccontextmanager
async def opened(
    limits: Limits = DEFAULT_LIMITS, egress: Mapping[str, Egress] | None = None
) -> AsyncIterator[UpstreamTransport]:
    transport = UpstreamTransport(FakeClock(), egress or {}, limits)
    try:
        yield transport
    finally:
        await transport.close()


async def replied(outcome: Awaitable[HttpReply | Failure]) -> HttpReply:
    reply = await outcome
    assert isinstance(reply, HttpReply), reply
    return reply


async def failed(outcome: Awaitable[HttpReply | Failure], code: FailureCode) -> Failure:
    """The failure, after a look at whether it tells more than it should."""
    failure = await outcome
    assert isinstance(failure, Failure), failure
    assert failure.code is code
    for secret in ("127.0.0.1", "localhost", "http", "/v1", KEY):
        assert secret not in failure.message
    return failure


class Hearing:
    """Tells when the transport has heard of a reply: its headers, then each part of its body."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.happened = asyncio.Event()
        heard = Patience.heard

        def hear(patience: Patience) -> None:
            heard(patience)
            self.happened.set()

        monkeypatch.setattr(Patience, "heard", hear)


async def hang(peer: Peer, request: Request) -> None:
    await peer.gone.wait()


def saying(*parts: bytes) -> Callable[[Peer, Request], Awaitable[None]]:
    """A script that says this and then nothing more."""

    async def script(peer: Peer, request: Request) -> None:
        await peer.send(*parts)
        await peer.gone.wait()

    return script


def saying_and_hanging_up(*parts: bytes) -> Callable[[Peer, Request], Awaitable[None]]:
    async def script(peer: Peer, request: Request) -> None:
        await peer.send(*parts)
        peer.hang_up()

    return script
