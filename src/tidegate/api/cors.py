"""CORS: which pages may read our answers. Off unless origins are configured; never ``*``, never credentials."""

from collections.abc import Collection, Iterable
from typing import Final, final

from tidegate.api.answers import Answer, Header, header
from tidegate.api.inbound import Inbound

_VARY: Final = (b"vary", b"origin")
_EXPOSED: Final = header(
    "access-control-expose-headers",
    "location, retry-after, etag, x-request-id, preference-applied, idempotent-replayed",
)
_MAX_AGE: Final = header("access-control-max-age", 600)


@final
class Cors:
    """Knows the origins that the operator listed, compared exactly."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins: Collection[bytes] = frozenset(origin.encode("latin-1") for origin in origins)

    def lists(self, inbound: Inbound) -> bool:
        return bool(self._origins) and inbound.headers.get(b"origin") in self._origins

    def headers(self, inbound: Inbound) -> tuple[Header, ...]:
        """What every answer carries besides its own headers."""
        if not self._origins:
            return ()
        if not self.lists(inbound):
            return (_VARY,)
        return ((b"access-control-allow-origin", inbound.headers[b"origin"]), _VARY, _EXPOSED)

    def is_preflight(self, inbound: Inbound) -> bool:
        return (
            inbound.method == "OPTIONS"
            and b"access-control-request-method" in inbound.headers
            and self.lists(inbound)
        )


def preflight(inbound: Inbound, methods: Iterable[str]) -> Answer:
    """What a listed page may send to a path. Any header: those we do not know have no effect."""
    asked = inbound.headers.get(b"access-control-request-headers", b"")
    allowed = (
        header("access-control-allow-methods", ", ".join(methods)),
        (b"access-control-allow-headers", asked),
        _MAX_AGE,
    )
    return Answer(204, b"", tuple(sent for sent in allowed if sent[1]))
