"""``tidegate work``: a worker alone, on a store that others share."""

import asyncio
import contextlib
import socket
from typing import Annotated

import uvloop
from cyclopts import App, Parameter

from tidegate import serving
from tidegate.bootstrap import Roles
from tidegate.cli.configuration import require_settings
from tidegate.cli.exits import CliError, Exit
from tidegate.cli.options import DEFAULT_OUTPUT, DEFAULT_SOURCE, Output, Source, examples
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
from tidegate.logs import configure_logging
from tidegate.settings import Settings

app = App(
    name="work",
    help_prologue=examples(
        "tidegate work --store postgresql://tidegate@db/tidegate",
        "tidegate work --config tidegate.yaml --provider openai --metrics-port 9090",
    ),
    help_epilogue="Start as many as the vendors allow, on any machine that reaches the database. SIGTERM drains.",
)


@app.default
def work(
    *,
    store: Annotated[str | None, Parameter(help="Store, such as postgresql://tidegate@db/tidegate.")] = None,
    provider: Annotated[
        tuple[str, ...], Parameter(help="Run only jobs of this provider; may be given more than once.")
    ] = (),
    concurrency: Annotated[
        int | None, Parameter(help="Jobs of a provider at once in this process; by default its own limit.")
    ] = None,
    drain: Annotated[
        str | None, Parameter(help="How long running calls may finish on SIGTERM, such as 25s.")
    ] = None,
    metrics_port: Annotated[
        int | None, Parameter(help="Port for /metrics, /healthz and /readyz on server.host; none by default.")
    ] = None,
    log_level: Annotated[Level | None, Parameter(help="Least severe event to log; info by default.")] = None,
    source: Source = DEFAULT_SOURCE,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    arm_fault_points()
    take_all_descriptors()
    settings = require_settings(source, {"store.url": store, "server.drain_timeout": drain})
    if not settings.store.is_shared:
        raise CliError(
            f"{settings.store.place} belongs to the process that serves, which runs its jobs too: start "
            "`tidegate serve`, or set store.url to a PostgreSQL database",
            Exit.CONFIGURATION,
        )
    unknown = sorted(set(provider) - settings.providers.keys())
    if unknown:
        known = ", ".join(settings.providers) or "none"
        raise CliError(f"no provider is called {unknown[0]}: there are {known}", Exit.CONFIGURATION)
    if concurrency is not None and concurrency < 1:
        raise CliError(f"--concurrency is {concurrency}: at least one job must run", Exit.USAGE)
    screen = Screen(output)
    configure_logging(log_level or level_of(output), has_colors=screen.err.color_system is not None)
    roles = Roles(accepts=False, providers=provider, concurrency=concurrency)
    with (
        contextlib.nullcontext()
        if metrics_port is None
        else bind_listener(settings, metrics_port) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_work(settings, listener, roles))
    return Exit.OK


async def _work(settings: Settings, listener: socket.socket | None, roles: Roles) -> None:
    async with embedded_mock(settings) as complete:
        gateway = await open_gateway(complete, roles)
        process = serving.Process(gateway, listener)
        process.stop_on_signals()

        async def announce() -> None:
            log_start(gateway, "" if listener is None else "http://{}:{}".format(*process.address))

        try:
            await process.run(announce)
        except serving.CannotListen as error:
            raise CliError(str(error)) from error
        gateway.telemetry.stopped()
