"""Takes connections from a listening socket, and goes on after it could not.

uvloop's own listener is closed for good as soon as the process has no descriptor left for one more connection.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final, final

CONNECTIONS_AT_ONCE: Final = 100
_PAUSE: Final = 1.0
"""Seconds: whoever waits in the backlog meanwhile is taken afterwards."""
_GONE_ALREADY: Final = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM)


@final
class Acceptor:
    """From ``start`` to ``close``; the socket stays its owner's."""

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        at_once: int = CONNECTIONS_AT_ONCE,
    ) -> None:
        """``at_once``: how many are taken before others get their turn; one, where processes share the socket."""
        self._listener = listener
        self._make_protocol = make_protocol
        self._loop = asyncio.get_running_loop()
        self._handing_over: set[asyncio.Task[None]] = set()
        self._at_once = at_once
        self._is_closed = False

    def start(self) -> None:
        if not self._is_closed:
            self._listener.setblocking(False)  # noqa: FBT003 – the signature of sockets
            self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        self._is_closed = True
        self._loop.remove_reader(self._listener)

    def _accept(self) -> None:
        for _ in range(self._at_once):
            try:
                connection, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in _GONE_ALREADY:
                    continue
                # Out of descriptors or memory: asking again at once would only keep the processor busy.
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_PAUSE, self.start)
                return
            task = self._loop.create_task(self._hand_over(connection))
            self._handing_over.add(task)
            task.add_done_callback(self._handing_over.discard)

    async def _hand_over(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
        except OSError:
            connection.close()  # the client is gone already
