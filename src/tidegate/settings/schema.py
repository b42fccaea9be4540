"""Every setting: name, type, default and help stand here once; schema, reference and report are derived.

A member without help is not a setting: it is worked out while the configuration is loaded. Attributes are
named after their setting, without a unit in the name where the type carries it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, field

from tidegate.domain.secret import Secret

_MIB: Final = 1 << 20
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)


def _setting(help_text: str, **facts: Any) -> Meta:
    return Meta(description=help_text, extra=facts or None)


def _duration(help_text: str, unit: str, least: timedelta, most: timedelta, **facts: Any) -> Meta:
    return Meta(description=help_text, extra={"unit": unit, "least": least, "most": most} | facts)


def _size(help_text: str, unit: str, least: int, most: int) -> Meta:
    return Meta(description=help_text, extra={"unit": unit, "least": least, "most": most})


def _secret(help_text: str, owner: str, **facts: Any) -> Meta:
    return Meta(description=help_text, extra={"owner": owner} | facts)


Word = Annotated[str, Meta(min_length=1, max_length=255)]
Url = Annotated[str, Meta(min_length=1, max_length=2048, extra={"is_private": True})]
UrlOrNothing = Annotated[str, Meta(max_length=2048, extra={"is_private": True})]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Origin = Annotated[
    str,
    Meta(
        pattern=r"^https?://[^/\s?#@*]+$",
        extra={"form": "an origin, such as https://app.example, without a path"},
    ),
]
HeaderName = Annotated[
    str, Meta(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", extra={"form": "the name of a header"})
]
HostName = Annotated[
    str, Meta(pattern=r"^[^\s/@?#*]+$", extra={"form": "a host name or address, as in a Host header"})
]
Weight = Annotated[float, Meta(ge=0, le=1_000_000)]


class ServerSettings(Struct, frozen=True):
    """Where the gateway listens and keeps its files."""

    host: Annotated[Word, _setting("Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535), _setting("Port to listen on; 0 takes a free one.")] = 8080
    data_dir: Annotated[
        Path,
        _setting(
            "Directory of database, lock and local secrets. "
            "Where store.url names a file and this is not set, the directory of that file.",
            default="./tidegate-data",
        ),
    ] = Path("tidegate-data")
    allowed_hosts: Annotated[
        tuple[HostName, ...] | None,
        _setting(
            "Host names a request may carry. Unset: the loopback names on a loopback address, else any."
        ),
    ] = None
    drain_timeout: Annotated[
        timedelta,
        _duration("How long running calls may finish on SIGTERM.", "s", timedelta(0), timedelta(hours=1)),
    ] = timedelta(seconds=25)


class StoreSettings(Struct, frozen=True):
    """The durable store."""

    url: Annotated[
        Url,
        _setting(
            "The SQLite file of one process, sqlite:///relative/path or sqlite:////absolute/path, "
            "or the PostgreSQL database of any number: postgresql://user:password@host:5432/name.",
            default="sqlite:///<data_dir>/tidegate.db",
        ),
    ] = ""
    listen_url: Annotated[
        UrlOrNothing | None,
        _setting(
            "A direct connection to PostgreSQL for LISTEN, past a transaction pooler; empty: only look. "
            "Unset: as store.url, unless store.pooler is set."
        ),
    ] = None
    pooler: Annotated[
        bool,
        _setting(
            "store.url leads to a transaction pooler, such as PgBouncer. Costs each transaction four more round trips."
        ),
    ] = False
    allow_unsafe_settings: Annotated[
        bool, _setting("Start although PostgreSQL may lose what it has committed.")
    ] = False
    commit_wait: Annotated[
        timedelta,
        _duration(
            "How long a group commit waits for company.", "ms", timedelta(0), timedelta(milliseconds=2)
        ),
    ] = timedelta(0)
    min_free_bytes: Annotated[
        int, _size("With less free disk space, submits are refused with storage_full.", "B", 0, 1 << 50)
    ] = 256 * _MIB
    wipe: Annotated[bool, _setting("Overwrite deleted data in the database file.")] = False
    path: Path = Path()
    """The SQLite file that ``url`` names."""
    is_shared: bool = False
    """``url`` names a PostgreSQL database: other processes may be at work on it."""
    place: str = ""
    """Path or URL as it may be shown."""


class ClientSettings(Struct, frozen=True):
    """What the HTTP interface accepts from clients."""

    async_job_result_ttl: Annotated[
        timedelta, _duration("How long a result stays readable after the end.", "s", _SECOND, 30 * _DAY)
    ] = timedelta(hours=1)
    async_job_result_ttl_max: Annotated[
        timedelta, _duration("The longest lifetime a client may ask for.", "s", _SECOND, 30 * _DAY)
    ] = timedelta(days=30)
    max_request_body_size: Annotated[
        int, _size("The largest request body, decompressed.", "MiB", _MIB, 1024 * _MIB)
    ] = field(default=32 * _MIB, name="max_request_body_size_mb")
    allowed_origins: Annotated[
        tuple[Origin, ...], _setting("Origins whose scripts may call the gateway (CORS).")
    ] = ()
    required_headers: Annotated[tuple[HeaderName, ...], _setting("Headers every submit must carry.")] = ()


class AsyncSettings(Struct, frozen=True):
    """Limits of jobs."""

    timeout_max: Annotated[
        timedelta, _duration("The longest deadline a client may ask for.", "s", _SECOND, 365 * _DAY)
    ] = field(default=timedelta(days=7), name="timeout_max_seconds")
    worker_loss_budget: Annotated[
        int, Meta(ge=0, le=100), _setting("How many lost workers a job survives before it fails.")
    ] = 3
    retry_after_inline_max: Annotated[
        timedelta,
        _duration(
            "A longer Retry-After of a provider ends the candidate instead of holding the job.",
            "s",
            timedelta(0),
            timedelta(hours=1),
        ),
    ] = field(default=timedelta(seconds=30), name="retry_after_inline_max_seconds")


class IssuerSettings(Struct, frozen=True):
    """Whose tokens are believed, and for what."""

    iss: Annotated[Word, _setting("The issuer, exactly as in the token.")]
    aud: Annotated[Word, _setting("The audience a token must name.")]
    algorithms: Annotated[
        tuple[Literal["HS256", "RS256", "ES256", "EdDSA"], ...],
        Meta(min_length=1),
        _setting("Signature algorithms, named one by one; HS256 stands alone."),
    ]
    key: Annotated[
        Secret | None,
        _secret(
            "The HS256 secret of at least 32 bytes, or a public key in PEM or JWK form.",
            "the issuer",
            may_have_lines=True,
        ),
    ] = None
    jwks_url: Annotated[Url | None, _setting("Where the issuer publishes its keys, instead of key.")] = None
    kinds: Annotated[
        tuple[Literal["virtual_key", "admin"], ...],
        Meta(min_length=1),
        _setting("What the issuer's tokens may be."),
    ] = ("virtual_key",)
    typ: Annotated[Word | None, _setting("The typ header a token must carry.")] = None


class ClaimSettings(Struct, frozen=True):
    """Which claims carry the rights."""

    virtual_key: Annotated[Word, _setting("Claim that names a virtual key.")] = "virtual_key"
    role: Annotated[Word, _setting("Claim that makes an administrator.")] = "role"
    admin_value: Annotated[Word, _setting("Its value for an administrator.")] = "admin"


class JwtSettings(Struct, frozen=True):
    """JSON Web Tokens."""

    issuers: Annotated[tuple[IssuerSettings, ...], _setting("Issuers whose tokens are accepted.")] = ()
    claims: Annotated[ClaimSettings, _setting("Names of the claims that carry the rights.")] = ClaimSettings()
    max_lifetime: Annotated[
        timedelta, _duration("How far ahead a token's exp may lie.", "s", _SECOND, _DAY)
    ] = field(default=_DAY, name="max_lifetime_seconds")


class AuthSettings(Struct, frozen=True):
    """Who may call."""

    required: Annotated[bool, _setting("Whether a request needs a credential; false allows anyone.")] = True
    local_issuer: Annotated[bool, _setting("Whether the command line may mint its own tokens.")] = True
    local_issuer_key: Annotated[
        Secret | None,
        _secret(
            "Key of those tokens, at least 32 bytes, the same for every process on a PostgreSQL store. "
            "Unset: one in the data directory on SQLite, none on PostgreSQL.",
            "the key",
        ),
    ] = None
    jwt: Annotated[JwtSettings, _setting("JSON Web Tokens.")] = JwtSettings()


class ProviderConfigSettings(Struct, frozen=True):
    """What a virtual key may use at one provider."""

    provider: Annotated[Name, _setting("Name of the provider.")]
    weight: Annotated[
        Weight | None, _setting("Share when a model without a provider is routed; unset: takes no part.")
    ] = None
    allowed_models: Annotated[
        tuple[Word, ...], _setting('Models it may use; ["*"] allows all, an empty list none.')
    ] = ()
    key_ids: Annotated[
        tuple[Word, ...] | None, _setting('Ids of the provider keys that may serve it; unset or ["*"]: all.')
    ] = None


class KeyAsyncSettings(Struct, frozen=True):
    """What a virtual key's jobs may ask for."""

    weight: Annotated[
        float, Meta(gt=0, le=1000), _setting("Share of a provider's capacity when keys compete.")
    ] = 1.0
    priority_ceiling: Annotated[
        int, Meta(ge=1, le=5), _setting("The best (smallest) priority its jobs may have.")
    ] = 1
    result_ttl_max: Annotated[
        timedelta | None, _duration("The longest result lifetime of its jobs.", "s", _SECOND, 30 * _DAY)
    ] = None


class VirtualKeySettings(Struct, frozen=True):
    """A client's credential and its rights."""

    name: Annotated[Name, _setting("Unique name.")]
    value: Annotated[Secret, _secret("The secret the client sends, usually sk-bf-….", "the key")]
    id: Annotated[
        Word | None, _setting("Unique id; unset: the store gives it one that stays with the name.")
    ] = None
    description: Annotated[str, _setting("For people.", has_lines=True)] = ""
    is_active: Annotated[bool, _setting("false refuses the key.")] = True
    expires_at: Annotated[datetime | None, _setting("When the key stops being valid.")] = None
    provider_configs: Annotated[
        tuple[ProviderConfigSettings, ...] | None,
        _setting("What it may use; unset: every provider and model, an empty list: nothing."),
    ] = None
    async_: Annotated[KeyAsyncSettings, _setting("What its jobs may ask for.")] = field(
        default=KeyAsyncSettings(), name="async"
    )


class GovernanceSettings(Struct, frozen=True):
    """Virtual keys that the configuration owns."""

    virtual_keys: Annotated[
        tuple[VirtualKeySettings, ...], _setting("Virtual keys; read-only over the API.")
    ] = ()


class ProviderKeySettings(Struct, frozen=True):
    """Our secret at a vendor."""

    name: Annotated[Name, _setting("Name, unique within the provider.")]
    value: Annotated[
        Secret | None, _secret("The secret the vendor gave us.", "the key", may_be_empty=True)
    ] = None
    id: Annotated[
        Word | None, _setting("Unique id; unset: the store gives it one that stays with the name.")
    ] = None
    models: Annotated[
        tuple[Word, ...],
        _setting(
            'Models it serves; ["*"] means all, an empty list none. Unset: those the vendor is known for.'
        ),
    ] = ("*",)
    weight: Annotated[Weight, _setting("Share of the calls when several keys serve a model.")] = 1.0
    enabled: Annotated[bool, _setting("false leaves the key unused.")] = True


class NetworkSettings(Struct, frozen=True):
    """How a provider is reached."""

    base_url: Annotated[
        Url | None,
        _setting("Replaces the vendor's origin; a path prefix may follow, the version segment may not."),
    ] = None
    max_retries: Annotated[int, Meta(ge=0, le=20), _setting("Retries of one candidate.")] = 2
    retry_backoff_initial: Annotated[
        timedelta,
        _duration(
            "Upper bound of the first pause before a retry.",
            "ms",
            timedelta(milliseconds=1),
            timedelta(hours=1),
            aliases=("retry_backoff_initial_ms",),
        ),
    ] = timedelta(milliseconds=500)
    retry_backoff_max: Annotated[
        timedelta,
        _duration(
            "Upper bound of every pause before a retry.",
            "ms",
            timedelta(milliseconds=1),
            timedelta(hours=1),
            aliases=("retry_backoff_max_ms",),
        ),
    ] = timedelta(seconds=5)
    default_request_timeout: Annotated[
        timedelta, _duration("How long one call may take in all.", "s", _SECOND, _DAY)
    ] = field(default=timedelta(minutes=10), name="default_request_timeout_in_seconds")
    proxy_url: Annotated[
        Secret | None, _secret("HTTP proxy the calls go through; may carry a password.", "the proxy")
    ] = None
    ca_cert: Annotated[Path | None, _setting("PEM file of a private certificate authority.")] = None
    allow_link_local: Annotated[bool, _setting("Permit link-local addresses such as 169.254.0.0/16.")] = False


class ConcurrencySettings(Struct, frozen=True):
    """How much a provider takes at a time."""

    concurrency: Annotated[
        int,
        Meta(ge=1, le=100_000),
        _setting("Parallel calls, and claimed jobs of its lane; of all processes that share the store."),
    ] = 256
    requests_per_minute: Annotated[
        Annotated[int, Meta(ge=1, le=100_000_000)] | None,
        _setting("Calls per minute of all processes; unset: any number. Jobs wait for their turn."),
    ] = None
    tokens_per_minute: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000_000_000)] | None,
        _setting(
            "Tokens per minute of all processes, counted as the answers report them; unset: any number."
        ),
    ] = None
    buffer_size: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000_000)] | None,
        _setting("Bound of the lane's queue; read, but not enforced by this version."),
    ] = None


class CustomProviderSettings(Struct, frozen=True):
    """A provider of the operator's own that speaks a known vendor's dialect."""

    base_provider_type: Annotated[Name, _setting("The vendor whose dialect it speaks.")]
    is_key_less: Annotated[bool, _setting("Whether it answers without a key.")] = False


class ProviderSettings(Struct, frozen=True):
    """One provider."""

    keys: Annotated[tuple[ProviderKeySettings, ...], _setting("Our keys at the vendor.")] = ()
    network_config: Annotated[NetworkSettings, _setting("How it is reached.")] = NetworkSettings()
    concurrency_and_buffer_size: Annotated[ConcurrencySettings, _setting("How much it takes at a time.")] = (
        ConcurrencySettings()
    )
    custom_provider_config: Annotated[
        CustomProviderSettings | None, _setting("For a provider under a name of the operator's own.")
    ] = None
    vendor: str = ""
    """The vendor whose dialect it speaks: its own name, or the base of a custom provider."""
    needs_key: bool = True
    """Whether its calls carry a key."""


class SecuritySettings(Struct, frozen=True):
    """Stricter than the defaults."""

    strict_secrets: Annotated[bool, _setting("Refuse secrets that stand in the file in clear.")] = False


class MetricsSettings(Struct, frozen=True):
    """Who may read /metrics."""

    public: Annotated[bool, _setting("Open /metrics to everybody; otherwise it takes an administrator.")] = (
        False
    )
    token: Annotated[Secret | None, _secret("Bearer token for a scraper.", "the token")] = None


class Settings(Struct, frozen=True):
    """The configuration, checked: whoever holds one may trust it."""

    server: Annotated[ServerSettings, _setting("Where the gateway listens and keeps its files.")] = (
        ServerSettings()
    )
    store: Annotated[StoreSettings, _setting("The durable store.")] = StoreSettings()
    client: Annotated[ClientSettings, _setting("What the HTTP interface accepts.")] = ClientSettings()
    async_: Annotated[AsyncSettings, _setting("Limits of jobs.")] = field(
        default=AsyncSettings(), name="async"
    )
    auth: Annotated[AuthSettings, _setting("Who may call.")] = AuthSettings()
    governance: Annotated[GovernanceSettings, _setting("Virtual keys.")] = GovernanceSettings()
    providers: Annotated[
        Mapping[str, ProviderSettings], _setting("Providers by name, in the order of the file.")
    ] = field(default_factory=dict)
    security: Annotated[SecuritySettings, _setting("Stricter than the defaults.")] = SecuritySettings()
    metrics: Annotated[MetricsSettings, _setting("Who may read /metrics.")] = MetricsSettings()
    warnings: tuple[str, ...] = ()
    """Worth telling whoever starts the gateway."""
    ignored: tuple[str, ...] = ()
    """Settings that were read and have no effect, each once, with what follows from that."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where each value came from: ``flag``, ``environment …``, ``file …`` or ``default``."""
