"""Single requests outside of any measurement: is it ready, what does it say."""

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any, Final

from benchmarks.load.requests import HOST

_PATIENCE: Final = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def fetch(
    port: int, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> tuple[int, bytes]:
    """Status and body; blocking. Raises ``OSError`` or ``HTTPException``."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_PATIENCE)
    try:
        connection.request(method, path, body, dict(headers or {}))
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def fetch_json(port: int, path: str) -> Any:
    """Raises ``OSError`` for anything but a 200."""
    status, body = fetch(port, "GET", path)
    if status != http.HTTPStatus.OK:
        raise OSError(f"GET {path} was answered with {status}")
    return json.loads(body)
