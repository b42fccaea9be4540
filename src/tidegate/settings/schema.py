"""Every setting: name, type, default and help stand here once; schema, reference and report are derived.

A member without help is not a setting: it is worked out while the configuration is loaded. Attributes are
named after their setting, without a unit in the name where the type carries it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from tidegate.domain.secret import Secret
from tidegate.settings.members import (
    DAY,
    MIB,
    SECOND,
    HeaderName,
    HostName,
    Name,
    Origin,
    Url,
    UrlOrNothing,
    Weight,
    Word,
    duration,
    secret,
    setting,
    size,
)
from tidegate.settings.provider_schema import ProviderSettings


class ServerSettings(Struct, frozen=True):
    """Where the gateway listens and keeps its files."""

    host: Annotated[Word, setting("Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535), setting("Port to listen on; 0 takes a free one.")] = 8080
    data_dir: Annotated[
        Path,
        setting(
            "Directory of database, lock and local secrets. "
            "Where store.url names a file and this is not set, the directory of that file.",
            default="./tidegate-data",
        ),
    ] = Path("tidegate-data")
    allowed_hosts: Annotated[
        tuple[HostName, ...] | None,
        setting("Host names a request may carry. Unset: the loopback names on a loopback address, else any."),
    ] = None
    drain_timeout: Annotated[
        timedelta,
        duration("How long running calls may finish on SIGTERM.", "s", timedelta(0), timedelta(hours=1)),
    ] = timedelta(seconds=25)


class StoreSettings(Struct, frozen=True):
    """The durable store."""

    url: Annotated[
        Url,
        setting(
            "The SQLite file of one process, sqlite:///relative/path or sqlite:////absolute/path, "
            "or the PostgreSQL database of any number: postgresql://user:password@host:5432/name.",
            default="sqlite:///<data_dir>/tidegate.db",
        ),
    ] = ""
    listen_url: Annotated[
        UrlOrNothing | None,
        setting(
            "A direct connection to PostgreSQL for LISTEN, past a transaction pooler; empty: only look. "
            "Unset: as store.url, unless store.pooler is set."
        ),
    ] = None
    pooler: Annotated[
        bool,
        setting(
            "store.url leads to a transaction pooler, such as PgBouncer. Costs each transaction four more round trips."
        ),
    ] = False
    allow_unsafe_settings: Annotated[
        bool, setting("Start although PostgreSQL may lose what it has committed.")
    ] = False
    commit_wait: Annotated[
        timedelta,
        duration("How long a group commit waits for company.", "ms", timedelta(0), timedelta(milliseconds=2)),
    ] = timedelta(0)
    min_free_bytes: Annotated[
        int, size("With less free disk space, submits are refused with storage_full.", "B", 0, 1 << 50)
    ] = 256 * MIB
    wipe: Annotated[bool, setting("Overwrite deleted data in the database file.")] = False
    path: Path = Path()
    """The SQLite file that ``url`` names."""
    is_shared: bool = False
    """``url`` names a PostgreSQL database: other processes may be at work on it."""
    place: str = ""
    """Path or URL as it may be shown."""


class ClientSettings(Struct, frozen=True):
    """What the HTTP interface accepts from clients."""

    async_job_result_ttl: Annotated[
        timedelta, duration("How long a result stays readable after the end.", "s", SECOND, 30 * DAY)
    ] = timedelta(hours=1)
    async_job_result_ttl_max: Annotated[
        timedelta, duration("The longest lifetime a client may ask for.", "s", SECOND, 30 * DAY)
    ] = timedelta(days=30)
    max_request_body_size: Annotated[
        int, size("The largest request body, decompressed.", "MiB", MIB, 1024 * MIB)
    ] = field(default=32 * MIB, name="max_request_body_size_mb")
    allowed_origins: Annotated[
        tuple[Origin, ...], setting("Origins whose scripts may call the gateway (CORS).")
    ] = ()
    required_headers: Annotated[tuple[HeaderName, ...], setting("Headers every submit must carry.")] = ()


class AsyncSettings(Struct, frozen=True):
    """Limits of jobs."""

    timeout_max: Annotated[
        timedelta, duration("The longest deadline a client may ask for.", "s", SECOND, 365 * DAY)
    ] = field(default=timedelta(days=7), name="timeout_max_seconds")
    worker_loss_budget: Annotated[
        int, Meta(ge=0, le=100), setting("How many lost workers a job survives before it fails.")
    ] = 3
    retry_after_inline_max: Annotated[
        timedelta,
        duration(
            "A longer Retry-After of a provider ends the candidate instead of holding the job.",
            "s",
            timedelta(0),
            timedelta(hours=1),
        ),
    ] = field(default=timedelta(seconds=30), name="retry_after_inline_max_seconds")


class IssuerSettings(Struct, frozen=True):
    """Whose tokens are believed, and for what."""

    iss: Annotated[Word, setting("The issuer, exactly as in the token.")]
    aud: Annotated[Word, setting("The audience a token must name.")]
    algorithms: Annotated[
        tuple[Literal["HS256", "RS256", "ES256", "EdDSA"], ...],
        Meta(min_length=1),
        setting("Signature algorithms, named one by one; HS256 stands alone."),
    ]
    key: Annotated[
        Secret | None,
        secret(
            "The HS256 secret of at least 32 bytes, or a public key in PEM or JWK form.",
            "the issuer",
            may_have_lines=True,
        ),
    ] = None
    jwks_url: Annotated[Url | None, setting("Where the issuer publishes its keys, instead of key.")] = None
    kinds: Annotated[
        tuple[Literal["virtual_key", "admin"], ...],
        Meta(min_length=1),
        setting("What the issuer's tokens may be."),
    ] = ("virtual_key",)
    typ: Annotated[Word | None, setting("The typ header a token must carry.")] = None


class ClaimSettings(Struct, frozen=True):
    """Which claims carry the rights."""

    virtual_key: Annotated[Word, setting("Claim that names a virtual key.")] = "virtual_key"
    role: Annotated[Word, setting("Claim that makes an administrator.")] = "role"
    admin_value: Annotated[Word, setting("Its value for an administrator.")] = "admin"


class JwtSettings(Struct, frozen=True):
    """JSON Web Tokens."""

    issuers: Annotated[tuple[IssuerSettings, ...], setting("Issuers whose tokens are accepted.")] = ()
    claims: Annotated[ClaimSettings, setting("Names of the claims that carry the rights.")] = ClaimSettings()
    max_lifetime: Annotated[timedelta, duration("How far ahead a token's exp may lie.", "s", SECOND, DAY)] = (
        field(default=DAY, name="max_lifetime_seconds")
    )


class AuthSettings(Struct, frozen=True):
    """Who may call."""

    required: Annotated[bool, setting("Whether a request needs a credential; false allows anyone.")] = True
    local_issuer: Annotated[bool, setting("Whether the command line may mint its own tokens.")] = True
    local_issuer_key: Annotated[
        Secret | None,
        secret(
            "Key of those tokens, at least 32 bytes, the same for every process on a PostgreSQL store. "
            "Unset: one in the data directory on SQLite, none on PostgreSQL.",
            "the key",
        ),
    ] = None
    jwt: Annotated[JwtSettings, setting("JSON Web Tokens.")] = JwtSettings()


class ProviderConfigSettings(Struct, frozen=True):
    """What a virtual key may use at one provider."""

    provider: Annotated[Name, setting("Name of the provider.")]
    weight: Annotated[
        Weight | None, setting("Share when a model without a provider is routed; unset: takes no part.")
    ] = None
    allowed_models: Annotated[
        tuple[Word, ...], setting('Models it may use; ["*"] allows all, an empty list none.')
    ] = ()
    key_ids: Annotated[
        tuple[Word, ...] | None, setting('Ids of the provider keys that may serve it; unset or ["*"]: all.')
    ] = None


class KeyAsyncSettings(Struct, frozen=True):
    """What a virtual key's jobs may ask for."""

    weight: Annotated[
        float, Meta(gt=0, le=1000), setting("Share of a provider's capacity when keys compete.")
    ] = 1.0
    priority_ceiling: Annotated[
        int, Meta(ge=1, le=5), setting("The best (smallest) priority its jobs may have.")
    ] = 1
    result_ttl_max: Annotated[
        timedelta | None, duration("The longest result lifetime of its jobs.", "s", SECOND, 30 * DAY)
    ] = None


class VirtualKeySettings(Struct, frozen=True):
    """A client's credential and its rights."""

    name: Annotated[Name, setting("Unique name.")]
    value: Annotated[Secret, secret("The secret the client sends, usually sk-bf-….", "the key")]
    id: Annotated[
        Word | None, setting("Unique id; unset: the store gives it one that stays with the name.")
    ] = None
    description: Annotated[str, setting("For people.", has_lines=True)] = ""
    is_active: Annotated[bool, setting("false refuses the key.")] = True
    expires_at: Annotated[datetime | None, setting("When the key stops being valid.")] = None
    provider_configs: Annotated[
        tuple[ProviderConfigSettings, ...] | None,
        setting("What it may use; unset: every provider and model, an empty list: nothing."),
    ] = None
    async_: Annotated[KeyAsyncSettings, setting("What its jobs may ask for.")] = field(
        default=KeyAsyncSettings(), name="async"
    )


class GovernanceSettings(Struct, frozen=True):
    """Virtual keys that the configuration owns."""

    virtual_keys: Annotated[
        tuple[VirtualKeySettings, ...], setting("Virtual keys; read-only over the API.")
    ] = ()


class SecuritySettings(Struct, frozen=True):
    """Stricter than the defaults."""

    strict_secrets: Annotated[bool, setting("Refuse secrets that stand in the file in clear.")] = False


class MetricsSettings(Struct, frozen=True):
    """Who may read /metrics."""

    public: Annotated[bool, setting("Open /metrics to everybody; otherwise it takes an administrator.")] = (
        False
    )
    token: Annotated[Secret | None, secret("Bearer token for a scraper.", "the token")] = None


class Settings(Struct, frozen=True):
    """The configuration, checked: whoever holds one may trust it."""

    server: Annotated[ServerSettings, setting("Where the gateway listens and keeps its files.")] = (
        ServerSettings()
    )
    store: Annotated[StoreSettings, setting("The durable store.")] = StoreSettings()
    client: Annotated[ClientSettings, setting("What the HTTP interface accepts.")] = ClientSettings()
    async_: Annotated[AsyncSettings, setting("Limits of jobs.")] = field(
        default=AsyncSettings(), name="async"
    )
    auth: Annotated[AuthSettings, setting("Who may call.")] = AuthSettings()
    governance: Annotated[GovernanceSettings, setting("Virtual keys.")] = GovernanceSettings()
    providers: Annotated[
        Mapping[str, ProviderSettings], setting("Providers by name, in the order of the file.")
    ] = field(default_factory=dict)
    security: Annotated[SecuritySettings, setting("Stricter than the defaults.")] = SecuritySettings()
    metrics: Annotated[MetricsSettings, setting("Who may read /metrics.")] = MetricsSettings()
    warnings: tuple[str, ...] = ()
    """Worth telling whoever starts the gateway."""
    ignored: tuple[str, ...] = ()
    """Settings that were read and have no effect, each once, with what follows from that."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where each value came from: ``flag``, ``environment …``, ``file …`` or ``default``."""
