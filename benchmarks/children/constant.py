"""Yardstick (a): uvicorn answering a constant from a plain ASGI callable, with nothing else in the way."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def constant(receipt: bytes, result: bytes) -> Callable[[Message, Receive, Send], Awaitable[None]]:
    """A POST is read to its end and answered with ``receipt``, anything else with ``result``."""
    starts = {body: _start(status, body) for status, body in ((202, receipt), (200, result))}

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        body = result
        if scope["method"] == "POST":
            body = receipt
            while (await receive()).get("more_body"):
                pass
        await send(starts[body])
        await send({"type": "http.response.body", "body": body})

    return app


def _start(status: int, body: bytes) -> Message:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return {"type": "http.response.start", "status": status, "headers": headers}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--receipt", type=int, required=True, help="bytes of the answer to a POST")
    parser.add_argument("--result", type=int, required=True, help="bytes of the answer to a GET")
    asked = parser.parse_args()
    config = uvicorn.Config(
        constant(b"r" * asked.receipt, b"g" * asked.result),
        port=asked.port,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        ws="none",
        access_log=False,
        log_level="warning",
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main()
