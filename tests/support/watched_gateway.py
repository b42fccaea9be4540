"""A gateway that watches its own event loop and memory: ``python -m support.watched_gateway PORT LIMITS CONFIG``.

Whoever connects to ``PORT`` is told what has happened since the last one asked. ``LIMITS`` is JSON: what its connections
may do. Linux only: peaks come from ``/proc``.
"""

import asyncio
import gc
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Final, final

import msgspec
import uvloop

from tidegate.api.connection_watch import ConnectionLimits
from tidegate.bootstrap import build
from tidegate.providers import VENDORS
from tidegate.serving import Process, bind, die_of_store
from tidegate.settings import load

BEAT: Final = 0.001
_OURS: Final = Path("/proc/self")
_RESET_PEAK: Final = "5"


@final
class Watch:
    """The longest pause between two beats of the loop, and the highest resident size."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._resident = 0
        self._has_restarted = False
        self._restart()

    async def beat(self) -> None:
        """A pause counts by the processor time the process had in it, where that is less than its length.

        What a busy machine took from us does not count, and what a thread did while the loop went on does not.
        """
        while True:
            began, worked = time.perf_counter(), time.process_time()
            await asyncio.sleep(BEAT)
            length, work = time.perf_counter() - began, time.process_time() - worked
            if not self._has_restarted:
                self.longest = max(self.longest, min(length, work))
            self._has_restarted = False

    async def tell(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = {"pause": self.longest, "growth": _kibibytes("VmHWM") - self._resident}
        writer.write(json.dumps(found).encode())
        writer.close()
        self._restart()

    def _restart(self) -> None:
        gc.collect()
        (_OURS / "clear_refs").write_text(_RESET_PEAK)
        self._resident = _kibibytes("VmRSS")
        self.longest = 0.0
        self._has_restarted = True  # this very pause is our own


def _kibibytes(name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB$", (_OURS / "status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


async def main() -> None:
    settings = load(Path(sys.argv[3]), os.environ, vendors=VENDORS)
    listener = bind(settings.server.host, settings.server.port)
    gateway = await build(settings, on_fatal=die_of_store(print))
    watch = Watch()
    beating = asyncio.create_task(watch.beat())

    async def on_ready() -> None:
        await asyncio.start_server(watch.tell, "127.0.0.1", int(sys.argv[1]))

    limits = msgspec.json.decode(sys.argv[2], type=ConnectionLimits)
    await Process(gateway, listener, limits).run(on_ready)
    beating.cancel()


if __name__ == "__main__":
    uvloop.run(main())
