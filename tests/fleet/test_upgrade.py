"""From an earlier schema to today's: with jobs in flight, with old code that still runs, and killed on the way."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import asyncpg
import pytest

from support.fleet import Fleet, fleet
from support.gateway import CHAT, configuration
from support.load import Load, until_all_ended
from support.processes import GatewayProcess, gateway_process
from support.stored_schemas import (
    FOLDER,
    IDEMPOTENCY_KEY,
    REPEATED,
    facts_of,
    load_postgres,
    load_sqlite,
)
from support.wire import Answer, Connection
from tidegate.mock_vendor import MockVendor
from tidegate.store.migrate import migrations

pytestmark = pytest.mark.anyio

WITHOUT_KEYS: Final[dict[str, Any]] = {"governance": {}}
INITIAL: Final = FOLDER / "postgres-0001.sql"


def stored(dialect: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("old", sorted(FOLDER.glob(f"{dialect}-*.sql")), ids=lambda file: file.stem)


@stored("postgres")
async def test_what_a_postgresql_database_held_is_there_and_ends(old: Path, tmp_path: Path, url: str) -> None:
    await load_postgres(old, url)
    async with MockVendor.serve(script={"rules": []}) as vendor:
        with fleet(tmp_path, url, vendor.url, gateways=1, workers=1, **WITHOUT_KEYS) as two:
            await two.start()
            await check(two.gateways[0].port, facts_of(old))
            losses = await two.rows("SELECT losses, count(*) FROM jobs GROUP BY losses ORDER BY losses")
            await two.stop()

    assert losses == [(0, 6), (1, 2)]


@stored("sqlite")
async def test_what_a_sqlite_database_held_is_there_and_ends(old: Path, tmp_path: Path) -> None:
    load_sqlite(old, tmp_path / "tidegate.db")
    async with MockVendor.serve(script={"rules": []}) as vendor:
        config = configuration(tmp_path, vendor.url, **WITHOUT_KEYS)
        with gateway_process(tmp_path, config) as gateway:
            await gateway.start()
            await check(gateway.port, facts_of(old))


async def check(port: int, facts: dict[str, Any]) -> None:
    """Everything of an earlier life, seen with the key of that time."""
    headers = {"authorization": f"Bearer {facts['key']}", "content-type": "application/json"}

    async def ask(method: str, path: str, body: bytes = b"", **more: str) -> Answer:
        async with Connection("127.0.0.1", port) as connection:
            return await connection.request(method, path, headers | more, body)

    async def end(job: str) -> Any:
        return (await ask("GET", f"{CHAT}/{job}", prefer="wait=25")).json()

    (done,), (failed,), waiting = facts["completed"], facts["failed"], facts["unfinished"]
    assert content(await end(done)) == "only once"
    assert (await end(failed))["status"] == "failed"
    again = await ask("POST", CHAT, REPEATED, **{"idempotency-key": IDEMPOTENCY_KEY})
    assert (again.json()["id"], again.headers["idempotent-replayed"]) == (done, "true")
    fresh = (await ask("POST", CHAT, REPEATED)).json()["id"]
    for job in (fresh, *waiting):
        assert content(await end(job)) in {"hello", "only once"}
    listed = (await ask("GET", "/v1/async/jobs?limit=100")).json()["data"]
    assert {job["id"] for job in listed} == {done, failed, fresh, *waiting}


def content(envelope: Any) -> str:
    assert envelope["status"] == "completed", envelope
    found: str = envelope["result"]["choices"][0]["message"]["content"]
    return found


async def test_old_code_goes_on_while_new_code_migrates_and_works(tmp_path: Path, url: str) -> None:
    async with MockVendor.serve(script={"rules": [{"model": "echo", "latency": 0.05}]}) as vendor:
        with fleet(tmp_path, url, vendor.url, gateways=2, workers=2) as four:
            (old_gateway, new_gateway), (old_worker, new_worker) = four.gateways, four.workers
            await start_old(old_gateway)
            await start_old(old_worker, "work", "--metrics-port", str(old_worker.port))
            (old,) = await workers(four, 1)
            loads = [Load(old_gateway.port, 1)]
            loading = [asyncio.create_task(loads[0].run())]
            await until_it_works(four, old)
            before = await four.rows("SELECT max(number) FROM schema_migrations")

            migrated = await asyncio.to_thread(tidegate, "migrate", new_worker.config)
            await four.start_again(new_worker)
            await four.start_again(new_gateway)
            loads.append(Load(new_gateway.port, 1))
            loading.append(asyncio.create_task(loads[1].run()))
            for worker in await workers(four, 2):
                await until_it_works(four, worker)
            accepted = len(loads[0].acknowledged)
            while len(loads[0].acknowledged) < accepted + 20:
                await asyncio.sleep(0.02)

            for load in loads:
                load.is_over = True
            await asyncio.gather(*loading)
            await until_all_ended(new_gateway.port, [job for load in loads for job in load.acknowledged])
            await four.stop()

    assert before == [(1,)]
    assert migrated.returncode == 0, migrated.stderr
    assert [load.statuses.keys() for load in loads] == [{202}, {202}]


async def start_old(member: GatewayProcess, *command: str) -> None:
    await member.start("support.at_schema", "1", *(command or ("serve", "--no-worker")), "--config")


async def workers(members: Fleet, count: int) -> list[Any]:
    """As soon as so many are there."""
    async with asyncio.timeout(20):
        while len(found := await members.rows("SELECT id FROM workers")) < count:
            await asyncio.sleep(0.02)
    return [row[0] for row in found]


async def until_it_works(members: Fleet, worker: Any) -> None:
    """It runs a job that was not there before."""
    (latest,) = await members.rows("SELECT max(created_at) FROM jobs")
    query = "SELECT count(*) FROM jobs WHERE worker = $1 AND created_at > $2"
    async with asyncio.timeout(20):
        while await members.rows(query, worker, latest[0] or 0) == [(0,)]:
            await asyncio.sleep(0.01)


async def test_old_code_does_not_start_on_a_newer_schema(tmp_path: Path, url: str) -> None:
    newest = migrations("postgres")[-1].number
    config = configured(tmp_path, url)
    assert tidegate("migrate", config).returncode == 0

    ends = await asyncio.gather(
        *[
            asyncio.to_thread(tidegate, command, config, "support.at_schema", "1")
            for command in ("serve", "work", "migrate")
        ]
    )

    assert [end.returncode for end in ends] == [4, 4, 4]
    said = f"the database has schema {newest}, this version knows 1: start a newer version of tidegate"
    assert all(said in end.stderr for end in ends), ends


async def test_killed_in_the_next_migration_the_earlier_schema_is_whole(tmp_path: Path, url: str) -> None:
    await load_postgres(INITIAL, url)
    config = configured(tmp_path, url)
    armed = {"TIDEGATE_TEST_BUILD": "1", "TIDEGATE_FAULT_POINT": "in_migration"}
    connection = await asyncpg.connect(url)

    killed = tidegate("serve", config, variables=armed)
    left = await connection.fetch("SELECT number FROM schema_migrations")
    table = await connection.fetchval("SELECT to_regclass('store_copies')")
    again = tidegate("migrate", config)

    assert killed.returncode == -9
    assert ([tuple(row) for row in left], table) == ([(1,)], None)
    assert again.returncode == 0, again.stderr
    assert await connection.fetchval("SELECT count(*) FROM jobs") == 7
    await connection.close()


def configured(directory: Path, url: str) -> Path:
    file = directory / "tidegate.json"
    settings = {"store": {"url": url}, "providers": {"mock": {}}, "server": {"port": 0}}
    file.write_text(json.dumps(settings))
    return file


def tidegate(
    command: str, config: Path, *program: str, variables: Mapping[str, str] = MappingProxyType({})
) -> "subprocess.CompletedProcess[str]":
    """``program`` stands for today's."""
    return subprocess.run(
        [sys.executable, "-m", *(program or ("tidegate",)), command, "--config", str(config)],
        check=False, capture_output=True, text=True, timeout=60,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[1]), **variables},
    )  # fmt: skip
