"""The gateway as a process: start in order, serve, drain on a signal, stop in order."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Final, final

import uvicorn

from tidegate.acceptor import CONNECTIONS_AT_ONCE, Acceptor
from tidegate.api.connection_watch import DEFAULT_LIMITS, ConnectionLimits
from tidegate.api.protocol import protocol_within
from tidegate.api.tokens import warm_up
from tidegate.bootstrap import Gateway, build
from tidegate.settings import Settings

EXIT_OK: Final = 0
EXIT_STORE: Final = 4
EXIT_AT_ONCE: Final = 130
_TIME_TO_ANSWER: Final = 0.3
_BACKLOG: Final = 2048
_CONNECTIONS_MAY_FINISH: Final = 1
_OBJECTS_BETWEEN_COLLECTIONS: Final = 50_000


class CannotListen(Exception):
    """The address cannot be listened on; the message says why and what to do."""


@final
class _HttpServer(uvicorn.Server):
    """uvicorn with a listener of ours and without its own idea of signals: the gateway drains first."""

    def __init__(self, config: uvicorn.Config, *, shares_listener: bool) -> None:
        super().__init__(config)
        self._at_once = 1 if shares_listener else CONNECTIONS_AT_ONCE

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        acceptors = [Acceptor(listener, self._new_connection, self._at_once) for listener in sockets or ()]
        for acceptor in acceptors:
            acceptor.start()
        self.servers = acceptors  # type: ignore[assignment]  # all that uvicorn does with one is to close it
        self.started = True

    def _new_connection(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]  # a class of ours
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet. Raises ``CannotListen``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol by its name: asyncio switches Nagle's delay off only where it reads TCP here.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as exc:
        found.close()
        raise _cannot_listen(host, port, exc) from exc
    return found


def _cannot_listen(host: str, port: int, error: OSError) -> CannotListen:
    return CannotListen(
        f"cannot listen on {host}:{port}: {error.strerror}; stop the other process or choose another --port"
    )


@final
class Process:
    """One run of the gateway, from an open store to a closed one."""

    def __init__(
        self,
        gateway: Gateway,
        listener: socket.socket | None,
        limits: ConnectionLimits = DEFAULT_LIMITS,
        *,
        shares_listener: bool = False,
    ) -> None:
        """Without a ``listener`` it works and answers nobody."""
        self._gateway = gateway
        self._listener = listener
        self._serving: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._server = _HttpServer(
            uvicorn.Config(
                gateway.app,
                http=protocol_within(limits),
                loop="uvloop",
                lifespan="off",
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_CONNECTIONS_MAY_FINISH,
            ),
            shares_listener=shares_listener,
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where it is to listen. Raises ``RuntimeError`` for one that does not."""
        if self._listener is None:
            raise RuntimeError("this process has no listener")
        host, port, *_ = self._listener.getsockname()
        return host, port

    def request_stop(self) -> None:
        """Drain and stop; asked a second time, exit at once."""
        if self._stop.is_set():
            os._exit(EXIT_AT_ONCE)
        self._stop.set()

    def stop_on_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.request_stop)

    async def run(self, on_ready: Callable[[], Awaitable[None]]) -> None:
        """Serve until a stop is requested."""
        gateway = self._gateway
        works = (gateway.worker.run(), gateway.leases.run()) if gateway.roles.works else ()
        loops = [asyncio.create_task(work) for work in (gateway.maintenance.run(), *works)]
        try:
            if self._listener is not None:
                await self._serve_on(self._listener)
            await on_ready()
            with contextlib.suppress(
                ImportError, OSError
            ):  # while descriptors are used up; later it can be loaded
                await warm_up()
            _leave_alone_what_stays()
            await self._stop.wait()
            await self._drain()
        finally:
            self._server.should_exit = True
            for task in loops:
                task.cancel()
            serving = () if self._serving is None else (self._serving,)
            await asyncio.gather(*loops, *serving, return_exceptions=True)
            await gateway.transport.close()
            await gateway.store.close()

    async def _serve_on(self, listener: socket.socket) -> None:
        """Listen here and not by the event loop: uvloop would not notice that somebody else listens already."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        try:
            listener.listen(_BACKLOG)
        except OSError as exc:
            host, port, *_ = listener.getsockname()
            raise _cannot_listen(host, port, exc) from exc
        await self._until_listening(self._serving)

    async def _until_listening(self, serving: asyncio.Task[None]) -> None:
        while not self._server.started:
            if serving.done():
                await serving
                raise CannotListen("the HTTP server did not start")
            await self._gateway.clock.sleep(timedelta(milliseconds=1))

    async def _drain(self) -> None:
        """Submits are refused, held answers given, running calls waited for, the rest released."""
        gateway = self._gateway
        gateway.telemetry.stopping(running=sum(gateway.worker.running.values()))
        gateway.drain.turn_on()
        gateway.store.wake_ups.release_everybody()
        await gateway.worker.drain(gateway.settings.server.drain_timeout)


def _leave_alone_what_stays() -> None:
    """Requests leave hardly a cycle behind, and what was built at the start lives as long as the process.

    With the defaults the garbage collector takes a tenth of the time under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 20)


def die_of_store(gateway_log: Callable[[str], None]) -> Callable[[str], None]:
    """What happens when the store cannot be trusted: those who wait are answered, then the process ends."""

    def die(message: str) -> None:
        gateway_log(message)
        # Nothing is closed in order: that would write and sync again.
        asyncio.get_running_loop().call_later(_TIME_TO_ANSWER, os._exit, EXIT_STORE)

    return die


__all__ = ["CannotListen", "Gateway", "Process", "Settings", "bind", "build", "die_of_store"]
