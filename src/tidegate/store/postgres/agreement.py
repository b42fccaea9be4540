"""Settings that hold for all workers on one database: two opinions would be two limits."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from tidegate.store.postgres.workers import LEASE
from tidegate.store.refusal import StoreRefused

_LIVING: Final = (
    "SELECT host, pid, settings FROM workers WHERE seen_at >= now_ms() - $1 ORDER BY seen_at DESC"
)


async def require_agreement(connection: Any, settings: Mapping[str, object]) -> None:
    """Raises ``StoreRefused`` when a worker that lives goes by other ``settings``; there is nothing to agree on in none."""
    if not settings:
        return
    for host, pid, text in await connection.fetch(_LIVING, LEASE // timedelta(milliseconds=1)):
        theirs = msgspec.json.decode(text, type=dict[str, Any])
        for name in sorted(theirs.keys() & settings.keys()):
            if theirs[name] != settings[name]:
                raise StoreRefused(
                    f"{name} is {_shown(settings[name])} here and {_shown(theirs[name])} in process {pid} on {host}, "
                    "which runs jobs of the same database: use one configuration, or stop the others first"
                )


def _shown(value: object) -> str:
    return msgspec.json.encode(value).decode()
