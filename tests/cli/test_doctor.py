"""``tidegate doctor`` and ``tidegate migrate``: the state of what a gateway needs."""

import json
from pathlib import Path
from typing import Any

import apsw
import pytest

from cli.runs import Cli, Served, one_line, write_json
from tidegate.store.sqlite.lock import DirectoryLock

DATA = "tidegate-data"


@pytest.fixture
def data(cli: Cli) -> Path:
    """A data directory with an empty database."""
    assert cli("migrate").returncode == 0
    return cli.directory / DATA


def checks(cli: Cli, *arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit code, and level and text of each check by name."""
    result = cli("doctor", "--json", *arguments)
    report: dict[str, Any] = json.loads(one_line(result.stdout))
    assert report["ok"] == (result.returncode == 0)
    return result.returncode, {check["name"]: (check["level"], check["text"]) for check in report["checks"]}


def test_a_healthy_directory_has_no_red_line(cli: Cli, data: Path) -> None:
    result = cli.process("doctor")

    names = [line.split()[1] for line in result.stdout.splitlines()]
    assert result.returncode == 0, result
    assert {
        "sqlite",
        "configuration",
        "provider",
        "issuer",
        "data",
        "disk",
        "fsync",
        "schema",
        "store",
    } <= set(names)
    assert "WRONG" not in result.stdout
    assert {file.name for file in data.iterdir()} <= {
        "tidegate.db",
        "tidegate.db-shm",
        "tidegate.db-wal",
        "tidegate.lock",
    }


def test_real_syncs_are_timed(cli: Cli, data: Path) -> None:
    _, found = checks(cli)

    assert "(p50)" in found["fsync"][1]
    assert "in 50 writes" in found["fsync"][1]


def test_before_the_first_start_nothing_is_red(cli: Cli) -> None:
    code, found = checks(cli)

    assert code == 0
    assert found["data"] == (
        "yellow",
        f"{cli.directory / DATA} does not exist yet; `tidegate serve` creates it",
    )
    assert not (cli.directory / DATA).exists()


def test_a_running_gateway_is_asked_whether_it_is_ready(served: tuple[Cli, Served]) -> None:
    cli, gateway = served

    code, found = checks(cli.with_variables(TIDEGATE_URL=gateway.url))
    elsewhere, lost = checks(cli, "--url", "http://127.0.0.1:9")

    holder = f"process {gateway.process.pid}, started "
    assert (code, found["store"][0]) == (0, "green")
    assert found["store"][1].startswith(holder)
    assert found["store"][1].endswith(f"runs and is ready at {gateway.url}")
    assert (elsewhere, lost["store"][0]) == (0, "yellow")
    assert "name its address with --url" in lost["store"][1]


def test_an_issuer_key_that_others_can_read_is_red(cli: Cli, data: Path) -> None:
    key = data / "local-issuer.key"
    key.write_text("0" * 64)
    key.chmod(0o644)

    code, found = checks(cli)

    assert (code, found["issuer"][0]) == (1, "red")
    assert found["issuer"][1].endswith(f"chmod 600 {key}")


def test_a_data_directory_that_everybody_may_write_to_is_red(cli: Cli, data: Path) -> None:
    data.chmod(0o777)

    code, found = checks(cli)

    assert (code, found["data"][0]) == (1, "red")


def test_too_little_room_is_red(cli: Cli, data: Path) -> None:
    code, found = checks(cli.with_variables(TIDEGATE__STORE__MIN_FREE_BYTES="1000TiB"))

    assert (code, found["disk"][0]) == (1, "red")


def test_a_damaged_database_is_red(cli: Cli, data: Path) -> None:
    database = data / "tidegate.db"
    content = bytearray(database.read_bytes())
    content[-4096:] = b"\xff" * 4096
    content[8192 * 3 : 8192 * 4] = b"\xff" * 8192
    database.write_bytes(content)

    code, found = checks(cli)

    assert (code, found["store"][0]) == (1, "red")
    assert "restore a backup" in found["store"][1]


def test_a_clock_behind_the_store_is_red(cli: Cli, data: Path) -> None:
    connection = apsw.Connection(str(data / "tidegate.db"))
    connection.execute("INSERT INTO boots (id, started_at, pid) VALUES ('later', 9999999999999, 1)")
    connection.close()

    code, found = checks(cli)

    assert (code, found["clock"][0]) == (1, "red")
    assert "check NTP" in found["clock"][1]


def test_a_database_that_has_lost_a_table_is_red_and_not_served(cli: Cli, data: Path) -> None:
    connection = apsw.Connection(str(data / "tidegate.db"))
    connection.execute("DROP TABLE boots")
    connection.close()
    reason = (
        "the database has lost table boots, which its schema_migrations says it has: restore it from a backup"
    )

    code, found = checks(cli)
    served = cli.process("serve", "--port", "0")
    migrated = cli("migrate")

    assert (code, found["schema"]) == (1, ("red", reason))
    assert (served.returncode, migrated.returncode) == (4, 4)
    assert served.stderr == f"{reason}\n"
    assert reason in one_line(migrated.stderr)


def test_no_provider_is_red(cli: Cli) -> None:
    file = write_json(cli.directory / "c.json", {"server": {}})

    code, found = checks(cli, "--config", str(file))

    assert (code, found["providers"][0]) == (1, "red")


def test_a_broken_configuration_is_red_with_its_report(cli: Cli) -> None:
    code, found = checks(cli, "--config", "nowhere.yaml")

    assert (code, found["configuration"][0]) == (1, "red")
    assert "[config_unreadable]" in found["configuration"][1]


def test_secrets_in_clear_are_yellow(cli: Cli) -> None:
    file = write_json(
        cli.directory / "c.json",
        {"providers": {"openai": {"keys": [{"name": "main", "value": "sk-in-clear"}]}}},
    )
    file.chmod(0o644)

    result = cli("doctor", "--config", str(file))

    assert result.returncode == 0
    assert "OTHERS CAN READ the secrets" in result.stdout
    assert "sk-in-clear" not in result.stdout


def test_migrate_lists_applies_and_is_content(cli: Cli) -> None:
    before = cli.process("migrate", "--check")
    made = (cli.directory / DATA).exists()
    applied = cli("migrate", "--json")
    after = cli("migrate", "--check")

    assert (before.returncode, before.stdout.split()[:2], made) == (1, ["pending", "0001_initial"], False)
    assert json.loads(applied.stdout)["applied"][0] == "0001_initial"
    assert (after.returncode, after.stdout) == (0, f"{cli.directory / DATA / 'tidegate.db'} is up to date.\n")


def test_migrate_leaves_the_database_of_a_running_gateway_alone(served: tuple[Cli, Served]) -> None:
    cli, gateway = served

    for arguments in (("migrate",), ("migrate", "--check")):
        result = cli(*arguments)
        assert result.returncode == 4
        assert f"process {gateway.process.pid}, started" in one_line(result.stderr)


def test_migrate_refuses_a_database_with_another_history(cli: Cli, data: Path) -> None:
    connection = apsw.Connection(str(data / "tidegate.db"))
    connection.execute("UPDATE schema_migrations SET checksum = 'x'")
    connection.close()

    result = cli("migrate")

    assert result.returncode == 4
    assert "was applied with another content" in one_line(result.stderr)


def test_migrate_lets_go_of_the_directory(cli: Cli, data: Path) -> None:
    lock = DirectoryLock(data / "tidegate.lock")

    lock.acquire({"pid": 1, "started_at": "now"})

    lock.release()
