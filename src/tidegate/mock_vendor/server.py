"""Runs the mock vendor: inside another program's event loop, or alone until a signal ends it."""

import asyncio
import errno
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, final

import uvloop
from uvicorn.config import Config
from uvicorn.server import ServerState

from tidegate.mock_vendor.app import MockApp
from tidegate.mock_vendor.clock import Now, seeded, utc_now
from tidegate.mock_vendor.delivery import MockProtocol
from tidegate.mock_vendor.journal import Call, Journal
from tidegate.mock_vendor.script import Script, ScriptError, load_script, read_script

REMEMBERED_CALLS: Final = 1000
KEEP_ALIVE_SECONDS: Final = 75
_TURNS_TO_SETTLE: Final = 5


@final
class MockVendor:
    """A running vendor. ``serve`` starts one and stops it, cutting whatever is still open."""

    def __init__(self, url: str, app: MockApp, journal: Journal) -> None:
        self.url = url
        """Its origin; the OpenAI base URL is this with ``/v1``."""
        self._app = app
        self._journal = journal

    @classmethod
    @asynccontextmanager
    async def serve(
        cls,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        script: Script | Mapping[str, Any] | None = None,
        journal: Path | None = None,
        seed: int = 0,
        keep_bodies: bool = False,
        now: Now = utc_now,
    ) -> AsyncIterator["MockVendor"]:
        """On the running event loop; installs no signal handler. Port 0 takes a free one.

        ``journal`` names a file that gets one JSON line per ended call; ``keep_bodies`` keeps request bodies
        in ``calls()``. Raises ``OSError`` when it cannot listen or write, ``ScriptError`` for a bad script.
        """
        with ExitStack() as stack:
            # Unbuffered: a line is in the file as soon as its call is over, whatever becomes of us.
            file = stack.enter_context(journal.open("ab", buffering=0)) if journal is not None else None
            book = Journal(now, size=REMEMBERED_CALLS, keep_bodies=keep_bodies, file=file)
            app = MockApp(_as_script(script), book, seeded(seed), now)
            async with _listening(app, host, port) as origin:
                try:
                    yield cls(origin, app, book)
                finally:
                    book.is_closed = True

    @property
    def total(self) -> int:
        """Calls since the start or the last ``clear_calls``."""
        return self._journal.total

    @property
    def in_flight(self) -> int:
        return self._journal.in_flight

    def calls(self) -> list[Call]:
        """The last thousand, oldest first."""
        return self._journal.calls

    def totals(self) -> dict[str, Any]:
        """What ``GET /mock/calls`` says."""
        return self._journal.shown(full=False)

    def clear_calls(self) -> None:
        self._journal.clear()

    def set_script(self, script: Script | Mapping[str, Any] | None) -> None:
        """Raises ``ScriptError``. Counts such as ``first`` begin anew."""
        self._app.play(_as_script(script))


def run(
    *,
    host: str,
    port: int,
    latency: float | None,
    fail_rate: float | None,
    script: Path | None,
    journal: Path | None,
    seed: int,
) -> int:
    """Serve until SIGINT or SIGTERM. Returns the exit code: 1 cannot listen or write, 3 bad script."""
    try:
        played = (load_script(script) if script else Script()).with_flags(
            latency=latency, fail_rate=fail_rate
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve_until_signal(host, port, played, journal, seed))
    except ScriptError as error:
        return _give_up(str(error), 3)
    except OSError as error:
        return _give_up(_explain(error, host, port), 1)
    return 0


async def _serve_until_signal(host: str, port: int, script: Script, journal: Path | None, seed: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with MockVendor.serve(host=host, port=port, script=script, journal=journal, seed=seed) as vendor:
        sys.stdout.write(f"Mock vendor at {vendor.url}/v1, its journal at {vendor.url}/mock/calls\n")
        sys.stdout.flush()
        await stop.wait()


@asynccontextmanager
async def _listening(app: MockApp, host: str, port: int) -> AsyncIterator[str]:
    """uvicorn's protocol on a plain listener: its server would take over signals and wait for idle clients."""
    config = Config(
        app,
        http=MockProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    config.load()
    state = ServerState()

    def connect() -> MockProtocol:
        return MockProtocol(config, state, {})

    listener = await asyncio.get_running_loop().create_server(connect, host, port, backlog=2048)
    try:
        yield _origin(host, listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        # A connection accepted a moment ago shows up within a few turns of the loop.
        for _ in range(_TURNS_TO_SETTLE):
            for connection in list(state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)  # noqa: TID251 – no time passes
        if state.tasks:
            await asyncio.wait(state.tasks)
        await listener.wait_closed()


def _as_script(script: Script | Mapping[str, Any] | None) -> Script:
    if script is None:
        return Script()
    return script if isinstance(script, Script) else read_script(script)


def _origin(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _explain(error: OSError, host: str, port: int) -> str:
    if error.filename is not None:
        return f"{error.filename}: cannot be written: {error.strerror}"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; choose another one"
    return f"cannot listen on {host} port {port}: {error}"


def _give_up(message: str, code: int) -> int:
    sys.stderr.write(f"{message}\n")
    return code
