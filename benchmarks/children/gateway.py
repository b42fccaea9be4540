"""A gateway's parts without its server: wired by ``bootstrap`` from a configuration, in a folder of their own."""

from pathlib import Path

from benchmarks.children.settings import settings_from
from benchmarks.configuration import write_configuration
from tidegate.bootstrap import Gateway, build
from tidegate.logs import configure_logging

_NOWHERE = "http://127.0.0.1:9"


async def built_in(directory: Path) -> Gateway:
    """Its store is open; nothing runs."""
    configure_logging("info", has_colors=False)  # to where it does not disturb the answers
    directory.mkdir(exist_ok=True)
    config = write_configuration(directory, 0, _NOWHERE, concurrency=None)
    return await build(settings_from(config), on_fatal=_stop)


def _stop(message: str) -> None:
    raise SystemExit(message)
