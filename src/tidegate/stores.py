"""Which store a configuration means, opened: everything above sees the same ports."""

import importlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from tidegate.domain.secret import Secret
from tidegate.ports import Clock, JobStore, KeyStore, Rng, WakeUps
from tidegate.settings import Settings
from tidegate.store.copying import Source, Target
from tidegate.store.refusal import StoreRefused
from tidegate.store.sqlite import SqliteOptions, SqliteStore
from tidegate.store.sqlite.copying import SqliteSource
from tidegate.store.wake_ups import LocalWakeUps

if TYPE_CHECKING:
    from tidegate.store.postgres import PostgresOptions

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


class StoreWakeUps(WakeUps, Protocol):
    def release_everybody(self) -> None:
        """The process is going down: nobody waits any longer, now or later."""


class OpenStore(Protocol):
    """A store in use."""

    rescued: int
    """Jobs that an earlier process had left running, taken back at the start."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with it, at present."""

    @property
    def jobs(self) -> JobStore: ...

    @property
    def keys(self) -> KeyStore: ...

    @property
    def clock(self) -> Clock:
        """The store's time."""

    @property
    def wake_ups(self) -> StoreWakeUps: ...

    async def close(self) -> None: ...


async def open_store(
    settings: Settings,
    *,
    vfs: str | None,
    clock: Clock,
    rng: Rng,
    on_fatal: Callable[[str], None],
    on_clock_step: Callable[[timedelta], None],
    works: bool = True,
    providers: tuple[str, ...] = (),
) -> OpenStore:
    """Raises ``StoreRefused``, ``AlreadyRunning`` or ``SchemaMismatch`` when it cannot be used.

    A process that ``works`` runs jobs, of ``providers``; empty: of all.
    """
    if settings.store.is_shared:
        agreed = _to_be_agreed_on(settings) if works else {}
        store: OpenStore = await driver(settings).PostgresStore.open(
            postgres_options(settings, providers, agreed), clock=clock, rng=rng, on_clock_step=on_clock_step
        )
        return store
    return SqliteStore.open(
        SqliteOptions(
            path=settings.store.path,
            wipe=settings.store.wipe,
            min_free_bytes=settings.store.min_free_bytes,
            loss_budget=settings.async_.worker_loss_budget,
            commit_wait=settings.store.commit_wait,
            vfs=vfs,
        ),
        clock=clock,
        rng=rng,
        wake_ups=LocalWakeUps(),
        on_fatal=on_fatal,
        on_clock_step=on_clock_step,
    )


async def open_source(settings: Settings, clock: Clock) -> Source:
    """To be copied from; nobody else can use it meanwhile.

    Raises ``StoreRefused``, ``AlreadyRunning`` or ``SchemaMismatch``.
    """
    if settings.store.is_shared:
        source: Source = await driver(settings).PostgresSource.open(postgres_options(settings))
        return source
    return SqliteSource.open(settings.store.path, clock)


async def open_target(settings: Settings, *, is_dry: bool) -> Target:
    """To be copied into. Raises ``StoreRefused`` or ``SchemaMismatch``."""
    target: Target = await driver(settings).PostgresTarget.open(postgres_options(settings), is_dry=is_dry)
    return target


def driver(settings: Settings) -> ModuleType:
    """The PostgreSQL store, which needs an extra. Raises ``StoreRefused`` where that is not installed."""
    try:
        return importlib.import_module("tidegate.store.postgres")
    except ImportError as exc:
        raise StoreRefused(
            f"{settings.store.place} needs a driver: pip install 'tidegate[postgres]'"
        ) from exc


def _to_be_agreed_on(settings: Settings) -> dict[str, object]:
    """What holds for all workers together, by the name of the setting."""
    found: dict[str, object] = {"async.worker_loss_budget": settings.async_.worker_loss_budget}
    for name, entry in settings.providers.items():
        for limit, value in msgspec.to_builtins(entry.concurrency_and_buffer_size).items():
            found[f"providers.{name}.concurrency_and_buffer_size.{limit}"] = value
    return found


def postgres_options(
    settings: Settings, providers: tuple[str, ...] = (), agreed: Mapping[str, object] = _NOTHING
) -> "PostgresOptions":
    store = settings.store
    options: PostgresOptions = driver(settings).PostgresOptions(
        Secret(store.url),
        place=store.place,
        listen_url=Secret(store.listen_url) if store.listen_url is not None else None,
        pooler=store.pooler,
        allow_unsafe=store.allow_unsafe_settings,
        loss_budget=settings.async_.worker_loss_budget,
        commit_wait=store.commit_wait.total_seconds(),
        providers=providers,
        settings=agreed,
    )
    return options
