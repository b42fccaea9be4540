"""``tidegate serve``: the first start, what keeps it from starting, how it stops."""

import json
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec import Struct

from cli.runs import Cli, one_line, serving, write_json
from tidegate.serving import bind

DATA = "tidegate-data"


def mode_of(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def events(log: str) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return {line["event"]: line for line in lines}


class FirstStart(Struct):
    """What was seen of a bare start in an empty directory."""

    directory: Path
    said: Mapping[str, Any]
    pid: int
    answer: dict[str, Any]
    """To the curl line as it was printed."""
    jobs: list[dict[str, Any]]
    """As the admin token lists them."""
    code: int
    log: str


@pytest.fixture(scope="module")
def first_start(tmp_path_factory: pytest.TempPathFactory, bytecode: Path) -> FirstStart:
    cli = Cli(tmp_path_factory.mktemp("empty"), bytecode)
    with serving(cli) as gateway:
        answer = cli.curl(gateway.said["curl"])
        token = f'"Authorization: Bearer $(cat {gateway.said["admin_token_file"]})"'
        jobs = cli.curl(f"curl -sS {gateway.url}/v1/async/jobs -H {token}")
        code = gateway.stop()
    return FirstStart(
        cli.directory,
        gateway.said,
        gateway.process.pid,
        answer,
        jobs["data"],
        code,
        gateway.log,
    )


def test_a_bare_start_gives_a_curl_line_that_works_unchanged(first_start: FirstStart) -> None:
    job = first_start.answer

    assert (job["status"], job["status_code"]) == ("completed", 200)
    assert job["result"]["choices"][0]["message"]["content"] == "When is high water at Dover today?"
    assert first_start.said["providers"][0] == "mock"


def test_a_bare_start_gives_an_admin_token(first_start: FirstStart) -> None:
    assert [job["id"] for job in first_start.jobs] == [first_start.answer["id"]]


def test_without_a_terminal_the_first_secrets_are_in_files_of_their_owner_alone(
    first_start: FirstStart,
) -> None:
    files = [Path(first_start.said[name]) for name in ("virtual_key_file", "admin_token_file")]
    secrets = [one_line(file.read_text()) for file in files]

    assert [mode_of(file) for file in (first_start.directory / DATA, *files)] == [0o700, 0o600, 0o600]
    assert secrets[0].startswith("sk-bf-")
    assert secrets[1].startswith("eyJ")
    assert not [one for one in secrets if one in first_start.log + json.dumps(first_start.said)]


def test_sigterm_ends_it_with_exit_code_0(first_start: FirstStart) -> None:
    assert first_start.code == 0


def test_start_and_stop_are_logged_with_their_facts(first_start: FirstStart) -> None:
    logged = events(first_start.log)

    started = logged["gateway.started"]
    said = first_start.said
    assert (started["url"], started["version"], started["pid"]) == (
        said["url"],
        said["version"],
        first_start.pid,
    )
    assert started["rescued"] == 0
    assert list(logged)[-2:] == ["gateway.stopping", "gateway.stopped"]


def test_what_changes_something_and_each_finished_job_are_one_line_of_json(first_start: FirstStart) -> None:
    logged = events(first_start.log)

    finished = logged["job.finished"]
    assert all(line.startswith("{") for line in first_start.log.splitlines())
    assert (logged["key.created"]["name"], logged["job.accepted"]["model"]) == ("first", "mock/echo")
    assert (finished["model"], finished["status"], finished["calls"]) == ("mock/echo", "completed", 1)
    assert finished["job_id"] == first_start.answer["id"]


def test_without_json_the_banner_is_on_stderr_and_its_curl_line_works(cli: Cli) -> None:
    process = cli.start("serve", "--port", "0")
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        curl = next(line.strip() for line in lines if "curl " in line)
        answer = cli.curl(curl)
        process.terminate()
        out, _ = process.communicate(timeout=10)
    finally:
        process.kill()
        process.communicate()

    assert out == ""
    assert answer["status"] == "completed"


def test_on_a_terminal_the_first_secrets_are_shown_and_kept_nowhere(cli: Cli) -> None:
    code, shown = cli.on_terminal("serve", "--port", "0", until="Try it")

    files = {file.name for file in (cli.directory / DATA).iterdir()}
    assert code == 0, shown
    assert "First virtual key    sk-bf-" in shown
    assert "Admin token, 24 h    eyJ" in shown
    assert not {name for name in files if name.startswith("first")}


def test_the_second_start_makes_no_new_key(cli: Cli) -> None:
    with serving(cli):
        pass
    with serving(cli) as again:
        keys = cli("keys", "list", "--url", again.url)

    assert again.said["virtual_key_file"] is None
    assert "$TIDEGATE_KEY" in again.said["curl"]
    assert keys.stdout.count("\n") == 1


def test_a_vendor_whose_key_is_in_the_environment_is_there(cli: Cli) -> None:
    with serving(cli.with_variables(OPENAI_API_KEY="sk-of-nobody")) as gateway:
        assert gateway.stop() == 0

    assert {"mock", "openai"} <= set(gateway.said["providers"])
    assert "sk-of-nobody" not in gateway.log


def test_a_store_that_fails_ends_the_process_with_exit_code_4(cli: Cli) -> None:
    body = json.dumps({"model": "mock/echo", "messages": [{"role": "user", "content": "x" * 400_000}]})
    with serving(cli, most_blocks=2048) as gateway:
        for _ in range(6):
            last = cli("jobs", "submit", "-f", "-", "--url", gateway.url, stdin=body)
        _, log = gateway.process.communicate(timeout=10)

    assert gateway.process.returncode == 4
    assert last.returncode == 1
    assert "check the disk" in events(log)["store.failed"]["reason"]


def test_log_level_hides_what_is_less_severe(cli: Cli) -> None:
    with serving(cli, "--log-level", "warning") as gateway:
        assert gateway.stop() == 0

    assert gateway.log == ""


def test_a_port_in_use_is_one_line_and_the_store_stays_untouched(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = cli.process("serve", "--port", port)

    assert result.returncode == 1
    assert one_line(result.stderr) == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; "
        "stop the other process or choose another --port"
    )
    assert not (cli.directory / DATA).exists()


def test_a_port_that_somebody_else_began_to_listen_on_is_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bind("127.0.0.1", 0) as faster:
        host, port = faster.getsockname()
        ours = bind(host, port)
        faster.listen()
        monkeypatch.setattr("tidegate.serving.bind", lambda *_address: ours)

        result = cli("serve", "-q")

    assert result.returncode == 1
    assert one_line(result.stderr).startswith(f"cannot listen on 127.0.0.1:{port}: Address already in use")
    assert not (cli.directory / DATA / "first-virtual-key").exists()


def test_a_second_gateway_on_the_same_data_names_the_first(cli: Cli) -> None:
    with serving(cli) as first:
        second = cli.process("serve", "--port", "0")

    assert second.returncode == 4
    assert f"another process uses this database: process {first.process.pid}" in one_line(second.stderr)


def test_a_database_of_a_newer_version_is_refused_with_the_remedy(cli: Cli) -> None:
    cli("migrate")
    connection = apsw.Connection(str(cli.directory / DATA / "tidegate.db"))
    connection.execute("INSERT INTO schema_migrations (number, name, checksum) VALUES (9999, 'later', 'x')")
    connection.close()

    result = cli("serve", "--port", "0")

    assert result.returncode == 4
    assert "start a newer version of tidegate" in one_line(result.stderr)


def test_a_file_that_is_no_database_is_refused(cli: Cli) -> None:
    data = cli.directory / DATA
    data.mkdir()
    (data / "tidegate.db").write_text("this is a text file, and long enough to be looked at" * 100)

    result = cli("serve", "--port", "0")

    assert result.returncode == 4
    assert "not an intact SQLite database" in one_line(result.stderr)


def test_a_data_directory_that_cannot_be_made_is_one_line(cli: Cli) -> None:
    (cli.directory / "file").write_text("")

    result = cli("serve", "--port", "0", "--data", "file/data")

    assert result.returncode == 4
    assert one_line(result.stderr).startswith("cannot use ")


def test_every_problem_of_the_configuration_is_reported_before_anything_starts(cli: Cli) -> None:
    file = cli.directory / "tidegate.yaml"
    file.write_text("server:\n  prot: 1\nclient:\n  async_job_result_ttl: never\n")

    result = cli("serve", "--config", str(file))

    assert (result.returncode, result.stdout) == (3, "")
    assert "2 problems" in result.stderr
    assert "server.prot" in result.stderr
    assert "client.async_job_result_ttl" in result.stderr
    assert not (cli.directory / DATA).exists()


def test_a_public_address_without_authentication_needs_a_word(cli: Cli) -> None:
    file = write_json(cli.directory / "open.json", {"auth": {"required": False}, "providers": {"mock": {}}})

    refused = cli("serve", "--config", str(file), "--host", "192.0.2.1", "--port", "0")
    # Loopback, though not written like it.
    with serving(cli, "--config", str(file), "--host", "127.1", "--allow-anonymous-public") as gateway:
        answer = cli.curl(gateway.said["curl"])

    assert refused.returncode == 3
    assert "--allow-anonymous-public" in one_line(refused.stderr)
    assert gateway.url.startswith("http://127.0.0.1:")
    assert answer["status"] == "completed"


def test_with_a_configuration_and_no_key_the_way_to_one_is_shown(cli: Cli) -> None:
    file = write_json(cli.directory / "tidegate.json", {"providers": {"mock": {}}})

    code, shown = cli.on_terminal("serve", "--config", str(file), "--port", "0", until="keys create")

    assert code == 0
    assert "No virtual key exists yet" in shown
    assert "sk-bf-" not in shown


def test_a_configuration_that_leaves_settings_without_effect_says_so(cli: Cli) -> None:
    config = {"providers": {"mock": {"concurrency_and_buffer_size": {"buffer_size": 7}}}}
    file = write_json(cli.directory / "tidegate.json", config)

    with serving(cli, "--config", str(file)) as gateway:
        assert gateway.stop() == 0

    assert ["buffer_size" in text for text in gateway.said["ignored"]] == [True]
    assert "buffer_size" in events(gateway.log)["settings.ignored"]["message"]
