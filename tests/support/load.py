"""Load on a gateway that is another process, which remembers every id it was given, and what became of them."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from support.gateway import CHAT, KEY
from support.wire import Connection

HEADERS: Final = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
BODY: Final = b'{"model":"openai/echo","messages":[{"role":"user","content":"are you there?"}]}'
LARGE: Final = BODY.replace(b"[{", b'[{"role":"system","content":"%b"},{' % (b"a long story. " * 2048))
"""The same question behind 28 KiB of instructions."""


class Load:
    """Submitters that write down every id they were given."""

    def __init__(self, port: int, submitters: int, body: bytes = BODY) -> None:
        self._port = port
        self._submitters = submitters
        self._body = body
        self.acknowledged: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.codes: Counter[str] = Counter()
        """What it was refused for."""
        self.unhelpful = 0
        """Refusals that did not say when to come again."""
        self.refused_at: list[float] = []
        """By the wall clock."""
        self.is_over = False

    async def run(self) -> None:
        await asyncio.gather(*[self._submit_for_ever() for _ in range(self._submitters)])

    async def _submit_for_ever(self) -> None:
        async with Connection("127.0.0.1", self._port) as connection:
            while not self.is_over:
                try:
                    answer = await connection.request("POST", CHAT, HEADERS, self._body)
                except (OSError, asyncio.IncompleteReadError):
                    await asyncio.sleep(0.02)
                    continue
                self.statuses[answer.status] += 1
                if answer.status == 202:
                    self.acknowledged.append(answer.json()["id"])
                else:
                    self.codes[answer.json()["error"]["code"]] += 1
                    self.unhelpful += "retry-after" not in answer.headers
                    self.refused_at.append(time.time())
                    await asyncio.sleep(0.02)


def acknowledged(loads: Sequence[Load]) -> list[str]:
    return [job_id for load in loads for job_id in load.acknowledged]


async def again(load: Load, since: float, within: float) -> float:
    """Seconds from ``since``, monotonic, until the gateway accepts as before."""
    found = len(load.acknowledged)
    async with asyncio.timeout(within):
        while len(load.acknowledged) == found:
            await asyncio.sleep(0.02)
    return time.monotonic() - since


async def until_all_ended(port: int, ids: list[str]) -> None:
    """Waits until no job is left unfinished, then looks at each."""
    give_up = time.monotonic() + 60
    async with Connection("127.0.0.1", port) as connection:
        unfinished = ["unknown"]
        while unfinished:
            assert time.monotonic() < give_up, f"{len(unfinished)} jobs did not end"
            answer = await connection.request(
                "GET", "/v1/async/jobs?status=pending&status=processing&limit=1", HEADERS
            )
            unfinished = answer.json()["data"]
            await asyncio.sleep(0.05)
        for job_id in ids:
            answer = await connection.request("GET", f"{CHAT}/{job_id}", HEADERS)
            assert answer.status == 200, (job_id, answer.body)
            envelope = answer.json()
            assert envelope["status"] == "completed", envelope
            assert envelope["result"]["choices"][0]["message"]["content"] == "are you there?"


def read(path: Path, sql: str) -> list[Any]:
    """What the stopped gateway left in its database."""
    database = apsw.Connection(str(path))
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()
