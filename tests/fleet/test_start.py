"""What is refused at a start, with the reason and the remedy; and what a start does to the schema."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from benchmarks.machine.postgres import PostgresServer, postgres_server
from support.fakes import RecordingObserver
from support.fleet import new_database
from support.processes import free_port
from tidegate.clock import SystemClock, SystemRng
from tidegate.domain.secret import Secret
from tidegate.services.key_directory import KeyDirectory
from tidegate.services.manage_keys import ConfiguredKey, KeyChanges, ManageKeys
from tidegate.store.migrate import SchemaMismatch
from tidegate.store.postgres import PostgresOptions, PostgresStore, migrate
from tidegate.store.refusal import StoreRefused

pytestmark = pytest.mark.anyio

CANARY = "canary-2f1c"


def options(url: str, **members: Any) -> PostgresOptions:
    return PostgresOptions(Secret(url), listen_url=Secret(""), **members)


async def opened(url: str, **members: Any) -> PostgresStore:
    return await PostgresStore.open(options(url, **members), clock=SystemClock(), rng=SystemRng())


async def refusal(url: str, **members: Any) -> str:
    with pytest.raises((StoreRefused, SchemaMismatch)) as caught:
        await opened(url, **members)
    return str(caught.value)


async def execute(url: str, *commands: str) -> None:
    connection = await asyncpg.connect(url)
    for command in commands:
        await connection.execute(command)
    await connection.close()


def tidegate(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tidegate", *arguments],
        check=False, capture_output=True, text=True, timeout=60,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip


@pytest.fixture
async def guarded() -> AsyncIterator[PostgresServer]:
    """A server that wants a password."""
    with postgres_server() as server:
        await execute(server.url(), f"CREATE ROLE app LOGIN PASSWORD '{CANARY}'", "CREATE ROLE guest LOGIN")
        (server.home / "pg_hba.conf").write_text("host all app all scram-sha-256\nhost all all all trust\n")
        await execute(server.url(), "SELECT pg_reload_conf()")
        yield server


async def test_a_wrong_password_is_named_and_not_quoted(guarded: PostgresServer) -> None:
    url = guarded.url().replace("postgres@", f"app:wrong-{CANARY}@")

    found = await refusal(url, place="postgresql://db/x")

    assert "does not accept user and password: check store.url" in found
    assert found.startswith("cannot use postgresql://db/x: ")
    assert CANARY not in found


async def test_a_role_that_may_not_create_tables_is_told_what_it_lacks(guarded: PostgresServer) -> None:
    assert "grant it CREATE on the schema" in await refusal(guarded.url().replace("postgres@", "guest@"))


async def test_nobody_at_the_address() -> None:
    found = await refusal(f"postgresql://postgres@127.0.0.1:{free_port()}/x")

    assert "no server answers" in found
    assert "check host, port and network" in found


async def test_no_such_database(server: PostgresServer) -> None:
    assert "there is no such database: create it" in await refusal(server.url("nowhere"))


async def test_a_database_of_another_encoding(server: PostgresServer) -> None:
    await execute(server.url(), "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")

    assert "encoding is LATIN1" in await refusal(server.url("latin"))


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
async def test_a_server_that_may_lose_commits(name: str) -> None:
    with postgres_server(**{name: "off"}) as careless:
        found = await refusal(careless.url())
        accepted = await opened(careless.url(), allow_unsafe=True)
        await accepted.close()

    assert f"{name} = off" in found
    assert "store.allow_unsafe_settings" in found
    assert accepted.warnings == (f"the server may lose what it has committed ({name} = off)",)


@pytest.mark.parametrize("weak", ["off", "local", "remote_write"])
async def test_commits_that_a_role_has_weakened_are_raised(
    url: str, server: PostgresServer, weak: str
) -> None:
    name = url.rpartition("/")[2]
    await execute(server.url(), f"ALTER DATABASE {name} SET synchronous_commit = {weak}")
    store = await opened(url)

    rows = await store._database.fetch("SHOW synchronous_commit")

    assert rows[0][0] == "on"
    await store.close()


async def test_behind_a_pooler_every_transaction_brings_what_is_ours(
    url: str, server: PostgresServer
) -> None:
    """And takes it along: the next one of that session may be anybody's."""
    name = url.rpartition("/")[2]
    await execute(server.url(), f"ALTER DATABASE {name} SET synchronous_commit = off")
    ours = """SELECT current_setting('synchronous_commit'), current_setting('lock_timeout'),
        current_setting('statement_timeout'), current_setting('enable_seqscan')"""
    store = await opened(url, pooler=True, pool_size=1)

    within = await store._database.fetch(ours)
    async with store._database._pool.acquire() as connection:
        outside = await connection.fetch(ours)
        kept = await connection.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''")

    assert tuple(within[0]) == ("on", "2s", "5s", "off")
    assert (tuple(outside[0]), kept) == (("off", "0", "0", "on"), 0)
    await store.close()


async def test_a_schema_of_a_newer_version(url: str) -> None:
    await (await opened(url)).close()
    await execute(url, "INSERT INTO schema_migrations (number, name, checksum) VALUES (9999, 'later', '')")

    assert "start a newer version of tidegate" in await refusal(url)


async def test_a_migration_that_was_changed(url: str) -> None:
    await (await opened(url)).close()
    await execute(url, "UPDATE schema_migrations SET checksum = 'x'")

    assert "applied with another content" in await refusal(url)


async def test_many_starts_at_once_migrate_once(url: str) -> None:
    stores = await asyncio.gather(*[opened(url) for _ in range(5)])
    await asyncio.gather(*[store.close() for store in stores])

    assert await migrate(options(url), is_dry=True) == []


async def test_migrate_says_what_is_missing_and_applies_it(url: str, tmp_path: Path) -> None:
    config = tmp_path / "tidegate.json"
    config.write_text(json.dumps({"store": {"url": url}}))

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return tidegate("migrate", "--config", str(config), *arguments)

    dry, wet, again = [
        await asyncio.to_thread(run, *arguments) for arguments in (("--check",), (), ("--check", "--json"))
    ]

    assert (dry.returncode, "pending  0001_initial" in dry.stdout) == (1, True)
    assert (wet.returncode, "applied  0001_initial" in wet.stdout) == (0, True)
    assert (again.returncode, json.loads(again.stdout)["pending"]) == (0, [])


async def test_doctor_looks_at_the_server(url: str, tmp_path: Path) -> None:
    config = tmp_path / "tidegate.json"
    config.write_text(json.dumps({"store": {"url": url}, "providers": {"mock": {}}}))

    found = await asyncio.to_thread(tidegate, "doctor", "--config", str(config), "--json")

    lines = {check["name"]: check for check in json.loads(found.stdout)["checks"]}
    assert lines["store"]["text"].startswith("PostgreSQL 18")
    assert lines["schema"]["level"] == "yellow"
    assert {lines[name]["level"] for name in ("store", "clock", "notify", "connections")} == {"green"}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("work",), "belongs to the process that serves"),
        (("serve", "--no-worker"), "--no-worker needs a store for many processes"),
        (("serve", "--processes", "2"), "--processes needs a store for many processes"),
    ],
)
async def test_sqlite_belongs_to_one_process(command: Sequence[str], words: str, tmp_path: Path) -> None:
    config = tmp_path / "tidegate.json"
    config.write_text(json.dumps({"store": {"url": f"sqlite:///{tmp_path}/t.db"}}))

    found = await asyncio.to_thread(tidegate, *command, "--config", str(config))

    assert found.returncode == 3
    assert words in found.stderr
    assert "PostgreSQL" in found.stderr


async def test_a_worker_that_is_to_serve_an_unknown_provider(url: str, tmp_path: Path) -> None:
    config = tmp_path / "tidegate.json"
    config.write_text(json.dumps({"store": {"url": url}, "providers": {"mock": {}}}))

    found = await asyncio.to_thread(tidegate, "work", "--config", str(config), "--provider", "opena")

    assert (found.returncode, found.stderr) == (3, "no provider is called opena: there are mock\n")


async def test_two_opinions_on_a_limit(url: str) -> None:
    limit = "providers.openai.concurrency_and_buffer_size.concurrency"
    running = await opened(url, settings={limit: 50, "async.worker_loss_budget": 3})
    await running.jobs.renew(())

    found = await refusal(url, settings={limit: 60, "async.worker_loss_budget": 3})
    same = await opened(url, settings={limit: 50, "providers.groq.x": 1})
    gateway = await opened(url)
    await running.close()
    after = await opened(url, settings={limit: 60})

    assert found.startswith(f"{limit} is 60 here and 50 in process {os.getpid()} on ")
    assert found.endswith("use one configuration, or stop the others first")
    await asyncio.gather(*[store.close() for store in (same, gateway, after)])


async def test_databases_are_apart(server: PostgresServer, url: str) -> None:
    """The control of all of these: an ordinary start on an ordinary server is not refused."""
    async with new_database(server) as other:
        for place in (url, other):
            store = await opened(place)
            assert store.warnings == ()
            await store.close()


async def test_many_starts_at_once_agree_on_the_configured_keys(url: str, tmp_path: Path) -> None:
    keys = [
        ConfiguredKey(id=None, value=Secret(f"sk-bf-{n}" + "a" * 40), changes=KeyChanges(name=f"key-{n}"))
        for n in range(20)
    ]
    stores = [await opened(url) for _ in range(4)]
    clock = SystemClock()

    await asyncio.gather(
        *[
            ManageKeys(
                store.keys, KeyDirectory(store.keys, clock), clock, SystemRng(), RecordingObserver()
            ).apply_configuration(keys)
            for store in stores
        ]
    )

    found, count = await stores[0].keys.list(limit=100, offset=0, name_prefix="")
    assert count == 20
    assert all(key.is_active and key.from_config for key in found)
    await asyncio.gather(*[store.close() for store in stores])
