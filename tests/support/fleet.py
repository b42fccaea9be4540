"""Many processes on one PostgreSQL: gateways, workers, and somebody who kills them."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, final

import asyncpg

from benchmarks.machine.postgres import PostgresServer
from support.gateway import CHAT, configuration
from support.load import BODY, HEADERS, Load, acknowledged, until_all_ended
from support.processes import GatewayProcess, gateway_process
from support.wire import Connection
from tidegate.mock_vendor import MockVendor

PUBLIC_METRICS: Final[dict[str, Any]] = {"metrics": {"public": True}}
SERVE: Final = ("tidegate", "serve", "--no-worker", "--config")


@final
class Fleet:
    """Processes with one configuration. Those that are killed can be started again."""

    def __init__(
        self, url: str, gateways: Sequence[GatewayProcess], workers: Sequence[GatewayProcess]
    ) -> None:
        self.url = url
        self.gateways = gateways
        self.workers = workers

    @property
    def members(self) -> list[GatewayProcess]:
        return [*self.gateways, *self.workers]

    async def start(self) -> None:
        for member in self.members:  # one after the other: the first one migrates
            await self.start_again(member)

    async def start_again(self, member: GatewayProcess) -> None:
        if member in self.workers:
            await member.start("tidegate", "work", "--metrics-port", str(member.port), "--config")
        else:
            await member.start(*SERVE)

    async def stop(self) -> None:
        """In order; each has to agree."""
        for member in self.members:
            member.terminate()
        assert [await member.exit_code() for member in self.members] == [0] * len(self.members)

    async def submit(self, count: int) -> list[str]:
        """Ids, from the first gateway."""
        async with Connection("127.0.0.1", self.gateways[0].port) as connection:
            answers = [await connection.request("POST", CHAT, HEADERS, BODY) for _ in range(count)]
        assert [answer.status for answer in answers] == [202] * count
        return [answer.json()["id"] for answer in answers]

    async def submit_until_all_work(self, within: float = 10) -> list[str]:
        """Ids of so many jobs that each worker has some that run: nobody says who takes which."""
        ids = []
        async with asyncio.timeout(within):
            while await self.rows("SELECT count(DISTINCT worker) FROM jobs") != [(len(self.workers),)]:
                ids += await self.submit(10)
                await asyncio.sleep(0.02)
        return ids

    async def ends(self) -> dict[str, int]:
        """How many attempts ended in which way."""
        return dict(await self.rows('SELECT "end", count(*) FROM attempts GROUP BY "end"'))

    async def rows(self, sql: str, *values: Any) -> list[Any]:
        return await rows(self.url, sql, *values)


async def rows(url: str, sql: str, *values: Any) -> list[Any]:
    """Of a statement on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql, *values)]
    finally:
        await connection.close()


async def assert_each_ended_once(found: Fleet, acknowledged: Sequence[str]) -> None:
    """No id was given out twice, and each job, of those that were acknowledged and of the others, has one success."""
    assert len(set(acknowledged)) == len(acknowledged)
    successes = await found.rows(
        """SELECT job::text, count(*) FROM attempts WHERE "end" = 'succeeded' GROUP BY job"""
    )
    assert {count for _, count in successes} == {1}
    assert {job for job, _ in successes} >= set(acknowledged)
    counts = await found.rows("SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM job_result)")
    assert counts == [(len(successes), len(successes))]


async def zombie_writes(member: GatewayProcess) -> int:
    """Endings that it brought too late."""
    async with Connection("127.0.0.1", member.port) as connection:
        answer = await connection.request("GET", "/metrics")
    found = re.search(rb"^tidegate_zombie_writes_total (\d+)", answer.body, re.MULTILINE)
    return int(found[1]) if found else 0  # it has nothing to show while its database is away


@contextmanager
def fleet(
    directory: Path,
    url: str,
    vendor_url: str,
    *,
    gateways: int,
    workers: int,
    ways: Mapping[str, str] = MappingProxyType({}),
    **sections: Any,
) -> Iterator[Fleet]:
    """Not started yet; gone at the end, whatever happened. ``ways`` are the members' own URLs of the database."""
    with ExitStack() as stack:

        def member(name: str) -> GatewayProcess:
            place = directory / name
            place.mkdir()
            store = {"url": ways.get(name, url)} | sections.get("store", {})
            config = configuration(place, vendor_url, **(sections | {"store": store}))
            return stack.enter_context(gateway_process(place, config))

        yield Fleet(
            url,
            [member(f"gateway-{number}") for number in range(gateways)],
            [member(f"worker-{number}") for number in range(workers)],
        )


@asynccontextmanager
async def under_load(
    directory: Path, url: str, of_each: int, **sections: Any
) -> AsyncIterator[tuple[Fleet, list[Load]]]:
    """Gateways and workers. At the end everything that was accepted has ended, once."""
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": 0.05}]}) as vendor:
        with fleet(directory, url, vendor.url, gateways=of_each, workers=of_each, **sections) as found:
            await found.start()
            loads = [Load(gateway.port, 4) for gateway in found.gateways]
            loading = [asyncio.create_task(load.run()) for load in loads]

            yield found, loads

            for load in loads:
                load.is_over = True
            await asyncio.gather(*loading)
            await until_all_ended(found.gateways[0].port, acknowledged(loads))
            await found.stop()
            for load in loads:
                assert load.statuses.keys() <= {202, 503}
                assert load.unhelpful == 0
            await assert_each_ended_once(found, acknowledged(loads))


@asynccontextmanager
async def new_database(server: PostgresServer, chance: random.Random | None = None) -> AsyncIterator[str]:
    """URL of an empty database; it is dropped at the end."""
    name = f"test_{(chance or random.Random()).getrandbits(64):x}"
    await _at(server, f"CREATE DATABASE {name}")
    try:
        yield server.url(name)
    finally:
        await _at(server, f"DROP DATABASE {name} WITH (FORCE)")


async def _at(server: PostgresServer, command: str) -> None:
    async with asyncio.timeout(10):
        connection = await asyncpg.connect(server.url())
        try:
            await connection.execute(command)
        finally:
            await connection.close()
