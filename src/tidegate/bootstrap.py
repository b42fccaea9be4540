"""Builds the object graph by hand: the only file that knows everything."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from tidegate import __version__
from tidegate.api import local_issuer
from tidegate.api.app import Handlers, route_table
from tidegate.api.auth import read_credentials
from tidegate.api.guard import FrontGuard
from tidegate.api.health import HealthChecks, Metrics
from tidegate.api.inbound import Inbound
from tidegate.api.jobs import Jobs
from tidegate.api.jwks import RemoteKeys
from tidegate.api.keys import VirtualKeys
from tidegate.api.poll import Poll
from tidegate.api.routing import Router, RouterTools
from tidegate.api.submit import SubmitChat
from tidegate.api.tokens import ClaimNames, Issuer, StaticKey, TokenVerification
from tidegate.clock import SystemClock, SystemRng
from tidegate.domain.access import Caller, KeyId, ProviderGrant
from tidegate.domain.ids import uuid7
from tidegate.domain.inference import ProviderKey, RequestType
from tidegate.domain.jobs import Lane
from tidegate.domain.lane_state import LaneState
from tidegate.domain.models import Catalog, ProviderSetup
from tidegate.domain.retry import RetryPolicy
from tidegate.domain.secret import Secret
from tidegate.metrics import GatewayMetrics
from tidegate.ports import Provider
from tidegate.providers import VENDORS, provider_for
from tidegate.services.authenticate import Authenticate
from tidegate.services.cancel_job import CancelJob
from tidegate.services.key_directory import KeyDirectory
from tidegate.services.list_jobs import ListJobs
from tidegate.services.manage_keys import ConfiguredKey, KeyChanges, ManageKeys
from tidegate.services.poll_hints import PollHints
from tidegate.services.provider_slots import ProviderSlots
from tidegate.services.read_job import ReadJob
from tidegate.services.run_job import RunTools
from tidegate.services.submit_job import OptionLimits, SubmitJob
from tidegate.settings import IssuerSettings, ProviderSettings, Settings, VirtualKeySettings
from tidegate.store.sqlite import SqliteOptions, SqliteStore
from tidegate.store.wake_ups import LocalWakeUps
from tidegate.telemetry import Telemetry
from tidegate.transport import Egress, UpstreamTransport, authorities, check_destination
from tidegate.worker.leases import Leases
from tidegate.worker.maintenance import Maintenance
from tidegate.worker.worker import Worker

_UNCONFIGURED_LANE: Final = 256
"""Jobs at a time of a lane that no provider serves any more: each only fails, or goes to its fallbacks."""


class Gateway(Struct, frozen=True):
    """The parts of a gateway that somebody has to start and stop."""

    settings: Settings
    store: SqliteStore
    transport: UpstreamTransport
    wake_ups: LocalWakeUps
    worker: Worker
    leases: Leases
    maintenance: Maintenance
    keys: ManageKeys
    telemetry: Telemetry
    app: Router
    drain: "DrainSwitch"
    local_key: Secret | None
    """Key of the local issuer, where there is one."""
    clock: SystemClock


class ConfigurationRefused(Exception):
    """A setting that is well formed and cannot work here; the message names it."""


class DrainSwitch:
    """Whether the process is on its way out."""

    def __init__(self) -> None:
        self.is_on = False

    def turn_on(self) -> None:
        self.is_on = True

    def __call__(self) -> bool:
        return self.is_on


async def build(settings: Settings, *, on_fatal: Callable[[str], None], vfs: str | None = None) -> Gateway:
    """A gateway whose store is open and in order, and which does nothing yet.

    Raises ``StoreRefused``, ``AlreadyRunning`` or ``SchemaMismatch`` when the store cannot be used,
    ``ConfigurationRefused`` when a provider cannot be reached as configured.
    ``vfs`` names a registered SQLite VFS other than the system's.
    """
    _check_ways_out(settings)
    clock, rng = SystemClock(), SystemRng()
    catalog = build_catalog(settings)
    metrics = GatewayMetrics(catalog)
    telemetry = Telemetry(metrics)
    wake_ups = LocalWakeUps()
    drain = DrainSwitch()
    store = SqliteStore.open(
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
        wake_ups=wake_ups,
        on_fatal=on_fatal,
    )
    transport = UpstreamTransport(clock, _egress(settings))
    directory = KeyDirectory(store.keys, clock)
    keys = ManageKeys(store.keys, directory, clock, rng, telemetry)
    await keys.apply_configuration([_configured(key) for key in settings.governance.virtual_keys])

    hints = PollHints(clock)
    limits = await _lane_limits(catalog, store)
    lanes: dict[str, LaneState] = {lane: LaneState() for lane in limits}
    tools = RunTools(
        catalog=catalog,
        dialects=_dialects(settings),
        transport=transport,
        keys=directory,
        slots=ProviderSlots({name: setup.concurrency for name, setup in catalog.providers.items()}),
        lanes=lanes,
        clock=clock,
        rng=rng,
    )
    worker = Worker(store.jobs, tools, limits, wake_ups, clock, telemetry, hints)

    local_key = _local_key(settings)
    verifier = TokenVerification(
        _issuers(settings, local_key, transport, clock),
        ClaimNames(
            virtual_key=settings.auth.jwt.claims.virtual_key,
            role=settings.auth.jwt.claims.role,
            admin_value=settings.auth.jwt.claims.admin_value,
        ),
        clock,
        max_lifetime=int(settings.auth.jwt.max_lifetime.total_seconds()),
        note=lambda reason: telemetry.problem("token.rejected", reason=reason),
    )
    authenticate = Authenticate(directory, verifier, clock, is_required=settings.auth.required)
    read = ReadJob(store.jobs, wake_ups)
    submit = SubmitJob(store.jobs, catalog, clock, rng, telemetry, _option_limits(settings))

    async def render_metrics() -> bytes:
        now = clock.monotonic()
        return metrics.render(
            await store.jobs.counts(),
            clock.now(),
            {lane: not state.is_closed(now) for lane, state in lanes.items()},
            worker.running,
        )

    metrics_page = Metrics(render_metrics, is_public=settings.metrics.public, token=settings.metrics.token)
    handlers = Handlers(
        submit_chat=SubmitChat(
            submit,
            read,
            hints,
            body_limit=settings.client.max_request_body_size,
            required_headers=settings.client.required_headers,
        ),
        poll_chat=Poll(read, hints, RequestType.CHAT_COMPLETION),
        jobs=Jobs(read, CancelJob(store.jobs, telemetry), ListJobs(store.jobs), directory, hints, clock),
        keys=VirtualKeys(keys),
        health=HealthChecks(store.jobs, clock, is_draining=drain),
        metrics=metrics_page,
    )

    async def authenticate_inbound(inbound: Inbound) -> Caller:
        return await authenticate.caller(read_credentials(inbound))

    def report_defect(inbound: Inbound, error: Exception) -> None:
        telemetry.problem("request.broken", path=inbound.path, request_id=inbound.request_id, exc_info=error)

    guard = FrontGuard(
        host=settings.server.host,
        allowed_hosts=settings.server.allowed_hosts,
        origins=settings.client.allowed_origins,
    )
    app = Router(
        route_table(handlers, __version__),
        RouterTools(
            authenticate=authenticate_inbound,
            may_read_metrics=metrics_page.may_read,
            is_draining=drain,
            guard=guard,
            make_id=lambda: uuid7(clock.now(), rng.secret_bytes(10)),
            report_defect=report_defect,
            answered=telemetry.answered,
        ),
    )
    return Gateway(
        settings=settings,
        store=store,
        transport=transport,
        wake_ups=wake_ups,
        worker=worker,
        leases=Leases(store.jobs, worker, clock, telemetry),
        maintenance=Maintenance(store.jobs, clock, telemetry),
        keys=keys,
        telemetry=telemetry,
        app=app,
        drain=drain,
        local_key=local_key,
        clock=clock,
    )


def build_catalog(settings: Settings) -> Catalog:
    """What the configured providers can do."""
    return Catalog(
        providers={name: _setup(settings, name, entry) for name, entry in settings.providers.items()},
        known=frozenset(VENDORS),
    )


def _setup(settings: Settings, name: str, entry: ProviderSettings) -> ProviderSetup:
    vendor = VENDORS[entry.vendor]
    network = entry.network_config
    return ProviderSetup(
        name=name,
        dialect=vendor.name,
        base_url=network.base_url or vendor.origin,
        keys=tuple(
            ProviderKey(
                id=key.id or key.name,
                name=key.name,
                value=key.value,
                models=key.models,
                weight=key.weight,
                is_enabled=key.enabled,
            )
            for key in entry.keys
        ),
        operations=frozenset({RequestType.CHAT_COMPLETION}),
        retry=RetryPolicy(
            max_retries=network.max_retries,
            backoff_initial=network.retry_backoff_initial,
            backoff_max=network.retry_backoff_max,
            retry_after_inline_max=settings.async_.retry_after_inline_max,
        ),
        call_timeout=network.default_request_timeout,
        concurrency=entry.concurrency_and_buffer_size.concurrency,
        needs_key=entry.needs_key,
    )


def _dialects(settings: Settings) -> Mapping[str, Provider]:
    return {
        name: provider_for(msgspec.structs.replace(VENDORS[entry.vendor], name=name))
        for name, entry in settings.providers.items()
    }


def _check_ways_out(settings: Settings) -> None:
    for name, entry in settings.providers.items():
        network = entry.network_config
        url = network.base_url or VENDORS[entry.vendor].origin
        try:
            check_destination(url, allow_link_local=network.allow_link_local)
            authorities(network.ca_cert)
        except (ValueError, OSError) as exc:
            raise ConfigurationRefused(f"providers.{name}.network_config: {exc}") from exc
    for issuer in settings.auth.jwt.issuers:
        if issuer.jwks_url is not None:
            try:
                check_destination(issuer.jwks_url, allow_link_local=False)
            except ValueError as exc:
                raise ConfigurationRefused(f"auth.jwt.issuers: jwks_url of {issuer.iss}: {exc}") from exc


def _egress(settings: Settings) -> Mapping[str, Egress]:
    return {
        name: Egress(
            proxy_url=entry.network_config.proxy_url,
            ca_cert=entry.network_config.ca_cert,
            allow_link_local=entry.network_config.allow_link_local,
            pool_size=entry.concurrency_and_buffer_size.concurrency,
        )
        for name, entry in settings.providers.items()
    }


async def _lane_limits(catalog: Catalog, store: SqliteStore) -> dict[Lane, int]:
    limits = {Lane(name): setup.concurrency for name, setup in catalog.providers.items()}
    for lane in await store.jobs.pending_lanes():
        limits.setdefault(lane, _UNCONFIGURED_LANE)
    return limits


def _option_limits(settings: Settings) -> OptionLimits:
    return OptionLimits(
        result_ttl=int(settings.client.async_job_result_ttl.total_seconds()),
        result_ttl_max=int(settings.client.async_job_result_ttl_max.total_seconds()),
        timeout_max=int(settings.async_.timeout_max.total_seconds()),
    )


def _local_key(settings: Settings) -> Secret | None:
    if not settings.auth.local_issuer:
        return None
    directory: Path = settings.server.data_dir
    if not directory.exists():
        directory.mkdir(parents=True, mode=0o700)
    return local_issuer.load_or_create(directory)


def _issuers(
    settings: Settings, local_key: Secret | None, transport: UpstreamTransport, clock: SystemClock
) -> list[Issuer]:
    issuers = [_issuer(entry, transport, clock) for entry in settings.auth.jwt.issuers]
    if local_key is not None:
        issuers.append(
            Issuer(
                iss=local_issuer.ISSUER,
                aud=local_issuer.AUDIENCE,
                algorithms=(local_issuer.ALGORITHM,),
                kinds=local_issuer.KINDS,
                keys=StaticKey(local_key),
            )
        )
    return issuers


def _issuer(entry: IssuerSettings, transport: UpstreamTransport, clock: SystemClock) -> Issuer:
    keys: Any = StaticKey(entry.key) if entry.key is not None else None
    if entry.jwks_url is not None:
        keys = RemoteKeys(entry.jwks_url, transport, clock)
    return Issuer(
        iss=entry.iss,
        aud=entry.aud,
        algorithms=tuple(entry.algorithms),
        kinds=tuple(entry.kinds),
        keys=keys,
        typ=entry.typ,
    )


def _configured(entry: VirtualKeySettings) -> ConfiguredKey:
    grants = None
    if entry.provider_configs is not None:
        grants = tuple(
            ProviderGrant(
                provider=grant.provider,
                allowed_models=grant.allowed_models,
                weight=grant.weight,
                key_ids=grant.key_ids,
            )
            for grant in entry.provider_configs
        )
    longest = entry.async_.result_ttl_max
    return ConfiguredKey(
        id=KeyId(entry.id) if entry.id is not None else None,
        value=entry.value,
        changes=KeyChanges(
            name=entry.name,
            description=entry.description,
            is_active=entry.is_active,
            expires_at=entry.expires_at,
            grants=grants,
            weight=entry.async_.weight,
            priority_ceiling=entry.async_.priority_ceiling,
            result_ttl_max=int(longest.total_seconds()) if longest is not None else None,
        ),
    )
