"""What every long-running command does at its start: descriptors, listener, logs, store, and the mock inside."""

import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator
from typing import Final, Literal

import structlog
from msgspec.structs import replace

from tidegate import __version__, fault_points, serving
from tidegate.bootstrap import Gateway, Roles, build
from tidegate.cli.exits import CliError, Exit
from tidegate.cli.options import Output
from tidegate.configured import ConfigurationRefused
from tidegate.domain.errors import Conflict, StoreError
from tidegate.mock_vendor import MockVendor
from tidegate.settings import Settings
from tidegate.store.migrate import SchemaMismatch
from tidegate.store.refusal import StoreRefused
from tidegate.store.sqlite import AlreadyRunning

_MOCK: Final = "mock"

Level = Literal["debug", "info", "warning", "error"]


def take_all_descriptors() -> None:
    """Clients and vendors need one each, and the usual limit is meant for programs that have neither."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says unlimited, and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def arm_fault_points() -> None:
    try:
        fault_points.arm(os.environ)
    except fault_points.FaultPointRefused as error:
        raise CliError(str(error), Exit.CONFIGURATION) from error


def bind_listener(settings: Settings, port: int | None = None) -> socket.socket:
    """Before the store is opened: a second gateway on the same port must not disturb anything."""
    try:
        return serving.bind(settings.server.host, settings.server.port if port is None else port)
    except serving.CannotListen as error:
        raise CliError(str(error)) from error


@contextlib.asynccontextmanager
async def embedded_mock(settings: Settings) -> AsyncIterator[Settings]:
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


async def open_gateway(settings: Settings, roles: Roles) -> Gateway:
    try:
        return await build(settings, on_fatal=serving.die_of_store(log_fatal), roles=roles)
    except ConfigurationRefused as error:
        raise CliError(str(error), Exit.CONFIGURATION) from error
    except AlreadyRunning as error:
        raise CliError(f"{error}: stop it, or choose another --data", Exit.STORE) from error
    except (StoreRefused, SchemaMismatch) as error:
        raise CliError(str(error), Exit.STORE) from error
    except StoreError as error:
        raise CliError(f"cannot use {settings.store.place}: {error.message}", Exit.STORE) from error
    except Conflict as error:
        raise CliError(f"governance.virtual_keys: {error.message}", Exit.CONFIGURATION) from error
    except OSError as error:
        place = error.filename or settings.server.data_dir
        raise CliError(f"cannot use {place}: {error.strerror}", Exit.STORE) from error


def log_fatal(message: str) -> None:
    structlog.get_logger().error("store.failed", reason=message)


def log_start(gateway: Gateway, url: str) -> None:
    telemetry, store = gateway.telemetry, gateway.store
    telemetry.started(version=__version__, url=url, pid=os.getpid(), rescued=store.rescued)
    if store.rescued:
        telemetry.jobs_rescued(store.rescued)
    for text in gateway.settings.warnings:
        telemetry.problem("settings.warning", message=text)
    for text in gateway.settings.ignored:
        telemetry.problem("settings.ignored", message=text)


def level_of(output: Output) -> Level:
    if output.quiet:
        return "warning"
    return "debug" if output.verbose else "info"
