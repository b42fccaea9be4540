"""Hosts whose clocks are wrong: the database's alone counts, so nothing ends early and nothing late."""

import asyncio
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from support.fleet import fleet
from support.gateway import CHAT
from support.load import BODY, HEADERS
from support.wire import Answer, Connection
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

AHEAD: Final = 7200
BEHIND: Final = -7200
"""Twice the time a job has: by such a clock it would be over before it began, or never."""
LIFETIME: Final = 2
SLACK: Final = 2.0
SCRIPT: Final = {"rules": [{"model": "hang", "hang": "before_headers"}, {"model": "echo"}]}


async def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with Connection("127.0.0.1", port) as connection:
        return await connection.request(method, path, HEADERS | named, body)


async def test_clocks_that_are_hours_apart(tmp_path: Path, url: str) -> None:
    async with MockVendor.serve(script=SCRIPT) as vendor:
        with fleet(tmp_path, url, vendor.url, gateways=2, workers=1) as three:
            right, wrong = three.gateways
            await three.start_again(right)
            await wrong.start("support.skewed", str(BEHIND), "serve", "--no-worker", "--config")
            await three.workers[0].start(
                "support.skewed",
                str(AHEAD),
                "work",
                "--metrics-port",
                str(three.workers[0].port),
                "--config",
            )

            ended = await an_ordinary_job(wrong.port)
            late = await asyncio.gather(
                seconds_readable(wrong.port, right.port), seconds_to_the_deadline(wrong.port)
            )
            await three.stop()

    assert abs(datetime.fromisoformat(ended["created_at"]).timestamp() - time.time()) < 60
    assert all(LIFETIME - 0.1 <= found <= LIFETIME + SLACK for found in late), late


async def an_ordinary_job(port: int) -> dict[str, Any]:
    """With an hour to live in the queue and an hour to be read."""
    answer = await ask(port, "POST", CHAT, BODY, prefer="wait=20")
    assert answer.status == 200, answer.body
    envelope: dict[str, Any] = answer.json()
    assert envelope["status"] == "completed"
    return envelope


async def seconds_readable(port: int, other: int) -> float:
    """From its end, at both gateways."""
    answer = await ask(port, "POST", CHAT, BODY, prefer="wait=20", x_bf_async_job_result_ttl=str(LIFETIME))
    began = time.monotonic()
    place = f"{CHAT}/{answer.json()['id']}"
    async with asyncio.timeout(10):
        while (found := [(await ask(each, "GET", place)).status for each in (port, other)]) != [404, 404]:
            assert set(found) <= {200, 404}
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def seconds_to_the_deadline(port: int) -> float:
    began = time.monotonic()
    body = BODY.replace(b"openai/echo", b"openai/hang")
    answer = await ask(port, "POST", CHAT, body, prefer="wait=20", x_bf_async_timeout=str(LIFETIME))
    assert answer.json()["error"]["error"]["code"] == "deadline_exceeded", answer.body
    return time.monotonic() - began
