"""``providers``: whose models there are, by which keys and ways they are called, and how much they take."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct, field

from tidegate.domain.secret import Secret
from tidegate.settings.members import (
    DAY,
    SECOND,
    Name,
    Url,
    Weight,
    Word,
    duration,
    secret,
    setting,
)


class ProviderKeySettings(Struct, frozen=True):
    """Our secret at a vendor."""

    name: Annotated[Name, setting("Name, unique within the provider.")]
    value: Annotated[
        Secret | None, secret("The secret the vendor gave us.", "the key", may_be_empty=True)
    ] = None
    id: Annotated[
        Word | None, setting("Unique id; unset: the store gives it one that stays with the name.")
    ] = None
    models: Annotated[
        tuple[Word, ...],
        setting(
            'Models it serves; ["*"] means all, an empty list none. Unset: those the vendor is known for.'
        ),
    ] = ("*",)
    weight: Annotated[Weight, setting("Share of the calls when several keys serve a model.")] = 1.0
    enabled: Annotated[bool, setting("false leaves the key unused.")] = True


class NetworkSettings(Struct, frozen=True):
    """How a provider is reached."""

    base_url: Annotated[
        Url | None,
        setting("Replaces the vendor's origin; a path prefix may follow, the version segment may not."),
    ] = None
    max_retries: Annotated[int, Meta(ge=0, le=20), setting("Retries of one candidate.")] = 2
    retry_backoff_initial: Annotated[
        timedelta,
        duration(
            "Upper bound of the first pause before a retry.",
            "ms",
            timedelta(milliseconds=1),
            timedelta(hours=1),
            aliases=("retry_backoff_initial_ms",),
        ),
    ] = timedelta(milliseconds=500)
    retry_backoff_max: Annotated[
        timedelta,
        duration(
            "Upper bound of every pause before a retry.",
            "ms",
            timedelta(milliseconds=1),
            timedelta(hours=1),
            aliases=("retry_backoff_max_ms",),
        ),
    ] = timedelta(seconds=5)
    default_request_timeout: Annotated[
        timedelta, duration("How long one call may take in all.", "s", SECOND, DAY)
    ] = field(default=timedelta(minutes=10), name="default_request_timeout_in_seconds")
    proxy_url: Annotated[
        Secret | None, secret("HTTP proxy the calls go through; may carry a password.", "the proxy")
    ] = None
    ca_cert: Annotated[Path | None, setting("PEM file of a private certificate authority.")] = None
    allow_link_local: Annotated[bool, setting("Permit link-local addresses such as 169.254.0.0/16.")] = False


class ConcurrencySettings(Struct, frozen=True):
    """How much a provider takes at a time."""

    concurrency: Annotated[
        int,
        Meta(ge=1, le=100_000),
        setting("Parallel calls, and claimed jobs of its lane; of all processes that share the store."),
    ] = 256
    requests_per_minute: Annotated[
        Annotated[int, Meta(ge=1, le=100_000_000)] | None,
        setting(
            "Calls per minute of all processes; unset: any number. Jobs wait for their turn, at 96 of 100."
        ),
    ] = None
    tokens_per_minute: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000_000_000)] | None,
        setting("Tokens per minute of all processes, counted as the answers report them; unset: any number."),
    ] = None
    buffer_size: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000_000)] | None,
        setting("Bound of the lane's queue; read, but not enforced by this version."),
    ] = None


class CustomProviderSettings(Struct, frozen=True):
    """A provider of the operator's own that speaks a known vendor's dialect."""

    base_provider_type: Annotated[Name, setting("The vendor whose dialect it speaks.")]
    is_key_less: Annotated[bool, setting("Whether it answers without a key.")] = False


class ProviderSettings(Struct, frozen=True):
    """One provider."""

    keys: Annotated[tuple[ProviderKeySettings, ...], setting("Our keys at the vendor.")] = ()
    network_config: Annotated[NetworkSettings, setting("How it is reached.")] = NetworkSettings()
    concurrency_and_buffer_size: Annotated[ConcurrencySettings, setting("How much it takes at a time.")] = (
        ConcurrencySettings()
    )
    custom_provider_config: Annotated[
        CustomProviderSettings | None, setting("For a provider under a name of the operator's own.")
    ] = None
    vendor: str = ""
    """The vendor whose dialect it speaks: its own name, or the base of a custom provider."""
    needs_key: bool = True
    """Whether its calls carry a key."""
