"""A gateway in a process of its own that tells how its event loop and its memory fare."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, final

import httpx2
import msgspec
from msgspec import Struct

from support.gateway import KEY
from support.processes import GatewayProcess, free_port, gateway_process
from tidegate.api.connection_watch import DEFAULT_LIMITS, ConnectionLimits

LONGEST_PAUSE: Final = 0.050
"""Seconds for which the event loop may be held up by anything (security.md §6)."""
MOST_MEMORY: Final = 64 * 1024
"""KiB that an attack may cost beyond its own size (F19)."""


class Seen(Struct, frozen=True):
    """What happened since last asked."""

    pause: float
    """The longest, in seconds."""
    growth: int
    """Of the resident size at its highest, in KiB."""


@final
class WatchedGateway:
    """The gateway, with a client for its key ``a``."""

    def __init__(self, process: GatewayProcess, watch_port: int, client: httpx2.AsyncClient) -> None:
        self.process = process
        self.client = client
        self._watch_port = watch_port

    async def seen(self) -> Seen:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._watch_port)
        try:
            return Seen(**json.loads(await reader.read()))
        finally:
            writer.close()


@asynccontextmanager
async def watched(
    directory: Path, config: Mapping[str, Any], limits: ConnectionLimits = DEFAULT_LIMITS
) -> AsyncIterator[WatchedGateway]:
    with gateway_process(directory, config) as process:
        watch_port = free_port()
        await process.start("support.watched_gateway", str(watch_port), msgspec.json.encode(limits).decode())
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{process.port}",
            headers={"authorization": f"Bearer {KEY}"},
            timeout=60,
            trust_env=False,
        ) as client:
            yield WatchedGateway(process, watch_port, client)
