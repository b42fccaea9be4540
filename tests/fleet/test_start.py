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
from support.lines import lines_to
from support.processes import free_port
from tidegate.clock import SystemClock, SystemRng
from tidegate.domain.secret import Secret
from tidegate.services.key_directory import KeyDirectory
from tidegate.services.manage_keys import ConfiguredKey, KeyChanges, ManageKeys
from tidegate.store.migrate import SchemaMismatch, migrations
from tidegate.store.postgres import PostgresOptions, PostgresStore, diagnose, migrate, migrating
from tidegate.store.refusal import StoreRefused

pytestmark = pytest.mark.anyio

CANARY = "canary-2f1c"
LONGER_THAN_FOR_A_TABLE = 2.5
KILL_WHO_WAITS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


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


async def test_a_role_that_may_not_create_tables_serves_once_somebody_has_migrated(url: str) -> None:
    await (await opened(url)).close()
    rights = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
    await execute(url, "CREATE ROLE run LOGIN", f"GRANT {rights} TO run")

    await (await opened(url.replace("postgres@", "run@"))).close()


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


UNFIT = {
    "a table is lost": (
        (),
        ("DROP TABLE job_result, lanes",),
        "the database has lost tables job_result, lanes",
    ),
    "the history is lost": ((), ("DROP TABLE schema_migrations",), "the database has tables attempts, "),
    "half of the history is lost": (
        (),
        ("DELETE FROM schema_migrations WHERE number = 2",),
        "the database has table store_copies, and its schema_migrations does not say where from",
    ),
    "another program's tables": (("CREATE TABLE jobs (id serial)",), (), "the database has table jobs, "),
    "another program's history": (
        ("CREATE TABLE schema_migrations (version bigint)",),
        (),
        "schema_migrations is another program's: give tidegate a database of its own",
    ),
    "a migration was changed": (
        (),
        ("UPDATE schema_migrations SET checksum = 'x' WHERE number = 2",),
        "migration 0002_store_copies was applied with another content",
    ),
}
"""What happened to the database before our first start and after it, and what is said about it."""


@pytest.fixture(params=UNFIT)
async def unfit(request: pytest.FixtureRequest, url: str) -> str:
    """What is said of the database at ``url``."""
    before, after, words = UNFIT[request.param]
    await execute(url, *before)
    if after:
        await (await opened(url)).close()
        await execute(url, *after)
    return words


async def contents(url: str) -> list[Any]:
    """Everything in the catalogue, by its number and name, and what is known of the schema."""
    connection = await asyncpg.connect(url)
    found: list[Any] = await connection.fetch(
        "SELECT oid, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY oid"
    )
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is not None:
        found += await connection.fetch("SELECT * FROM schema_migrations ORDER BY 1")
    await connection.close()
    return found


async def test_a_schema_that_is_not_as_it_says_is_refused_and_left_alone(url: str, unfit: str) -> None:
    before = await contents(url)

    said = [await refusal(url)]
    for look in (
        migrate(options(url), is_dry=True),
        migrate(options(url), is_dry=False),
        diagnose(options(url)),
    ):
        with pytest.raises(SchemaMismatch) as caught:
            await look
        said.append(str(caught.value))

    assert [text.startswith(unfit) for text in said] == [True] * 4, said
    assert await contents(url) == before


async def test_the_tables_of_a_migration_are_those_it_makes(url: str) -> None:
    await (await opened(url)).close()
    connection = await asyncpg.connect(url)

    made = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")

    known = {table for migration in migrations("postgres") for table in migration.tables}
    assert {row[0] for row in made} == known | {"schema_migrations"}
    await connection.close()


async def test_an_unfit_database_ends_every_command_with_the_reason(url: str, tmp_path: Path) -> None:
    await execute(url, "CREATE TABLE jobs (id serial)")

    assert await what_each_command_says(url, tmp_path) == {
        "serve": (4, True), "work": (4, True), "migrate": (4, True), "doctor": (1, True),
    }  # fmt: skip


async def what_each_command_says(
    url: str, tmp_path: Path, words: str = "use an empty database"
) -> dict[str, tuple[int, bool]]:
    """Exit code, and whether it names ``words``."""
    config = tmp_path / "tidegate.json"
    config.write_text(json.dumps({"store": {"url": url}, "providers": {"mock": {}}, "server": {"port": 0}}))
    commands = ("serve", "work", "migrate", "doctor")
    ended = await asyncio.gather(
        *[asyncio.to_thread(tidegate, command, "--config", str(config)) for command in commands]
    )
    return {
        command: (end.returncode, words in end.stdout + end.stderr)
        for command, end in zip(commands, ended, strict=True)
    }


async def test_a_server_that_is_too_old(server: PostgresServer, url: str, tmp_path: Path) -> None:
    async with lines_to(server.port) as lines:
        connection = await asyncpg.connect(url)
        number: str = await connection.fetchval("SHOW server_version_num")
        await connection.close()
        way = lines.url(url.rpartition("/")[2])
        lines.lie = (number.encode(), b"130023")
        old = await what_each_command_says(
            way, tmp_path, "PostgreSQL 13 is too old: version 14 or newer is needed"
        )
        lines.lie = (number.encode(), b"140000")
        just_new_enough = await opened(way)
        await just_new_enough.close()

    assert old == {"serve": (4, True), "work": (4, True), "migrate": (4, True), "doctor": (1, True)}


async def test_a_start_waits_for_a_long_migration(url: str) -> None:
    other = await asyncpg.connect(url)
    await other.execute("SELECT pg_advisory_lock($1)", migrating._LOCK)
    starting = asyncio.create_task(opened(url))

    done, _ = await asyncio.wait({starting}, timeout=LONGER_THAN_FOR_A_TABLE)
    await other.close()

    assert not done
    await (await starting).close()


async def test_many_starts_at_once_migrate_once(url: str) -> None:
    stores = await asyncio.gather(*[opened(url) for _ in range(5)])
    await asyncio.gather(*[store.close() for store in stores])

    assert await migrate(options(url), is_dry=True) == []


async def test_a_migration_whose_connection_is_killed_leaves_nothing_half_done(
    url: str, tmp_path: Path
) -> None:
    config = tmp_path / "tidegate.json"
    config.write_text(json.dumps({"store": {"url": url}}))
    in_its_way, other = await asyncpg.connect(url), await asyncpg.connect(url)
    await in_its_way.execute("BEGIN; CREATE TABLE lanes ()")

    starting = asyncio.create_task(asyncio.to_thread(tidegate, "migrate", "--config", str(config)))
    async with asyncio.timeout(20):
        while not await other.fetch(KILL_WHO_WAITS):
            await asyncio.sleep(0.02)
    killed = await starting
    await in_its_way.close()

    assert (killed.returncode, killed.stderr.startswith("cannot use")) == (4, True), killed.stderr
    assert await other.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await other.close()
    await (await opened(url)).close()


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
