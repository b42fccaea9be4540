"""The database is restarted, or hangs up on somebody, under load: nothing is lost, and nobody makes a noise about it.

``TIDEGATE_DATABASE_RESTARTS`` says how often it is restarted.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from benchmarks.machine.postgres import PostgresServer
from support.fleet import Fleet, rows, under_load
from support.load import again
from support.processes import GatewayProcess

pytestmark = pytest.mark.anyio

RESTARTS: Final = int(os.environ.get("TIDEGATE_DATABASE_RESTARTS", "2"))
HOW: Final = (signal.SIGQUIT, signal.SIGINT)
"""Immediate, as after a crash; and fast, in order."""
RESUMES_WITHIN: Final = 5.0
SLACK: Final = 1.0
PAUSE: Final = 0.9
"""Between two log lines of a process about it."""


async def test_the_database_is_restarted(
    tmp_path: Path, url: str, server: PostgresServer, record_property: Callable[[str, object], None]
) -> None:
    outages: list[tuple[float, float]] = []
    async with under_load(tmp_path, url, 2) as (four, loads):
        for number in range(RESTARTS):
            await asyncio.sleep(1)
            began = time.time()
            await asyncio.to_thread(server.stop, HOW[number % len(HOW)])
            await asyncio.sleep(1)
            await asyncio.to_thread(server.start)
            outages.append((began, time.time()))
            await asyncio.gather(*[again(load, time.monotonic(), RESUMES_WITHIN) for load in loads])
        await asyncio.sleep(1)

    record_property("tried", len(outages))
    refused = [at for load in loads for at in load.refused_at]
    assert refused
    assert all(is_during(at, outages) for at in refused)
    claims = [float(at) for (at,) in await four.rows("SELECT started_at / 1000.0 FROM attempts")]
    for _, ended in outages:
        assert min(at for at in claims if at > ended) - ended < RESUMES_WITHIN
    for member in four.members:
        complaints = complaints_of(member)
        assert any(is_during(at, outages) for at in complaints), "the control: somebody says that it is away"
        assert min((late - early for early, late in pairwise(complaints)), default=1) > PAUSE


def is_during(at: float, outages: list[tuple[float, float]]) -> bool:
    return any(began <= at <= ended + SLACK for began, ended in outages)


def complaints_of(member: GatewayProcess) -> list[float]:
    """When it logged something that is wrong, the configuration aside."""
    lines = [json.loads(line) for line in member.log.read_text().splitlines() if line.startswith("{")]
    return [
        datetime.fromisoformat(line["ts"]).timestamp()
        for line in lines
        if line["level"] in {"warning", "error"} and line["event"] != "settings.warning"
    ]


async def test_the_server_hangs_up_on_each_kind_of_connection(tmp_path: Path, url: str) -> None:
    """Listeners come as another role, so that one can tell them from the others."""
    await rows(url, "DO $$ BEGIN CREATE ROLE listener LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
    listen_url = url.replace("postgres@", "listener@")
    async with under_load(tmp_path, url, 1, store={"listen_url": listen_url}) as (two, (load,)):
        await asyncio.sleep(0.5)
        listeners = await hang_up(two, "listener")
        others = await hang_up(two, "postgres") + await hang_up(two, "postgres")
        listeners += await hang_up(two, "listener")
        await again(load, time.monotonic(), RESUMES_WITHIN)

    assert listeners == 4
    assert others >= 6
    assert load.refused_at == []


async def hang_up(found: Fleet, role: str) -> int:
    """On how many. Listeners are back within two seconds."""
    ((ended,),) = await found.rows(
        """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'tidegate' AND usename = $1""",
        role,
    )
    await asyncio.sleep(1)
    assert isinstance(ended, int)
    return ended
