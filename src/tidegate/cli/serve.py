"""``tidegate serve``: the gateway as a process in the foreground."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator
from typing import Annotated, Final, Literal

import structlog
import uvloop
from cyclopts import App, Parameter
from msgspec.structs import replace

from tidegate import __version__, fault_points, serving
from tidegate.api.guard import is_loopback
from tidegate.bootstrap import Gateway, build
from tidegate.cli import banner
from tidegate.cli.banner import FirstSecrets
from tidegate.cli.configuration import configuration_file, require_settings
from tidegate.cli.exits import CliError, Exit
from tidegate.cli.options import DEFAULT_OUTPUT, DEFAULT_SOURCE, Flag, Output, Source, examples
from tidegate.cli.screen import Screen
from tidegate.configured import ConfigurationRefused
from tidegate.domain.errors import Conflict, StoreError
from tidegate.logs import configure_logging
from tidegate.mock_vendor import MockVendor
from tidegate.services.manage_keys import KeyChanges
from tidegate.settings import Settings
from tidegate.store.migrate import SchemaMismatch
from tidegate.store.sqlite import AlreadyRunning, StoreRefused

_MOCK: Final = "mock"
_FIRST_KEY: Final = "first"
_ACTOR: Final = "first start"

Level = Literal["debug", "info", "warning", "error"]

app = App(
    name="serve",
    help_prologue=examples(
        "tidegate serve", "tidegate serve --config tidegate.yaml --host 0.0.0.0 --port 8080"
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
        str | None, Parameter(help="Store, such as sqlite:////var/lib/tidegate/tidegate.db.")
    ] = None,
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
    _arm_fault_points()
    _take_all_descriptors()
    settings = require_settings(source, {"server.host": host, "server.port": port, "store.url": store})
    if not allow_anonymous_public:
        _refuse_an_open_door(settings)
    screen = Screen(output)
    configure_logging(log_level or _level_of(output), has_colors=screen.err.color_system is not None)
    has_file = configuration_file(source) is not None
    with _bind(settings) as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, listener, screen, has_file=has_file))
    return Exit.OK


async def _serve(settings: Settings, listener: socket.socket, screen: Screen, *, has_file: bool) -> None:
    async with _embedded_mock(settings) as complete:
        gateway = await _open(complete)
        process = serving.Process(gateway, listener)
        process.stop_on_signals()

        async def announce() -> None:
            start = await _start_of(gateway, process.address, has_file=has_file)
            _log_start(gateway, start)
            banner.show(start, screen)

        try:
            await process.run(announce)
        except serving.CannotListen as error:
            raise CliError(str(error)) from error
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


def _take_all_descriptors() -> None:
    """Clients and vendors need one each, and the usual limit is meant for programs that have neither."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says unlimited, and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _arm_fault_points() -> None:
    try:
        fault_points.arm(os.environ)
    except fault_points.FaultPointRefused as error:
        raise CliError(str(error), Exit.CONFIGURATION) from error


def _refuse_an_open_door(settings: Settings) -> None:
    if settings.auth.required or is_loopback(settings.server.host):
        return
    raise CliError(
        f"auth.required is false and {settings.server.host} can be reached from outside: anyone could submit "
        "jobs. Set auth.required: true, listen on 127.0.0.1, or say --allow-anonymous-public.",
        Exit.CONFIGURATION,
    )


def _bind(settings: Settings) -> socket.socket:
    """Before the store is opened: a second gateway on the same port must not disturb anything."""
    try:
        return serving.bind(settings.server.host, settings.server.port)
    except serving.CannotListen as error:
        raise CliError(str(error)) from error


@contextlib.asynccontextmanager
async def _embedded_mock(settings: Settings) -> AsyncIterator[Settings]:
    """Settings whose mock has an address: it runs inside this process, and stops with it."""
    waiting = [
        name
        for name, entry in settings.providers.items()
        if entry.vendor == _MOCK and entry.network_config.base_url is None
    ]
    if not waiting:
        yield settings
        return
    async with MockVendor.serve() as vendor:
        providers = dict(settings.providers)
        for name in waiting:
            network = replace(providers[name].network_config, base_url=vendor.url)
            providers[name] = replace(providers[name], network_config=network)
        yield replace(settings, providers=providers)


async def _open(settings: Settings) -> Gateway:
    try:
        return await build(settings, on_fatal=serving.die_of_store(_log_fatal))
    except ConfigurationRefused as error:
        raise CliError(str(error), Exit.CONFIGURATION) from error
    except AlreadyRunning as error:
        raise CliError(f"{error}: stop it, or choose another --data", Exit.STORE) from error
    except (StoreRefused, SchemaMismatch) as error:
        raise CliError(str(error), Exit.STORE) from error
    except StoreError as error:
        raise CliError(f"cannot use {settings.store.path}: {error.message}", Exit.STORE) from error
    except Conflict as error:
        raise CliError(f"governance.virtual_keys: {error.message}", Exit.CONFIGURATION) from error
    except OSError as error:
        place = error.filename or settings.server.data_dir
        raise CliError(f"cannot use {place}: {error.strerror}", Exit.STORE) from error


def _log_fatal(message: str) -> None:
    structlog.get_logger().error("store.failed", reason=message)


async def _first_secrets(gateway: Gateway) -> FirstSecrets:
    made = await gateway.keys.create(KeyChanges(name=_FIRST_KEY), _ACTOR)
    return banner.first_secrets(made.secret, gateway.local_key, gateway.clock.now())


def _log_start(gateway: Gateway, start: banner.Start) -> None:
    telemetry, store = gateway.telemetry, gateway.store
    telemetry.started(version=__version__, url=start.url, pid=os.getpid(), rescued=store.rescued)
    if store.rescued:
        telemetry.jobs_rescued(store.rescued)
    for text in store.warnings:
        telemetry.problem("store.warning", message=text)
    for text in gateway.settings.warnings:
        telemetry.problem("settings.warning", message=text)
    for text in gateway.settings.ignored:
        telemetry.problem("settings.ignored", message=text)


def _level_of(output: Output) -> Level:
    if output.quiet:
        return "warning"
    return "debug" if output.verbose else "info"
