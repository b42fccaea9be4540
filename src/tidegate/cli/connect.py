"""From flags, environment and configuration to a client: which gateway, and as whom."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from tidegate.api import local_issuer
from tidegate.api.guard import is_loopback
from tidegate.cli.client import GatewayClient, split_url
from tidegate.cli.configuration import require_settings
from tidegate.cli.exits import CliError, Exit
from tidegate.cli.options import Connection
from tidegate.cli.screen import Screen
from tidegate.clock import SystemClock
from tidegate.domain.secret import Secret
from tidegate.settings import Settings

URL_VARIABLE: Final = "TIDEGATE_URL"
KEY_VARIABLE: Final = "TIDEGATE_KEY"
SUBJECT: Final = "tidegate-cli"
_TOKEN_LIFETIME: Final = timedelta(minutes=5)
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 – where it listens, we ask on loopback


def connect(connection: Connection, screen: Screen) -> GatewayClient:
    """Raises ``CliError`` when the configuration or the address cannot be used."""
    url = connection.url or os.environ.get(URL_VARIABLE)
    key = connection.key or os.environ.get(KEY_VARIABLE)
    if url is not None and key is not None:
        return GatewayClient(url, lambda: key, note=screen.detail)
    settings = require_settings(connection)
    credential = _credential(connection, settings, url) if key is None else lambda: key
    return GatewayClient(url or url_of(settings), credential, note=screen.detail)


def url_of(settings: Settings) -> str:
    """Where a gateway with these settings is reached from this machine."""
    return address_text(settings.server.host, settings.server.port)


def address_text(host: str, port: int) -> str:
    reachable = _ANY_ADDRESS.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def own_key(settings: Settings) -> Secret | None:
    """The local issuer's key: the configured one, or the one in the data directory of a gateway on SQLite."""
    if settings.auth.local_issuer_key is not None or settings.store.is_shared:
        return settings.auth.local_issuer_key
    return local_key(settings.server.data_dir)


def local_key(directory: Path) -> Secret | None:
    """The local issuer's key, where a gateway has made one. Raises ``CliError`` when it is not ours to read."""
    try:
        return local_issuer.load(directory)
    except OSError as error:
        raise CliError(
            f"cannot read {directory / local_issuer.FILE_NAME}: {error.strerror}; "
            "run as the gateway's user, or give --key",
            Exit.NOT_ALLOWED,
        ) from error


def _credential(connection: Connection, settings: Settings, url: str | None) -> Callable[[], str | None]:
    """A short admin token of the data directory's own issuer; nothing where it would go to a stranger."""
    is_ours = url is None or connection.data is not None or is_loopback(split_url(url).hostname or "")
    key = own_key(settings) if is_ours else None
    if key is None:
        return lambda: None
    clock = SystemClock()

    def token() -> str:
        return local_issuer.mint(
            key, subject=SUBJECT, virtual_key=None, now=clock.now(), lifetime=_TOKEN_LIFETIME
        )

    return token
