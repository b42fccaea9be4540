"""Headers and query parameters as the OpenAPI document tells of them."""

from typing import Any, Final

from msgspec import Struct


class Parameter(Struct, frozen=True):
    """A header or query parameter."""

    name: str
    where: str
    description: str
    schema: dict[str, Any]


STRING: Final = {"type": "string"}

_WAIT_HEADER: Final = Parameter(
    "Prefer",
    "header",
    "`wait=N`: hold the answer until the job has ended, at most N seconds, 60 at most",
    STRING,
)
_WAIT_QUERY: Final = Parameter(
    "wait", "query", "Alias of `Prefer: wait=N`; the header wins", {"type": "integer", "minimum": 0}
)
OPTIONS: Final = (
    Parameter(
        "x-bf-async-job-result-ttl",
        "header",
        "Seconds the result is kept after the end. Default 3600; anything unreadable means the default",
        STRING,
    ),
    Parameter(
        "x-bf-async-timeout",
        "header",
        "Seconds until the deadline. Default 3600",
        {"type": "integer", "minimum": 1},
    ),
    Parameter(
        "x-bf-async-max-attempts",
        "header",
        "Attempts that may end in failure. Default 3",
        {"type": "integer", "minimum": 1, "maximum": 10},
    ),
    Parameter(
        "x-bf-async-priority",
        "header",
        "1 is claimed first, 5 last. Default 3",
        {"type": "integer", "minimum": 1, "maximum": 5},
    ),
    Parameter(
        "Idempotency-Key",
        "header",
        "1 to 255 visible ASCII characters: a repeat with the same body gets the same job",
        {"type": "string", "minLength": 1, "maxLength": 255},
    ),
    Parameter(
        "x-bf-passthrough-extra-params",
        "header",
        "`true`: members the gateway does not know are merged into the provider's body",
        {"type": "string"},
    ),
)
IF_NONE_MATCH: Final = Parameter("If-None-Match", "header", "`ETag` of an earlier answer", STRING)
WAIT: Final = (_WAIT_HEADER, _WAIT_QUERY)
