"""What a server has to promise before a 202 may rest on it: asked at the start, and of every server we come to."""

from typing import Any, Final, final

from tidegate.store.postgres.session import SETTINGS
from tidegate.store.refusal import StoreRefused

BY_WAY_OF_A_POOLER: Final = (
    "store.url leads to a pooler, which keeps what a session is told from the server: set store.pooler: true, "
    "or connect directly"
)
_OLDEST: Final = 140_000
_PROMISES: Final = {"fsync": "on", "full_page_writes": "on", "data_sync_retry": "off"}
_FACTS: Final = "SELECT name, current_setting(name, true) FROM unnest($1::text[]) AS name"
_ASKED: Final = ("server_version_num", "server_encoding", "lock_timeout", *_PROMISES)


async def check_server(connection: Any, *, allow_unsafe: bool) -> tuple[str, ...]:
    """Warnings. Raises ``StoreRefused`` for a server that cannot be used, or could lose what it has acknowledged."""
    facts = dict(await connection.fetch(_FACTS, _ASKED))
    version = int(facts["server_version_num"])
    if version < _OLDEST:
        raise StoreRefused(
            f"PostgreSQL {version // 10_000} is too old: version {_OLDEST // 10_000} or newer is needed"
        )
    if facts["lock_timeout"] != SETTINGS["lock_timeout"]:
        raise StoreRefused(BY_WAY_OF_A_POOLER)
    if facts["server_encoding"] != "UTF8":
        raise StoreRefused(
            f"the database's encoding is {facts['server_encoding']}: create one with ENCODING 'UTF8' "
            "TEMPLATE template0"
        )
    broken = [f"{name} = {facts[name]}" for name, value in _PROMISES.items() if facts[name] != value]
    if not broken:
        return ()
    problem = f"the server may lose what it has committed ({', '.join(broken)})"
    if not allow_unsafe:
        raise StoreRefused(
            f"{problem}: change its configuration, or set store.allow_unsafe_settings: true and live with it"
        )
    return (problem,)


@final
class ServerCheck:
    """What was found at the latest server: after a failover that is another one."""

    def __init__(self, *, allow_unsafe: bool) -> None:
        self._allow_unsafe = allow_unsafe
        self.warnings: tuple[str, ...] = ()
        """Why it should not be trusted, or is not used."""

    async def check(self, connection: Any) -> None:
        """Raises ``StoreRefused``."""
        try:
            self.warnings = await check_server(connection, allow_unsafe=self._allow_unsafe)
        except StoreRefused as exc:
            self.warnings = (str(exc),)
            raise
