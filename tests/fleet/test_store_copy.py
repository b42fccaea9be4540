"""``tidegate store copy``: an installation moves to PostgreSQL, whole, or is told why not."""

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import apsw
import asyncpg
import pytest

from benchmarks.machine.postgres import PostgresServer
from cli.runs import Cli, Result
from support.fleet import new_database
from support.gateway import CHAT, KEY, chat, configuration
from support.processes import free_port, gateway_process
from support.stores import ALICE, BOB, GROQ, RETRY, SqliteUnderTest
from support.wire import Answer, Connection
from tidegate.clock import SystemClock, SystemRng
from tidegate.domain.secret import Secret
from tidegate.mock_vendor import MockVendor
from tidegate.store import copying
from tidegate.store.copying import Comparison, SourceDamaged
from tidegate.store.migrate import SchemaMismatch
from tidegate.store.postgres import PostgresOptions, PostgresSource, PostgresStore, PostgresTarget, migrate
from tidegate.store.postgres import copying as copying_from_postgres
from tidegate.store.refusal import StoreRefused
from tidegate.store.rows import sql
from tidegate.store.sqlite import copying as copying_from_sqlite
from tidegate.store.sqlite.copying import SqliteSource

pytestmark = pytest.mark.anyio

MANY: Final = 1100
"""Jobs of three batches."""
CANARY: Final = "canary-7d20"
KILLED: Final = -signal.SIGKILL


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    (tmp_path / "cli").mkdir()
    return Cli(tmp_path / "cli", tmp_path / "bytecode")


@pytest.fixture
async def source(tmp_path: Path) -> SqliteUnderTest:
    """A few jobs in every state, after ``kill -9``."""
    store = SqliteUnderTest(tmp_path / "data" / "tidegate.db")
    await fill(store, 4)
    return store


async def fill(store: SqliteUnderTest, most: int) -> None:
    """``most`` waiting jobs, and one in each other state; two keys, and every kind of attempt."""
    store.open()
    for name in ("b", "a", "Ä"):
        await store.keys.create(store.key(name), name.encode().ljust(32, b"."))
    metadata = b'{"team":"search"}'
    await store.accept(idempotency=store.idempotency("done"), metadata=metadata, body=b"\x00\xff binary")
    await store.complete(await store.claim_one(), b"\xff\x00 result")
    await store.accept(owner=BOB)
    await store.fail(await store.claim_one())
    await store.accept(lane=GROQ, weight=0.3)
    postponed = await store.claim_one(GROQ)
    await store.jobs.settle(postponed.lease, RETRY, ())
    await store.accept()
    await store.claim_one()
    store.crash_and_restart()
    lost = await store.claim_one()
    assert lost.attempt == 2
    await asyncio.gather(*[
        store.accept(owner=(ALICE, BOB)[n % 2], idempotency=store.idempotency(f"waiting-{n}"), priority=1 + n % 5)
        for n in range(most)
    ])  # fmt: skip
    store.pull_the_plug()


def sqlite_url(store: SqliteUnderTest) -> str:
    return f"sqlite:///{store.path}"


def options(url: str) -> PostgresOptions:
    return PostgresOptions(Secret(url), listen_url=Secret(""), place="the target")


async def run(cli: Cli, *arguments: str) -> Result:
    return await asyncio.to_thread(cli.process, "store", "copy", *arguments)


async def refusal(cli: Cli, code: int, *arguments: str) -> str:
    result = await run(cli, *arguments)
    assert (result.returncode, result.stdout) == (code, ""), result
    return result.stderr


async def query(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement, *values)]
    finally:
        await connection.close()


def change(path: Path, statement: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(statement)
    assert connection.changes() > 0
    connection.close()


def plain(value: Any) -> Any:
    """What both databases call the same."""
    match value:
        case UUID():
            return value.bytes
        case bool():
            return int(value)
        case str():
            return value.encode()
        case _:
            return value


COLUMNS: Final = """
    id, request_type, owner, actor, model, candidates, lane, weight, result_ttl, timeout, max_attempts, priority,
    passes_extra, request_id, created_at, deadline_at, status, rank, run_at, attempt, failed_attempts, losses,
    is_suspect, dead_keys, started_at, attempt_started_at, completed_at, expires_at, status_code, outcome,
    error_code, error
"""
ATTEMPT: Final = 'number, a.started_at, ended_at, "end", calls'
PAIRS: Final = (
    (sql("SELECT", COLUMNS, "FROM jobs ORDER BY id"), ""),
    *(
        (
            sql("SELECT j.id,", column, "FROM", table, "JOIN jobs j ON job = seq ORDER BY id"),
            sql("SELECT job,", column, "FROM", table, "ORDER BY job"),
        )
        for table, column in (("job_request", "body"), ("job_result", "body"), ("job_metadata", "json"))
    ),
    (
        sql("SELECT j.id,", ATTEMPT, "FROM attempts a JOIN jobs j ON job = seq ORDER BY id, number"),
        sql("SELECT job,", ATTEMPT, "FROM attempts a ORDER BY job, number"),
    ),
    ("SELECT scope_digest, fingerprint, job_id, keep_until FROM idempotency ORDER BY scope_digest", ""),
    ("SELECT lane, virtual_time FROM lanes ORDER BY lane", ""),
    ("SELECT lane, owner, tail FROM tails ORDER BY lane, owner", ""),
    ("SELECT id, name, digest, created_at, record FROM virtual_keys ORDER BY digest", ""),
)


async def assert_the_same(path: Path, url: str) -> None:
    """Read past our own readers: what was in the file is in the database, but for what was running."""
    connection = apsw.Connection(str(path))
    connection.execute(
        "CREATE TEMP TABLE held AS SELECT seq, attempt, attempt_started_at FROM jobs WHERE status = 'processing'"
    )
    held = connection.execute("SELECT count(*) FROM held").fetchall()[0][0]
    for here, there in PAIRS:
        left = [tuple(map(plain, row)) for row in connection.execute(here).fetchall()]
        right = [tuple(map(plain, row)) for row in await query(url, there or here)]
        if "FROM attempts" in here:
            right = [row for row in right if row[4] != b"released"]
        left = [tuple(b"pending" if value == b"processing" else value for value in row) for row in left]
        assert left == right, here
        assert left, here
    assert held == (await query(url, "SELECT count(*) FROM attempts WHERE \"end\" = 'released'"))[0][0]
    connection.close()


async def test_everything_arrives_and_is_compared(cli: Cli, source: SqliteUnderTest, url: str) -> None:
    result = await run(cli, sqlite_url(source), url, "--json")

    found = json.loads(result.stdout)
    assert (result.returncode, result.stderr, found["is_equal"], found["released"]) == (0, "", True, 1)
    assert all(part["from_sha256"] == part["to_sha256"] for part in found["tables"])
    assert {part["name"]: part["to"] for part in found["tables"]} | {"lanes": 2, "tails": 3} == {
        "jobs": 8, "job_request": 8, "job_result": 1, "job_metadata": 1, "attempts": 5,
        "virtual_keys": 3, "idempotency": 5, "lanes": 2, "tails": 3,
    }  # fmt: skip
    assert found["jobs"] == [
        {"status": "completed", "from": 1, "to": 1},
        {"status": "failed", "from": 1, "to": 1},
        {"status": "pending", "from": 6, "to": 6},
    ]
    await assert_the_same(source.path, url)


async def test_a_running_job_waits_again_and_no_loss_is_counted(
    cli: Cli, source: SqliteUnderTest, url: str
) -> None:
    await run(cli, sqlite_url(source), url)

    rows = await query(
        url,
        'SELECT status, losses, worker, jobs.lease, rank IS NOT NULL, a.number, a."end" FROM jobs'
        " JOIN attempts a ON a.job = id WHERE jobs.attempt = 2 ORDER BY a.number",
    )

    waits = ("pending", 1, None, None, True)
    assert rows == [(*waits, 1, "worker_lost"), (*waits, 2, "released")]


async def test_the_report_for_people(cli: Cli, source: SqliteUnderTest, url: str) -> None:
    dry = await run(cli, sqlite_url(source), url, "--dry-run")
    schema = await query(url, "SELECT to_regclass('jobs')")
    wet = await run(cli, sqlite_url(source), url)
    again = await run(cli, sqlite_url(source), url)

    assert (dry.returncode, dry.stdout.splitlines()[0], schema) == (0, "jobs\t8", [(None,)])
    assert dry.stderr == "Nothing stands in the way of the copy.\n"
    assert wet.returncode == 0
    assert wet.stdout.splitlines()[0].startswith("jobs\t8\t8\t")
    assert "1 jobs were running when the gateway ended: they wait again." in wet.stderr
    assert wet.stderr.endswith(f"holds the same as {source.path}.\n")
    assert (again.returncode, "Nothing was done." in again.stderr) == (0, True)


async def until_nobody_is_connected(url: str) -> None:
    """The server ends a killed client's session in its own time."""
    while (await query(url, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate'"))[0][
        0
    ]:
        await asyncio.sleep(0.01)


async def test_a_copy_that_is_killed_goes_on_where_it_was(cli: Cli, tmp_path: Path, url: str) -> None:
    source = SqliteUnderTest(tmp_path / "data" / "tidegate.db")
    await fill(source, MANY)
    armed = cli.with_variables(TIDEGATE_TEST_BUILD="1", TIDEGATE_FAULT_POINT="in_copy:2")

    copied = []
    for _ in range(2):
        killed = await run(armed, sqlite_url(source), url)
        assert killed.returncode == KILLED, killed
        await until_nobody_is_connected(url)
        copied.append((await query(url, "SELECT count(*) FROM jobs"))[0][0])
    with pytest.raises(StoreRefused, match="is not finished: run the same `tidegate store copy` again"):
        await PostgresStore.open(options(url), clock=SystemClock(), rng=SystemRng())
    dry = await run(cli, sqlite_url(source), url, "--dry-run")
    result = await run(cli, sqlite_url(source), url, "--json")

    assert copied == [500, 1000]
    assert dry.stderr == "1000 jobs are there already; the copy would go on after them.\n"
    found = json.loads(result.stdout)
    assert (result.returncode, found["already_there"], found["is_equal"]) == (0, 1000, True)
    await assert_the_same(source.path, url)
    await (await PostgresStore.open(options(url), clock=SystemClock(), rng=SystemRng())).close()


@pytest.mark.parametrize(
    ("most_jobs", "most_bytes"), [(1, 2**24), (3, 2**24), (500, 1), (500, 100), (500, 140)]
)
async def test_batches_end_at_the_same_job_on_both_sides(
    source: SqliteUnderTest, url: str, monkeypatch: pytest.MonkeyPatch, most_jobs: int, most_bytes: int
) -> None:
    for module in (copying_from_sqlite, copying_from_postgres):
        monkeypatch.setattr(module, "MOST_JOBS", most_jobs)
        monkeypatch.setattr(module, "MOST_BYTES", most_bytes)

    assert (await copied(source, url)).is_equal
    await assert_the_same(source.path, url)


async def test_a_store_without_jobs(cli: Cli, tmp_path: Path, url: str) -> None:
    empty = SqliteUnderTest(tmp_path / "data" / "tidegate.db")
    empty.open()
    await empty.store.close()

    result = await run(cli, sqlite_url(empty), url, "--json")

    assert (result.returncode, json.loads(result.stdout)["is_equal"]) == (0, True)


@asynccontextmanager
async def stuck(cli: Cli, source: SqliteUnderTest, url: str) -> AsyncIterator["subprocess.Popen[str]"]:
    """A copy that waits for somebody else in the middle of a batch; when it has ended nobody is in its way."""
    await migrate(options(url), is_dry=False)
    await until_nobody_is_connected(url)
    blocking = await asyncpg.connect(url)
    await blocking.execute("BEGIN; LOCK TABLE attempts IN SHARE MODE")
    process = cli.start("store", "copy", sqlite_url(source), url)
    try:
        while (await query(url, "SELECT count(*) FROM pg_locks WHERE NOT granted"))[0][0] == 0:
            assert process.poll() is None, process.communicate()
            await asyncio.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.communicate()
        await blocking.close()


async def test_ctrl_c_leaves_what_can_be_continued(cli: Cli, source: SqliteUnderTest, url: str) -> None:
    async with stuck(cli, source, url) as process:
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.to_thread(process.communicate)
    again = await run(cli, sqlite_url(source), url)

    assert (process.returncode, out, err) == (130, "", "Interrupted: the same command goes on from here.\n")
    assert again.returncode == 0
    await assert_the_same(source.path, url)


async def test_a_server_that_goes_away_leaves_what_can_be_continued(
    cli: Cli, source: SqliteUnderTest, url: str
) -> None:
    async with stuck(cli, source, url) as process:
        await query(url, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
        out, err = await asyncio.to_thread(process.communicate)
    again = await run(cli, sqlite_url(source), url)

    assert (process.returncode, out) == (4, "")
    assert err.startswith("cannot use postgresql://127.0.0.1:")
    assert err.count("\n") == 1
    assert again.returncode == 0
    await assert_the_same(source.path, url)


async def test_a_source_that_was_used_between_two_runs_is_noticed(
    cli: Cli, source: SqliteUnderTest, url: str
) -> None:
    armed = cli.with_variables(TIDEGATE_TEST_BUILD="1", TIDEGATE_FAULT_POINT="in_copy")
    await run(armed, sqlite_url(source), url)
    await until_nobody_is_connected(url)
    source.open()
    await source.store.close()

    said = await refusal(cli, 4, sqlite_url(source), url)

    assert f"holds a part of {source.path} as it was before it was last used" in said
    assert "copy into an empty database instead" in said


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE job_request SET body = x'00' WHERE job = 3",
        "DELETE FROM job_request WHERE job = 3",
        "UPDATE jobs SET request_digest = request_digest + 1 WHERE seq = 3",
        "UPDATE jobs SET lane = CAST(x'ff' AS TEXT) WHERE seq = 3",
        "UPDATE jobs SET is_suspect = 7 WHERE seq = 3",
        "UPDATE jobs SET attempt = 'x' WHERE seq = 3",
        "UPDATE attempts SET ended_at = 'x' WHERE job = 3",
    ],
)
async def test_damage_stops_the_copy_and_names_the_job(
    source: SqliteUnderTest, url: str, damage: str
) -> None:
    third = id_of(source.path, 3)
    before = max((each for each in ids(source.path) if each < third), default=bytes(16))
    change(source.path, damage)

    with pytest.raises(SourceDamaged) as caught:
        await copied(source, url)

    named = (f"job {copying.text_of(third)} is not", f"the job after {copying.text_of(before)} is not")
    assert str(caught.value).startswith(named)
    assert "restore the source from a backup" in str(caught.value)


async def test_a_damaged_result_is_exit_code_4(cli: Cli, source: SqliteUnderTest, url: str) -> None:
    change(source.path, "UPDATE job_result SET body = x'00'")

    said = await refusal(cli, 4, sqlite_url(source), url)

    assert said.startswith(f"job {copying.text_of(id_of(source.path, 1))} is not what was written")


async def test_what_postgresql_cannot_hold_is_named(source: SqliteUnderTest, url: str) -> None:
    change(source.path, "UPDATE jobs SET request_id = 'a' || char(0) WHERE seq = 3")

    with pytest.raises(StoreRefused, match=r"one of the jobs .* does not fit into PostgreSQL"):
        await copied(source, url)


def ids(path: Path) -> list[bytes]:
    """In the order of submission, which within a millisecond is not that of ids."""
    connection = apsw.Connection(str(path))
    rows: list[Any] = connection.execute("SELECT id FROM jobs ORDER BY seq").fetchall()
    connection.close()
    return [row[0] for row in rows]


def id_of(path: Path, seq: int) -> bytes:
    return ids(path)[seq - 1]


@asynccontextmanager
async def both(source: SqliteUnderTest, url: str) -> AsyncIterator[tuple[SqliteSource, PostgresTarget]]:
    old = SqliteSource.open(source.path, SystemClock())
    try:
        new = await PostgresTarget.open(options(url), is_dry=False)
        try:
            yield old, new
        finally:
            await new.close()
    finally:
        await old.close()


def silent(done: int, total: int) -> None:
    assert done <= total


async def copied(source: SqliteUnderTest, url: str, tampering: Sequence[str] = ()) -> Comparison:
    """Copy, let somebody tamper with the target, compare."""
    async with both(source, url) as (old, new):
        begun = await new.begin(old.identity, old.place)
        await copying.copy(old, new, begun, silent)
        for command in tampering:
            assert (await new._connection.execute(command)).rpartition(" ")[2] != "0"
        return await copying.compare(old, new, begun.started_at, silent)


@pytest.mark.parametrize(
    ("tampering", "part"),
    [
        ("DELETE FROM jobs WHERE status = 'failed'", "jobs"),
        ("UPDATE jobs SET rank = rank + 1 WHERE status = 'completed'", "jobs"),
        ("UPDATE job_request SET body = set_byte(body, 0, get_byte(body, 0) # 1)", "job_request"),
        ("DELETE FROM job_request WHERE job = (SELECT max(id::text)::uuid FROM jobs)", "job_request"),
        ("DELETE FROM job_result", "job_result"),
        ("UPDATE job_result SET body = set_byte(body, 0, 1)", "job_result"),
        ("DELETE FROM job_metadata", "job_metadata"),
        ("DELETE FROM attempts WHERE \"end\" = 'worker_lost'", "attempts"),
        ("UPDATE attempts SET ended_at = ended_at + 1 WHERE number = 1", "attempts"),
        ("UPDATE virtual_keys SET digest = set_byte(digest, 31, 1) WHERE name = 'a'", "virtual_keys"),
        ("DELETE FROM idempotency WHERE scope_digest = (SELECT min(scope_digest) FROM idempotency)", "idempotency"),
        ("UPDATE idempotency SET fingerprint = set_byte(fingerprint, 0, 1)", "idempotency"),
        ("UPDATE lanes SET virtual_time = virtual_time + 1", "lanes"),
        ("DELETE FROM tails WHERE owner = 'key:bob'", "tails"),
    ],
)  # fmt: skip
async def test_a_lost_row_and_a_changed_byte_are_noticed(
    source: SqliteUnderTest, url: str, tampering: str, part: str
) -> None:
    found = await copied(source, url, [tampering])

    assert not found.is_equal
    assert part in {each.name for each in found.parts if not each.is_equal}


async def test_rows_that_belong_to_no_job_are_noticed(source: SqliteUnderTest, url: str) -> None:
    change(source.path, "INSERT INTO job_result (job, body) VALUES (99, x'00')")

    found = await copied(source, url)

    assert (found.is_equal, found.passed_over) == (False, ("job_result",))


async def test_nothing_is_noticed_where_nothing_is_wrong(source: SqliteUnderTest, url: str) -> None:
    """The control of the tests before."""
    assert (await copied(source, url)).is_equal


async def test_a_difference_is_exit_code_5_and_leaves_the_target_closed(
    cli: Cli, source: SqliteUnderTest, url: str
) -> None:
    await run(cli, sqlite_url(source), url)
    await query(url, "UPDATE job_result SET body = 'other'")
    await query(url, "UPDATE store_copies SET finished_at = NULL")

    result = await run(cli, sqlite_url(source), url)

    assert result.returncode == 5
    assert f"Job {copying.text_of(id_of(source.path, 1))} is not the same on both sides" in result.stderr
    with pytest.raises(StoreRefused, match="is not finished"):
        await PostgresStore.open(options(url), clock=SystemClock(), rng=SystemRng())


async def test_a_target_with_other_data_is_left_alone(cli: Cli, source: SqliteUnderTest, url: str) -> None:
    store = await PostgresStore.open(options(url), clock=SystemClock(), rng=SystemRng())
    await store.keys.create(source.key("other"), b"o" * 32)
    await store.close()

    said = [await refusal(cli, 4, sqlite_url(source), url, *flag) for flag in ((), ("--dry-run",))]

    assert said[0] == said[1]
    assert "holds other data (virtual_keys): copy into an empty database" in said[0]
    assert await query(url, "SELECT count(*) FROM jobs") == [(0,)]


async def test_a_target_that_is_in_use_is_left_alone(cli: Cli, source: SqliteUnderTest, url: str) -> None:
    store = await PostgresStore.open(options(url), clock=SystemClock(), rng=SystemRng())
    await store.jobs.renew(())

    said = await refusal(cli, 4, sqlite_url(source), url)
    for database in (store._database, store._renewals):
        await database.close()
    await until_nobody_is_connected(url)
    alive = await refusal(cli, 4, sqlite_url(source), url)

    assert "is in use by a running gateway or worker: stop all of them first" in said
    assert "has a worker that was alive in the last 12 s" in alive
    await store.wake_ups.stop()


async def test_a_source_that_is_in_use(cli: Cli, source: SqliteUnderTest, url: str) -> None:
    source.open()

    said = await refusal(cli, 4, sqlite_url(source), url)

    assert "another process uses this database: process " in said
    assert said.endswith(": stop it first\n")
    await source.store.close()


async def test_from_one_postgresql_to_another(
    cli: Cli, source: SqliteUnderTest, url: str, server: PostgresServer
) -> None:
    await copied(source, url)
    await until_nobody_is_connected(url)
    await query(url, "UPDATE store_copies SET finished_at = 1")
    await query(
        url,
        "UPDATE jobs SET status = 'processing', worker = id, lease = 'x', attempt = 2 WHERE run_at IS NOT NULL",
    )
    async with new_database(server) as other:
        result = await run(cli, url, other, "--json")
        jobs = await query(other, "SELECT status, worker, lease FROM jobs WHERE run_at IS NOT NULL")
        itself = await refusal(cli, 4, url, url)

    assert result.returncode == 0, result
    assert json.loads(result.stdout)["released"] == 1
    assert jobs == [("pending", None, None)]
    assert "or it is source and target at once" in itself


async def test_nobody_writes_into_a_postgresql_that_is_copied(url: str) -> None:
    await (await PostgresStore.open(options(url), clock=SystemClock(), rng=SystemRng())).close()
    await until_nobody_is_connected(url)
    source = await PostgresSource.open(options(url))

    connection = await asyncpg.connect(url, server_settings={"lock_timeout": "50ms"})
    for table in copying.NAMES:
        with pytest.raises(asyncpg.LockNotAvailableError):
            await connection.execute(sql("DELETE FROM", table))

    await connection.close()
    await source.close()


async def test_a_postgresql_without_our_schema_is_no_source(url: str) -> None:
    with pytest.raises(SchemaMismatch, match="run `tidegate migrate` on it first"):
        await PostgresSource.open(options(url))


async def test_wrong_urls(cli: Cli, source: SqliteUnderTest, url: str) -> None:
    nobody = f"postgresql://postgres:{CANARY}@127.0.0.1:{free_port()}/x"

    assert "FROM: Not the URL of a store. Use sqlite:///" in await refusal(cli, 2, "tidegate.db", url)
    assert "FROM: A store at mysql: is not supported" in await refusal(cli, 2, f"mysql://{CANARY}@h/x", url)
    assert "TO: The URL names no database" in await refusal(
        cli, 2, sqlite_url(source), f"postgresql://{CANARY}@h"
    )
    assert "TO: a copy goes into PostgreSQL only" in await refusal(
        cli, 2, sqlite_url(source), sqlite_url(source)
    )
    assert "there is no " in await refusal(cli, 4, f"sqlite:///{cli.directory}/none.db", url)
    said = await refusal(cli, 4, sqlite_url(source), nobody)
    assert "no server answers" in said
    assert CANARY not in said


async def test_a_gateway_on_the_target_carries_on(cli: Cli, tmp_path: Path, url: str) -> None:
    """Old answers are polled, keys of old submits replay, and what waited or was running runs."""
    places = [tmp_path / name for name in ("old", "new")]
    for place in places:
        place.mkdir()
    async with MockVendor.serve() as vendor:
        narrow = configuration(places[0], vendor.url)
        narrow["providers"]["openai"]["concurrency_and_buffer_size"] = {"concurrency": 2}
        with gateway_process(places[0], narrow) as old:
            await old.start()
            async with Connection("127.0.0.1", old.port) as connection:
                done = await submit(connection, "openai/echo", "done")
                answer = await ended(connection, done)
                held = [await submit(connection, "openai/slow", f"held-{n}") for n in range(4)]
                while vendor.in_flight < 2:
                    await asyncio.sleep(0.01)
            old.kill()
        result = await run(cli, narrow["store"]["url"], url, "--json")
        assert (result.returncode, json.loads(result.stdout)["released"]) == (0, 2), result

        moved = configuration(places[1], vendor.url, store={"url": url})
        with gateway_process(places[1], moved) as new:
            await new.start()
            async with Connection("127.0.0.1", new.port) as connection:
                assert (await ended(connection, done)).json() == answer.json()
                assert await submit(connection, "openai/echo", "done") == done
                for n, job in enumerate(held):
                    assert await submit(connection, "openai/slow", f"held-{n}") == job
                    assert (await ended(connection, job)).json()["status"] == "completed"


async def submit(connection: Connection, model: str, key: str) -> str:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json", "idempotency-key": key}
    answer = await connection.request("POST", CHAT, headers, json.dumps(chat(model, key)).encode())
    assert answer.status in {200, 202}, answer
    job_id = answer.json()["id"]
    assert isinstance(job_id, str)
    return job_id


async def ended(connection: Connection, job_id: str) -> Answer:
    async with asyncio.timeout(30):
        while True:
            headers = {"authorization": f"Bearer {KEY}", "prefer": "wait=10"}
            answer = await connection.request("GET", f"{CHAT}/{job_id}", headers)
            if answer.status == 200:
                return answer
            assert answer.status == 202, answer
