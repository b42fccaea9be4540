"""Finding the gateway: address, credential, and one clear line where something is wrong."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.conftest import KEY
from cli.runs import Cli, Served, one_line, write_json
from tidegate.api import local_issuer
from tidegate.cli.connect import connect
from tidegate.cli.exits import CliError
from tidegate.cli.options import Connection, Output
from tidegate.cli.screen import Screen

NOBODY = "http://127.0.0.1:9"


@contextmanager
def answering(status: int, body: bytes, kind: str = "application/json") -> Iterator[tuple[str, list[str]]]:
    """A server that is no gateway; its URL, and the credentials it was sent."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("authorization", ""))
            self.send_response(status)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 – its name in the base class
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "command",
    [("jobs", "list"), ("keys", "list"), ("jobs", "submit", "--model", "mock/echo", "--message", "hi")],
)
def test_no_gateway_is_one_line_with_the_way_to_one(cli: Cli, command: tuple[str, ...]) -> None:
    result = cli.process(*command, "--url", NOBODY)

    assert (result.returncode, result.stdout) == (1, "")
    assert one_line(result.stderr) == (
        f"no gateway answers at {NOBODY} (connection refused): "
        "start one with `tidegate serve`, or name another with --url"
    )


def test_the_address_comes_from_flag_then_environment_then_configuration(cli: Cli) -> None:
    write_json(cli.directory / "tidegate.json", {"server": {"host": "0.0.0.0", "port": 9}})  # noqa: S104 – nothing listens
    configured = cli.with_variables(TIDEGATE_CONFIG="tidegate.json")
    other = "http://127.0.0.1:10"

    told = [
        configured("jobs", "list"),
        configured.with_variables(TIDEGATE_URL=other)("jobs", "list"),
        configured.with_variables(TIDEGATE_URL=NOBODY)("jobs", "list", "--url", other),
    ]

    assert [one_line(result.stderr).split()[4] for result in told] == [NOBODY, other, other]


def test_a_wrong_key_is_exit_code_6(tg: Cli) -> None:
    result = tg.process("jobs", "list", "--key", "sk-bf-wrong")

    assert result.returncode == 6
    line = one_line(result.stderr)
    assert "wants another credential: virtual key not found [virtual_key_not_found]" in line
    assert "--key or TIDEGATE_KEY" in line


def test_the_key_of_another_data_directory_is_exit_code_6(tg: Cli, tmp_path: Path) -> None:
    local_issuer.load_or_create(tmp_path)

    result = tg("keys", "list", "--data", str(tmp_path))

    assert result.returncode == 6
    assert "[invalid_token]" in one_line(result.stderr)


def test_without_any_key_the_gateway_asks_for_one(tg: Cli, tmp_path: Path) -> None:
    result = tg("keys", "list", "--data", str(tmp_path))

    assert result.returncode == 6
    assert "[virtual_key_required]" in one_line(result.stderr)


def test_the_key_may_come_from_the_environment(served: tuple[Cli, Served]) -> None:
    cli, _ = served

    result = cli.with_variables(TIDEGATE_KEY=KEY)("keys", "list")

    assert (result.returncode, "[admin_required]" in result.stderr) == (6, True)


def test_verbose_names_each_request(tg: Cli) -> None:
    result = tg("jobs", "list", "--limit", "1", "-v")

    assert one_line(result.stderr).startswith("GET /v1/async/jobs?limit=1 -> 200, request id ")


@pytest.mark.parametrize(
    ("status", "body", "complaint"),
    [
        (200, b"<html>hello</html>", "is not a Tidegate gateway: it answered HTTP 200"),
        (404, b'{"detail": "Not Found"}', "is not a Tidegate gateway: it answered HTTP 404"),
        (200, b"[]", "is not a Tidegate gateway"),
    ],
)
def test_something_else_at_the_address_is_one_line(
    cli: Cli, status: int, body: bytes, complaint: str
) -> None:
    with answering(status, body) as (url, _):
        result = cli("jobs", "list", "--url", url)

    assert result.returncode == 1
    assert complaint in one_line(result.stderr)


def test_a_gateway_that_cannot_do_it_now_is_one_line(cli: Cli) -> None:
    body = b'{"error": {"code": "shutting_down", "message": "the server is shutting down"}}'
    with answering(503, body) as (url, _):
        result = cli("jobs", "list", "--url", url)

    assert result.returncode == 1
    assert one_line(result.stderr) == "not now: the server is shutting down [shutting_down]; try again later"


def test_proxies_of_the_environment_are_not_used(tg: Cli) -> None:
    with_proxy = tg.with_variables(http_proxy=NOBODY, HTTP_PROXY=NOBODY, ALL_PROXY=NOBODY)

    assert with_proxy("jobs", "list", "--limit", "1").returncode == 0


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://x", "http://", "http://a:b@x", "http://x?y=1", "http://[x"]
)
def test_an_address_that_is_none_is_exit_code_2(cli: Cli, url: str) -> None:
    result = cli("jobs", "list", "--url", url)

    assert result.returncode == 2
    assert "is not the URL of a gateway" in one_line(result.stderr)


def test_the_admin_token_of_this_machine_is_not_sent_to_a_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_issuer.load_or_create(tmp_path)
    monkeypatch.setenv("TIDEGATE__SERVER__DATA_DIR", str(tmp_path))
    screen = Screen(Output())

    def sent_to(connection: Connection) -> str | None:
        return connect(connection, screen).credential()

    assert sent_to(Connection(url="https://gateway.example")) is None
    assert sent_to(Connection(url="http://127.0.0.1:8080")) is not None
    assert sent_to(Connection()) is not None
    assert sent_to(Connection(url="https://gateway.example", data=tmp_path)) is not None


def test_an_unreadable_key_file_says_so(tmp_path: Path) -> None:
    (tmp_path / local_issuer.FILE_NAME).mkdir()

    with pytest.raises(CliError, match=r"cannot read .*: Is a directory"):
        connect(Connection(data=tmp_path), Screen(Output()))
