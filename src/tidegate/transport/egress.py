"""How calls leave the process: settings per provider, limits for all."""

from datetime import timedelta
from pathlib import Path

from msgspec import Struct

from tidegate.domain.secret import Secret


class Egress(Struct, frozen=True):
    """The way out for one provider. Providers with equal settings share their connections."""

    proxy_url: Secret | None = None
    """Forward proxy, secret because of the password it may hold. Environment proxies are never used."""
    ca_cert: Path | None = None
    """PEM file of a private certificate authority, believed besides the system's."""
    allow_link_local: bool = False
    """Permits hosts such as 169.254.169.254, where clouds keep their credentials."""
    pool_size: int = 256
    """Idle connections kept per host."""


class Limits(Struct, frozen=True):
    """What every call is held to, whatever its provider."""

    connect_timeout: timedelta = timedelta(seconds=5)
    """For name, connection and TLS handshake together."""
    idle_timeout: timedelta = timedelta(seconds=60)
    """Longest silence between two parts of a body; before the headers there is only the call's time limit."""
    max_response_bytes: int = 32 * 1024 * 1024
    """Counted after decompression."""
