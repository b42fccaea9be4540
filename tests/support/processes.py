"""Gateways and vendors as processes of their own, for tests that kill them."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

from support.wire import Connection

READY_WITHIN: Final = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


@final
class GatewayProcess:
    """``tidegate serve`` with one configuration, started and killed as often as a test likes."""

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        self.directory = directory
        self.port = free_port()
        self.log = directory / "gateway.log"
        self.config = directory / "tidegate.json"
        server = {**config.get("server", {}), "host": "127.0.0.1", "port": self.port}
        merged = {**config, "server": server}
        self.config.write_text(json.dumps(merged), "utf-8")
        self.config.chmod(0o600)
        self.listening_at = 0.0
        """Wall clock when the listener answered first."""
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, *command: str) -> None:
        """Returns as soon as the listener answers. ``command`` replaces ``tidegate serve``."""
        arguments = command or ("tidegate", "serve", "--config")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments, str(self.config)],
                cwd=self.directory,
                env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
                stdout=log,
                stderr=log,
            )
        give_up = time.monotonic() + READY_WITHIN
        while True:
            try:
                async with Connection("127.0.0.1", self.port) as connection:
                    await connection.request("GET", "/healthz")
            except (OSError, asyncio.IncompleteReadError):
                assert self._process.poll() is None, self.log.read_text()[-3000:]
                assert time.monotonic() < give_up, self.log.read_text()[-3000:]
                await asyncio.sleep(0.005)
            else:
                self.listening_at = time.time()
                return

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """``kill -9``, and gone when it returns."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def exit_code(self) -> int:
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, 60)

    def cleanup(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()


@contextmanager
def gateway_process(directory: Path, config: Mapping[str, Any]) -> Iterator[GatewayProcess]:
    """Not started yet; gone at the end, whatever happened."""
    process = GatewayProcess(directory, config)
    try:
        yield process
    finally:
        process.cleanup()


_HOLD: Final = """
import apsw, sys
database = apsw.Connection(sys.argv[1])
database.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
database.execute("ROLLBACK")
"""


@contextmanager
def held(database: Path) -> Iterator[Callable[[], None]]:
    """Another process holds the database, until what this yields is called or at the latest to the end."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"

        def let_go() -> None:
            if process.poll() is None:
                process.communicate(b"\n")

        try:
            yield let_go
        finally:
            let_go()
