"""What it costs to know who calls: a virtual key, and a token that was verified before."""

import importlib
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.children import dialogue
from benchmarks.children.gateway import built_in
from benchmarks.configuration import AUDIENCE, ISSUER, JWT_SECRET
from benchmarks.load.requests import KEY
from tidegate import bootstrap
from tidegate.api.inbound import BodyRoom, Inbound, Message
from tidegate.api.routing import Router, RouterTools


async def talk(directory: str) -> None:
    tools: list[RouterTools] = []

    def remember(routes: Any, given: RouterTools) -> Router:
        tools.append(given)
        return Router(routes, given)

    # What the router authenticates with is what is measured; there is no other way to it from outside.
    with patch.object(bootstrap, "Router", remember):
        await built_in(Path(directory))
    authenticate = tools[0].authenticate

    async def check(credential: str, count: int) -> dict[str, Any]:
        inbound = _request({"key": KEY, "token": _token()}[credential])
        await authenticate(inbound)
        watch = dialogue.Stopwatch()
        for _ in range(count):
            await authenticate(inbound)
        return watch.sample(count)

    await dialogue.answer({"check": check})


def _request(bearer: str) -> Inbound:
    """A submit's headers."""
    headers = {
        "host": "127.0.0.1",
        "accept": "application/json",
        "user-agent": "tidegate-bench/1",
        "content-type": "application/json",
        "content-length": "1024",
        "authorization": f"Bearer {bearer}",
    }
    scope: Message = {
        "method": "POST",
        "path": "/v1/async/chat/completions",
        "raw_path": b"/v1/async/chat/completions",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    return Inbound(scope, _nothing, lambda: "request", BodyRoom())


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _token() -> str:
    jwt = importlib.import_module("joserfc.jwt")
    jwk = importlib.import_module("joserfc.jwk")
    now = int(time.time())
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "bench", "virtual_key": "bench", "iat": now, "exp": now + 3600,
    }  # fmt: skip
    token: str = jwt.encode({"alg": "HS256"}, claims, jwk.OctKey.import_key(JWT_SECRET))
    return token


if __name__ == "__main__":
    dialogue.run(talk)
