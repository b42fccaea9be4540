"""``tidegate serve``: the gateway as a process in the foreground."""

import asyncio
import socket
from datetime import timedelta
from typing import Annotated, Final

import uvloop
from cyclopts import App, Parameter

from tidegate import serving
from tidegate.api.guard import is_loopback
from tidegate.bootstrap import Gateway, Roles
from tidegate.cli import banner, processes
from tidegate.cli.banner import FirstSecrets
from tidegate.cli.configuration import configuration_file, require_settings
from tidegate.cli.exits import CliError, Exit
from tidegate.cli.options import DEFAULT_OUTPUT, DEFAULT_SOURCE, Flag, Output, Source, examples
from tidegate.cli.screen import Screen
from tidegate.cli.start import (
    Level,
    arm_fault_points,
    bind_listener,
    embedded_mock,
    level_of,
    log_start,
    open_gateway,
    take_all_descriptors,
)
from tidegate.domain.errors import Conflict
from tidegate.family_tallies import FamilyTallies
from tidegate.logs import configure_logging
from tidegate.services.manage_keys import KeyChanges
from tidegate.settings import Settings

_FIRST_KEY: Final = "first"
_SHARE_COUNTS_EVERY: Final = timedelta(seconds=1)
_ACTOR: Final = "first start"

app = App(
    name="serve",
    help_prologue=examples(
        "tidegate serve", "tidegate serve --config tidegate.yaml --host 0.0.0.0 --processes 4"
    ),
    help_epilogue="Without a configuration file it listens on loopback and offers the mock vendor and every vendor "
    "whose usual variable, such as OPENAI_API_KEY, is set; its first start makes a virtual key.",
)


@app.default
def serve(
    *,
    host: Annotated[str | None, Parameter(help="Address to listen on; 127.0.0.1 by default.")] = None,
    port: Annotated[
        int | None, Parameter(help="Port to listen on; 8080 by default, 0 takes a free one.")
    ] = None,
    store: Annotated[
        str | None,
        Parameter(
            help="Store, such as sqlite:////var/lib/tidegate/tidegate.db or postgresql://tidegate@db/tidegate."
        ),
    ] = None,
    no_worker: Annotated[
        Flag, Parameter(help="Take and answer requests; `tidegate work` runs the jobs (PostgreSQL).")
    ] = False,
    count: Annotated[
        int, Parameter(name="--processes", help="Processes on this address, one for each core (PostgreSQL).")
    ] = 1,
    log_level: Annotated[
        Level | None,
        Parameter(help="Least severe event to log; info by default, debug with -v, warning with -q."),
    ] = None,
    allow_anonymous_public: Annotated[
        Flag,
        Parameter(help="Let anyone who reaches a public address submit jobs (with auth.required: false)."),
    ] = False,
    source: Source = DEFAULT_SOURCE,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    arm_fault_points()
    take_all_descriptors()
    settings = require_settings(source, {"server.host": host, "server.port": port, "store.url": store})
    if not allow_anonymous_public:
        _refuse_an_open_door(settings)
    if no_worker or count != 1:
        _require_shared(settings, "--no-worker" if no_worker else "--processes")
    screen = Screen(output)
    configure_logging(log_level or level_of(output), has_colors=screen.err.color_system is not None)
    child = processes.this_child()
    with child.listener if child is not None else bind_listener(settings) as listener:
        if count > 1 and child is None:
            return processes.run(count, listener)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(
                _serve(
                    settings,
                    listener,
                    screen,
                    roles=Roles(works=not no_worker),
                    child=child,
                    has_file=configuration_file(source) is not None,
                )
            )
    return Exit.OK


async def _serve(
    settings: Settings,
    listener: socket.socket,
    screen: Screen,
    *,
    roles: Roles,
    child: processes.Child | None,
    has_file: bool,
) -> None:
    async with embedded_mock(settings) as complete:
        gateway = await open_gateway(complete, roles)
        process = serving.Process(gateway, listener, shares_listener=child is not None)
        process.stop_on_signals()

        async def stop_with_parent(child: processes.Child) -> None:
            await child.until_orphaned(gateway.clock)
            process.request_stop()

        async def count_with_the_others(counts: FamilyTallies) -> None:
            while True:
                try:
                    gateway.metrics.share(counts)
                except OSError as error:
                    gateway.telemetry.problem("metrics.unshared", error=error.strerror)
                await gateway.clock.sleep(_SHARE_COUNTS_EVERY)

        in_family = []
        if child is not None:
            counts = FamilyTallies(child.counts)
            in_family = [
                asyncio.create_task(work) for work in (stop_with_parent(child), count_with_the_others(counts))
            ]

        async def announce() -> None:
            start = await _start_of(gateway, process.address, has_file=has_file)
            log_start(gateway, start.url)
            if child is None or child.is_first:
                banner.show(start, screen)

        try:
            await process.run(announce)
        except serving.CannotListen as error:
            raise CliError(str(error)) from error
        finally:
            for task in in_family:
                task.cancel()
        gateway.telemetry.stopped()


async def _start_of(gateway: Gateway, address: tuple[str, int], *, has_file: bool) -> banner.Start:
    """Without a file and without any key, the first key is made now: it can be shown only once."""
    has_keys = await gateway.keys.has_any()
    return banner.Start(
        settings=gateway.settings,
        address=address,
        secrets=None if has_file or has_keys else await _first_secrets(gateway),
        lacks_keys=has_file and not has_keys and gateway.settings.auth.required,
        rescued=gateway.store.rescued,
    )


def _refuse_an_open_door(settings: Settings) -> None:
    if settings.auth.required or is_loopback(settings.server.host):
        return
    raise CliError(
        f"auth.required is false and {settings.server.host} can be reached from outside: anyone could submit "
        "jobs. Set auth.required: true, listen on 127.0.0.1, or say --allow-anonymous-public.",
        Exit.CONFIGURATION,
    )


def _require_shared(settings: Settings, option: str) -> None:
    if not settings.store.is_shared:
        raise CliError(
            f"{option} needs a store for many processes, and {settings.store.place} belongs to one: "
            "set store.url to a PostgreSQL database",
            Exit.CONFIGURATION,
        )


async def _first_secrets(gateway: Gateway) -> FirstSecrets | None:
    try:
        made = await gateway.keys.create(KeyChanges(name=_FIRST_KEY), _ACTOR)
    except Conflict:
        return None  # another process on the same store was quicker, and shows it
    return banner.first_secrets(made.secret, gateway.local_key, gateway.clock.now())
