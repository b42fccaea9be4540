"""Builds the object graph by hand: the only file that knows everything."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tidegate import __version__
from tidegate.api import local_issuer
from tidegate.api.app import OPERATIONS, Handlers, route_table
from tidegate.api.auth import read_credentials
from tidegate.api.failed_logins import FailedLogins
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
from tidegate.configured import (
    catalog_of,
    check_ways_out,
    configured_key,
    dialects_of,
    egress_of,
    option_limits_of,
)
from tidegate.domain.access import Caller
from tidegate.domain.ids import uuid7
from tidegate.domain.inference import RequestType
from tidegate.domain.jobs import Lane
from tidegate.domain.lane_state import LaneState
from tidegate.domain.models import Catalog
from tidegate.domain.secret import Secret
from tidegate.metrics import GatewayMetrics
from tidegate.services.authenticate import Authenticate
from tidegate.services.cancel_job import CancelJob
from tidegate.services.key_directory import KeyDirectory
from tidegate.services.list_jobs import ListJobs
from tidegate.services.manage_keys import ManageKeys
from tidegate.services.poll_hints import PollHints
from tidegate.services.provider_pace import PaceLimit, ProviderPace
from tidegate.services.provider_slots import ProviderSlots
from tidegate.services.read_job import ReadJob
from tidegate.services.run_job import RunTools
from tidegate.services.submit_job import SubmitJob
from tidegate.settings import IssuerSettings, Settings
from tidegate.stores import OpenStore, open_store
from tidegate.telemetry import Telemetry
from tidegate.transport import UpstreamTransport
from tidegate.worker.leases import Leases
from tidegate.worker.maintenance import Maintenance
from tidegate.worker.worker import Worker

_UNCONFIGURED_LANE: Final = 256
"""Jobs at a time of a lane that no provider serves any more: each only fails, or goes to its fallbacks."""


class Gateway(Struct, frozen=True):
    """The parts of a gateway that somebody has to start and stop."""

    settings: Settings
    store: OpenStore
    transport: UpstreamTransport
    worker: Worker
    leases: Leases
    maintenance: Maintenance
    keys: ManageKeys
    telemetry: Telemetry
    metrics: GatewayMetrics
    app: Router
    drain: "DrainSwitch"
    local_key: Secret | None
    """Key of the local issuer, where there is one."""
    clock: SystemClock
    roles: "Roles"


class Roles(Struct, frozen=True):
    """What a process does."""

    accepts: bool = True
    """It has the API; without it there are only health and metrics."""
    works: bool = True
    """It runs jobs."""
    providers: tuple[str, ...] = ()
    """Only of these; of all where none is named."""
    concurrency: int | None = None
    """Jobs of a provider at once; ``None``: as many as the provider allows."""


EVERYTHING: Final = Roles()


class DrainSwitch:
    """Whether the process is on its way out."""

    def __init__(self) -> None:
        self.is_on = False

    def turn_on(self) -> None:
        self.is_on = True

    def __call__(self) -> bool:
        return self.is_on


async def build(
    settings: Settings,
    *,
    on_fatal: Callable[[str], None],
    vfs: str | None = None,
    roles: Roles = EVERYTHING,
) -> Gateway:
    """A gateway whose store is open and in order, and which does nothing yet.

    Raises ``StoreRefused``, ``AlreadyRunning`` or ``SchemaMismatch`` when the store cannot be used,
    ``ConfigurationRefused`` when a provider cannot be reached as configured.
    ``vfs`` names a registered SQLite VFS other than the system's.
    """
    check_ways_out(settings)
    system, rng = SystemClock(), SystemRng()
    catalog = catalog_of(settings)
    metrics = GatewayMetrics(catalog)
    telemetry = Telemetry(metrics)
    drain = DrainSwitch()
    store = await open_store(
        settings,
        vfs=vfs,
        clock=system,
        rng=rng,
        on_fatal=on_fatal,
        works=roles.works,
        providers=roles.providers,
        on_clock_step=lambda step: telemetry.problem("clock.step", seconds=step.total_seconds()),
    )
    wake_ups = store.wake_ups
    # Whatever is compared with times in the store goes by its clock, which never goes back.
    clock = store.clock
    hints = PollHints(clock)
    directory = KeyDirectory(store.keys, clock)
    keys = ManageKeys(store.keys, directory, clock, rng, telemetry)
    await keys.apply_configuration([configured_key(key) for key in settings.governance.virtual_keys])

    transport = UpstreamTransport(system, egress_of(settings))
    limits = await _lane_limits(catalog, store)
    lanes: dict[str, LaneState] = {lane: LaneState() for lane in limits}
    tools = RunTools(
        catalog=catalog,
        dialects=dialects_of(settings),
        transport=transport,
        keys=directory,
        slots=ProviderSlots({name: setup.concurrency for name, setup in catalog.providers.items()}),
        pace=ProviderPace(
            {
                name: PaceLimit(setup.requests_per_minute, setup.tokens_per_minute)
                for name, setup in catalog.providers.items()
            },
            clock,
        ),
        lanes=lanes,
        clock=clock,
        rng=rng,
    )
    worker = Worker(
        store.jobs, tools, _worked_on(limits, roles), wake_ups, clock, telemetry, hints, roles.concurrency
    )

    local_key = _local_key(settings)
    verifier = _verifier(settings, local_key, transport, system, telemetry)
    authenticate = Authenticate(directory, verifier, clock, is_required=settings.auth.required)
    read = ReadJob(store.jobs, wake_ups)
    submit = SubmitJob(store.jobs, catalog, clock, rng, telemetry, option_limits_of(settings))

    async def render_metrics() -> bytes:
        now = clock.monotonic()
        return metrics.render(
            await store.jobs.counts(),
            clock.now(),
            {lane: not state.is_closed(now) for lane, state in lanes.items()},
            worker.running,
        )

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
        health=HealthChecks(store.jobs, clock, is_draining=drain, warnings=lambda: store.warnings),
        metrics=Metrics(render_metrics, is_public=settings.metrics.public, token=settings.metrics.token),
    )
    return Gateway(
        settings=settings,
        store=store,
        transport=transport,
        worker=worker,
        leases=Leases(store.jobs, worker, clock, telemetry),
        maintenance=Maintenance(store.jobs, clock, telemetry, lambda: store.warnings),
        keys=keys,
        telemetry=telemetry,
        metrics=metrics,
        app=_router(settings, roles, handlers, authenticate, drain, system, rng, telemetry),
        drain=drain,
        local_key=local_key,
        clock=system,
        roles=roles,
    )


def _verifier(
    settings: Settings,
    local_key: Secret | None,
    transport: UpstreamTransport,
    clock: SystemClock,
    telemetry: Telemetry,
) -> TokenVerification:
    rules = settings.auth.jwt
    return TokenVerification(
        _issuers(settings, local_key, transport, clock),
        ClaimNames(
            virtual_key=rules.claims.virtual_key,
            role=rules.claims.role,
            admin_value=rules.claims.admin_value,
        ),
        clock,
        max_lifetime=int(rules.max_lifetime.total_seconds()),
        note=lambda reason: telemetry.problem("token.rejected", reason=reason),
    )


def _router(
    settings: Settings,
    roles: Roles,
    handlers: Handlers,
    authenticate: Authenticate,
    drain: DrainSwitch,
    clock: SystemClock,
    rng: SystemRng,
    telemetry: Telemetry,
) -> Router:
    async def authenticate_inbound(inbound: Inbound) -> Caller:
        return await authenticate.caller(read_credentials(inbound))

    def report_defect(inbound: Inbound, error: Exception) -> None:
        telemetry.problem("request.broken", path=inbound.path, request_id=inbound.request_id, exc_info=error)

    guard = FrontGuard(
        host=settings.server.host,
        allowed_hosts=settings.server.allowed_hosts,
        origins=settings.client.allowed_origins,
    )
    routes = route_table(handlers, __version__)
    return Router(
        routes if roles.accepts else [route for route in routes if route.path in OPERATIONS],
        RouterTools(
            authenticate=authenticate_inbound,
            may_read_metrics=handlers.metrics.may_read,
            is_draining=drain,
            guard=guard,
            make_id=lambda: uuid7(clock.now(), rng.secret_bytes(10)),
            report_defect=report_defect,
            answered=telemetry.answered,
            refused_credential=FailedLogins(clock, telemetry.slowed_down).refused,
        ),
    )


async def _lane_limits(catalog: Catalog, store: OpenStore) -> dict[Lane, int]:
    limits = {Lane(name): setup.concurrency for name, setup in catalog.providers.items()}
    for lane in await store.jobs.pending_lanes():
        limits.setdefault(lane, _UNCONFIGURED_LANE)
    return limits


def _worked_on(limits: dict[Lane, int], roles: Roles) -> dict[Lane, int]:
    return {lane: most for lane, most in limits.items() if not roles.providers or lane in roles.providers}


def _local_key(settings: Settings) -> Secret | None:
    if not settings.auth.local_issuer:
        return None
    if settings.auth.local_issuer_key is not None or settings.store.is_shared:
        return settings.auth.local_issuer_key
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
