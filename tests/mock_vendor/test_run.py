"""The mock vendor as a process of its own."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

PROGRAM = """
import json, sys
from pathlib import Path
from urllib.parse import urlsplit
from tidegate.mock_vendor import run
flags = {"host": "127.0.0.1", "port": 0, "latency": None, "fail_rate": None, "script": None, "journal": None, "seed": 0}
flags |= json.loads(sys.argv[1])
for name in ("script", "journal"):
    flags[name] = flags[name] and Path(flags[name])
sys.exit(run(**flags))
"""


@contextmanager
def running(**flags: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def url_of(process: subprocess.Popen[str]) -> str:
    """From the one line that is printed."""
    assert process.stdout is not None
    return next(word for word in process.stdout.readline().split() if word.startswith("http")).rstrip(",")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_at_once_even_with_a_call_under_way(number: signal.Signals, tmp_path: Path) -> None:
    journal = tmp_path / "calls.jsonl"
    with running(journal=str(journal)) as process:
        url = url_of(process)
        address = urlsplit(url)
        body = b'{"model": "slow", "messages": [{"role": "user", "content": "hi"}]}'
        with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            _until_busy(url)
            start = time.perf_counter()
            process.send_signal(number)
            out, err = process.communicate(timeout=5)
            took = time.perf_counter() - start

    entry = json.loads(journal.read_text())
    assert (process.returncode, out, err) == (0, "", "")
    assert took < 1
    assert (entry["model"], entry["status"], entry["hung_up"]) == ("slow", None, False)


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(port=port) as process:
            out, err = process.communicate(timeout=10)

    assert process.returncode == 1
    assert (out, err) == ("", f"port {port} on 127.0.0.1 is in use; choose another one\n")


def test_an_unusable_journal_is_one_clear_line(tmp_path: Path) -> None:
    with running(journal=str(tmp_path / "none" / "calls.jsonl")) as process:
        _, err = process.communicate(timeout=10)

    assert process.returncode == 1
    assert err == f"{tmp_path}/none/calls.jsonl: cannot be written: No such file or directory\n"


def test_a_bad_script_is_one_clear_line(tmp_path: Path) -> None:
    script = tmp_path / "mock.yaml"
    script.write_text("default: {statsu: 500}")

    with running(script=str(script)) as process:
        _, err = process.communicate(timeout=10)

    assert process.returncode == 3
    assert err == f"{script}: $.default.statsu is not known; did you mean status?\n"


def _until_busy(url: str) -> None:
    deadline = time.perf_counter() + 5
    while time.perf_counter() < deadline:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
        connection.request("GET", "/mock/calls")
        totals = json.load(connection.getresponse())
        connection.close()
        if totals["in_flight"]:
            return
    raise AssertionError("no call arrived")
