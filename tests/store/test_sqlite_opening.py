"""Opening a SQLite store: what it insists on, and what it refuses with a reason."""

import json
import os
import stat
from pathlib import Path

import apsw
import pytest

from support.fakes import SeededRng
from support.stores import SqliteUnderTest
from tidegate.store import migrate
from tidegate.store.migrate import Migration, SchemaMismatch, migrations, pending
from tidegate.store.refusal import StoreRefused
from tidegate.store.sqlite import AlreadyRunning, connection
from tidegate.store.sqlite.store import apply_migrations

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(tmp_path: Path) -> SqliteUnderTest:
    return SqliteUnderTest(tmp_path / "data" / "tidegate.db")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_what_we_create_is_for_us_alone(store: SqliteUnderTest) -> None:
    store.open()

    assert mode(store.path.parent) == 0o700
    assert {path.name: oct(mode(path)) for path in store.path.parent.iterdir()} == dict.fromkeys(
        ("tidegate.db", "tidegate.db-wal", "tidegate.db-shm", "tidegate.lock"), oct(0o600)
    )
    await store.store.close()


async def test_a_directory_that_exists_keeps_its_mode(store: SqliteUnderTest) -> None:
    store.path.parent.mkdir(mode=0o755)
    before = mode(store.path.parent)
    store.open()

    assert mode(store.path.parent) == before
    await store.store.close()


async def test_durability_settings_hold_on_every_connection(store: SqliteUnderTest) -> None:
    store.open()
    writer = store.store._writer._connection
    looker = store.store._readers._looker
    scanner = store.store._readers._scanners.get()

    assert writer.pragma("journal_mode") == "wal"
    for database in (writer, looker, scanner):
        assert database.pragma("synchronous") == 2
        assert database.pragma("wal_autocheckpoint") == 0
        assert database.pragma("trusted_schema") == 0
        assert database.pragma("mmap_size") == 0
        assert database.pragma("foreign_keys") == 1
    for reader in (looker, scanner):
        with pytest.raises(apsw.ReadOnlyError):
            reader.execute("DELETE FROM jobs")
    store.store._readers._scanners.put(scanner)
    await store.store.close()


async def test_wiping_overwrites_what_is_deleted(store: SqliteUnderTest) -> None:
    store.options = {"wipe": True}
    store.open()
    await store.accept(body=b"plan of the attic", result_ttl=1)
    await store.complete(await store.claim_one(), b"answer of the attic")
    store.later(seconds=2)

    await store.jobs.prune(limit=10)
    await store.store.close()

    assert b"of the attic" not in store.path.read_bytes()


async def test_a_second_process_is_told_who_was_first(store: SqliteUnderTest) -> None:
    store.open()

    with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}, started 20"):
        SqliteUnderTest(store.path).open()

    await store.store.close()
    again = SqliteUnderTest(store.path, rng=SeededRng(1))
    again.open()
    await again.store.close()


async def test_a_lock_file_of_garbage_stops_nobody(store: SqliteUnderTest) -> None:
    store.path.parent.mkdir()
    (store.path.parent / "tidegate.lock").write_bytes(b"\xff not json")

    store.open()

    assert json.loads((store.path.parent / "tidegate.lock").read_text())["pid"] == os.getpid()
    await store.store.close()


async def test_a_file_that_is_no_database_is_refused_and_left_alone(store: SqliteUnderTest) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(b"important notes " * 100)

    with pytest.raises(StoreRefused, match="not an intact SQLite database"):
        store.open()

    assert store.path.read_bytes() == b"important notes " * 100


async def test_a_sqlite_that_corrupts_is_refused(
    store: SqliteUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("3.51.2", "3.52.0", "3.40.1"):
        monkeypatch.setattr(apsw, "sqlite_lib_version", lambda version=version: version)
        with pytest.raises(StoreRefused, match="may corrupt the database"):
            store.open()


async def test_a_network_file_system_is_refused(
    store: SqliteUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_file_system", lambda _directory: "nfs4")

    with pytest.raises(StoreRefused, match=r"network file system \(nfs4\)"):
        store.open()


async def test_a_setting_that_did_not_take_is_noticed(
    store: SqliteUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered = connection.Pragma("synchronous", "NORMAL", 2)
    monkeypatch.setattr(connection, "_ALWAYS", (lowered,))

    with pytest.raises(StoreRefused, match="did not take synchronous"):
        store.open()


async def test_an_orderly_stop_is_told_from_a_crash(store: SqliteUnderTest) -> None:
    store.open()
    store.crash_and_restart()
    await store.store.close()
    store.open()

    boots = store.store._writer._connection.execute("SELECT is_clean FROM boots ORDER BY id").fetchall()

    assert boots == [(0,), (1,), (0,)]
    await store.store.close()


async def test_a_clock_far_behind_the_store_is_warned_of(store: SqliteUnderTest) -> None:
    store.open()
    await store.accept()
    await store.store.close()
    late = SqliteUnderTest(store.path)
    late.later(minutes=-6)

    late.open()

    assert "check NTP" in late.store.warnings[0]
    await late.store.close()


class TestMigrations:
    def test_each_is_applied_once(self) -> None:
        database = apsw.Connection(":memory:")

        assert apply_migrations(database) == len(migrations("sqlite"))
        assert apply_migrations(database) == 0

    def test_a_newer_schema_is_refused(self) -> None:
        known = [Migration(1, "0001_initial", "")]

        with pytest.raises(SchemaMismatch, match="start a newer version"):
            pending({1: known[0].checksum, 2: "?"}, known, set())

    def test_a_migration_that_was_edited_later_is_refused(self) -> None:
        with pytest.raises(SchemaMismatch, match="another content"):
            pending({1: "old"}, [Migration(1, "0001_initial", "CREATE TABLE x (a)")], {"x"})

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (
                "DROP TABLE job_result; DROP TABLE lanes",
                "the database has lost tables job_result, lanes, which",
            ),
            ("DROP TABLE schema_migrations", "the database has tables attempts, boots, "),
            (
                "DROP TABLE schema_migrations; CREATE TABLE schema_migrations (version TEXT)",
                "schema_migrations is another program's: give tidegate a database of its own",
            ),
        ],
    )
    def test_a_schema_that_is_not_as_it_says_is_refused_and_left_alone(self, damage: str, words: str) -> None:
        database = apsw.Connection(":memory:")
        apply_migrations(database)
        database.execute(damage)
        before = database.serialize("main")

        with pytest.raises(SchemaMismatch, match=words):
            apply_migrations(database)

        assert database.serialize("main") == before

    def test_the_tables_of_a_migration_are_those_it_makes(self) -> None:
        database = apsw.Connection(":memory:")
        apply_migrations(database)

        made = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}

        known = {table for migration in migrations("sqlite") for table in migration.tables}
        assert made == known | {"schema_migrations"}

    def test_one_that_breaks_leaves_nothing_behind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        steps = [
            Migration(1, "0001_first", "CREATE TABLE first (a)"),
            Migration(2, "0002_broken", "CREATE TABLE second (a); CREATE TABLE first (a)"),
        ]
        monkeypatch.setattr("tidegate.store.sqlite.store.migrations", lambda _dialect: steps)
        database = apsw.Connection(":memory:")

        with pytest.raises(apsw.SQLError):
            apply_migrations(database)

        tables = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        assert ("second",) not in tables
        assert database.execute("SELECT number FROM schema_migrations").fetchall() == [(1,)]

    def test_files_are_numbered_without_gaps(self) -> None:
        for dialect in migrate.DIALECTS:
            numbers = [migration.number for migration in migrations(dialect)]
            assert numbers == list(range(1, len(numbers) + 1))
