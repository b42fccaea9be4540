"""A gateway whose disk breaks on SIGUSR1: ``python -m support.faulty_gateway CONFIG``."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import apsw
import uvloop

from support.faulty_vfs import FaultyVFS
from tidegate.bootstrap import build
from tidegate.providers import VENDORS
from tidegate.serving import Process, bind, die_of_store
from tidegate.settings import load


async def main() -> None:
    vfs = FaultyVFS("breaks-later")
    settings = load(Path(sys.argv[1]), os.environ, vendors=VENDORS)
    listener = bind(settings.server.host, settings.server.port)
    gateway = await build(settings, on_fatal=die_of_store(print), vfs=vfs.name)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: vfs.fail("xSync", apsw.IOError))

    async def on_ready() -> None:
        """Nothing to announce."""

    await Process(gateway, listener).run(on_ready)


if __name__ == "__main__":
    uvloop.run(main())
