"""PgBouncer in transaction mode: the machine's own, or Debian's, unpacked and not installed."""

import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

from benchmarks.machine.http import free_port
from benchmarks.machine.postgres import PostgresServer, identity

_CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "pgbouncer"
READY_WITHIN: Final = 10.0


@final
class PgBouncer:
    """A pooler before one server, which gives each transaction another of few connections."""

    def __init__(self, program: Path, home: Path, server: PostgresServer, settings: str) -> None:
        self.port = free_port()
        self._program = program
        self._home = home
        self._config = home / "pgbouncer.ini"
        self._log = home / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._config.write_text(
            f"""[databases]
* = host=127.0.0.1 port={server.port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 6
max_client_conn = 500
server_round_robin = 1
{settings}
"""
        )

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, self._config],
                env={
                    "LD_LIBRARY_PATH": ":".join(str(found.parent) for found in self._home.rglob("lib*.so.*"))
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                **identity(),
            )
        give_up = time.monotonic() + READY_WITHIN
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"PgBouncer did not start: {self._log.read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}?sslmode=disable"


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def pgbouncer(server: PostgresServer, settings: str = "") -> Iterator[PgBouncer]:
    """A running one; at the end it is gone."""
    with tempfile.TemporaryDirectory(prefix="tidegate-pooler-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        pooler = PgBouncer(_program(place), place, server, settings)
        pooler.start()
        try:
            yield pooler
        finally:
            pooler.kill()


def _program(place: Path) -> Path:
    """As a user may run it who may read nothing of ours: it refuses to run as root."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found is not None:
        return Path(found)
    for package in _packages():
        _run("dpkg-deb", "--extract", str(package), str(place))
    return place / "usr" / "sbin" / "pgbouncer"


def _packages() -> list[Path]:
    """It, and what a machine without it may lack; fetched once."""
    if not list(_CACHE.glob("pgbouncer_*.deb")):
        _CACHE.mkdir(parents=True, exist_ok=True)
        needs = re.findall(
            r"Depends: (libc-?ares\S+|libevent-2\S+)", _run("apt-cache", "depends", "pgbouncer")
        )
        _run("apt-get", "download", "-qq", "pgbouncer", *needs, cwd=_CACHE)
    return list(_CACHE.glob("*.deb"))


def _run(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=cwd).stdout
