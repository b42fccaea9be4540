"""What each route does, in words and types: the text of the OpenAPI document beside the route table."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct

from tidegate.api import examples, schemas
from tidegate.api.keys import KeyBody
from tidegate.api.parameters import IF_NONE_MATCH, OPTIONS, STRING, WAIT, Parameter
from tidegate.domain.chat import ChatRequest
from tidegate.domain.errors import ErrorCode as E


class Reply(Struct, frozen=True):
    """One documented answer."""

    description: str
    shape: type[Struct] | None = None
    example: Any = None
    media_type: str = "application/json"


class Operation(Struct, frozen=True):
    """One route's documentation."""

    summary: str
    tag: str
    replies: Mapping[int, Reply]
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: type[Struct] | None = None
    body_example: Any = None


def _refused(description: str, code: E, message: str, param: str | None = None) -> Reply:
    return Reply(description, schemas.ErrorEnvelope, examples.refusal(code, message, param))


_UNAUTHENTICATED: Final = {
    401: _refused(
        "No credential, or one that does not hold",
        E.VIRTUAL_KEY_REQUIRED,
        "authentication is required: send a virtual key or a JWT",
    ),
    403: _refused("Not allowed", E.VIRTUAL_KEY_BLOCKED, "virtual key is inactive"),
}
_NOT_ADMIN: Final = _UNAUTHENTICATED | {
    403: _refused("Not an administrator", E.ADMIN_REQUIRED, "this needs an admin token")
}
_STORE_DOWN: Final = {
    503: _refused(
        "The store is not available",
        E.STORAGE_UNAVAILABLE,
        "the store is not available; nothing was stored",
    )
}
_UNREADABLE_QUERY: Final = {
    400: _refused(
        "An unknown or malformed query parameter",
        E.INVALID_QUERY_PARAMETER,
        "invalid limit: expected an integer from 1 to 200",
        "limit",
    )
}
_BODY: Final = {
    408: _refused("The body came too slowly", E.REQUEST_TIMEOUT, "request body was not received in time"),
    413: _refused(
        "The body is too large",
        E.REQUEST_TOO_LARGE,
        "request body exceeds the limit of 33554432 bytes",
    ),
    415: _refused(
        "Unknown content encoding",
        E.UNSUPPORTED_CONTENT_ENCODING,
        'content encoding "br" is not supported: send gzip, deflate or none',
        "content-encoding",
    ),
}
_ONE_KEY: Final = {
    **_UNREADABLE_QUERY,
    **_NOT_ADMIN,
    **_STORE_DOWN,
    404: _refused("No such virtual key", E.NOT_FOUND, "no such virtual key"),
}
_FROM_CONFIG: Final = {
    409: _refused(
        "Defined in the configuration", E.MANAGED_BY_CONFIG, '"search-team" is defined in the configuration'
    )
}
_KEY_BODY: Final = {
    **_NOT_ADMIN,
    **_STORE_DOWN,
    **_BODY,
    400: _refused(
        "Not acceptable; the error names the member", E.UNKNOWN_FIELD, "unknown field 'nmae'", "nmae"
    ),
    409: _refused(
        "A name that is taken, or a key from the configuration",
        E.ALREADY_EXISTS,
        'a virtual key named "search-team" exists',
        "name",
    ),
}
_JOB: Final = {
    **_UNREADABLE_QUERY,
    **_UNAUTHENTICATED,
    **_STORE_DOWN,
    404: _refused(
        "No such job, or none that the caller may see", E.JOB_NOT_FOUND, "job not found or expired"
    ),
}

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = MappingProxyType({
    ("POST", "/v1/async/chat/completions"): Operation(
        "Create async chat completion",
        "Chat completions",
        {
            202: Reply("Accepted: the job is durable", schemas.JobEnvelope, examples.PENDING),
            200: Reply(
                "Under `Prefer: wait`: the job has ended already", schemas.JobEnvelope, examples.COMPLETED
            ),
            400: _refused(
                "Not acceptable; the error names the member or header",
                E.OUT_OF_RANGE,
                "'temperature' must be between 0 and 2, got 3",
                "temperature",
            ),
            **_UNAUTHENTICATED,
            **_BODY,
            409: _refused(
                "The job of this Idempotency-Key is gone",
                E.IDEMPOTENT_JOB_GONE,
                "the job of this Idempotency-Key no longer exists",
                "Idempotency-Key",
            ),
            422: _refused(
                "The Idempotency-Key was used with another request",
                E.IDEMPOTENCY_KEY_REUSED,
                "Idempotency-Key was used with a different request",
                "Idempotency-Key",
            ),
            503: _refused(
                "Try again later; nothing was stored unless the code is `commit_unknown`",
                E.STORE_BUSY,
                "the store is busy; nothing was stored",
            ),
        },
        description="Submits a chat completion for asynchronous execution. The answer is a receipt: it is sent "
        "after the job and its whole body are durable. Poll the matching GET with the id.",
        parameters=(*OPTIONS, *WAIT),
        body=ChatRequest,
        body_example=examples.CHAT,
    ),
    ("GET", "/v1/async/chat/completions/{id}"): Operation(
        "Get async chat completion",
        "Chat completions",
        {
            200: Reply("The job has ended: `completed` or `failed`", schemas.JobEnvelope, examples.COMPLETED),
            202: Reply("The job is unfinished", schemas.JobEnvelope, examples.PENDING),
            304: Reply("Unchanged since the answer with this ETag"),
            **_JOB,
        },
        parameters=(*WAIT, IF_NONE_MATCH),
    ),
    ("GET", "/v1/async/jobs"): Operation(
        "List jobs",
        "Jobs",
        {
            200: Reply("One page", schemas.JobList, examples.JOB_LIST),
            **_UNREADABLE_QUERY,
            **_UNAUTHENTICATED,
            **_STORE_DOWN,
        },
        description="A virtual key sees its own jobs, an admin all of them.",
        parameters=(
            Parameter(
                "status",
                "query",
                "Repeatable: any of",
                {"type": "array", "items": {"enum": ["pending", "processing", "completed", "failed"]}},
            ),
            Parameter("model", "query", "The `model` string of the request", STRING),
            Parameter("limit", "query", "1 to 200, default 50", {"type": "integer", "minimum": 1, "maximum": 200}),
            Parameter("order", "query", "By time of submission", {"enum": ["desc", "asc"]}),
            Parameter("after", "query", "`next_cursor` of the previous page", STRING),
        ),
    ),
    ("GET", "/v1/async/jobs/{id}"): Operation(
        "Get job",
        "Jobs",
        {
            200: Reply("The job, in every state", schemas.JobView, examples.JOB),
            304: Reply("Unchanged since the answer with this ETag"),
            **_JOB,
        },
        parameters=(
            Parameter("result", "query", "`false` leaves the result out", {"enum": ["true", "false"]}),
            *WAIT,
            IF_NONE_MATCH,
        ),
    ),
    ("POST", "/v1/async/jobs/{id}/cancel"): Operation(
        "Cancel job",
        "Jobs",
        {
            200: Reply("The cancelled job", schemas.JobView, examples.CANCELLED_JOB),
            **_JOB,
            409: _refused(
                "The job has ended otherwise", E.JOB_NOT_CANCELLABLE, "job has already ended"
            ),
        },
        description="Ends the job at once; a call under way is closed. Cancelling again changes nothing.",
    ),
    ("GET", "/api/governance/virtual-keys"): Operation(
        "List virtual keys",
        "Virtual keys",
        {
            200: Reply("One page, by name", schemas.KeyList, examples.KEY_LIST),
            **_UNREADABLE_QUERY,
            **_NOT_ADMIN,
            **_STORE_DOWN,
        },
        parameters=(
            Parameter("limit", "query", "1 to 200, default 50", {"type": "integer", "minimum": 1, "maximum": 200}),
            Parameter("offset", "query", "Keys to skip", {"type": "integer", "minimum": 0}),
            Parameter("search", "query", "Prefix of the name", STRING),
        ),
    ),
    ("POST", "/api/governance/virtual-keys"): Operation(
        "Create virtual key",
        "Virtual keys",
        {
            201: Reply(
                "Created; the value is shown here and never again",
                schemas.KeyAnswer,
                examples.changed_key(
                    "virtual key created; its value is not shown again",
                    value="sk-bf-q0Jc1nTz3Yw2oVb7uXh4eKd9sLp6gRm8fAi5kUyZk9Q",
                ),
            ),
            **_KEY_BODY,
        },
        body=KeyBody,
        body_example=examples.NEW_KEY,
    ),
    ("GET", "/api/governance/virtual-keys/{id}"): Operation(
        "Get virtual key", "Virtual keys", {200: Reply("The key", schemas.KeyAnswer, examples.KEY), **_ONE_KEY}
    ),
    ("PUT", "/api/governance/virtual-keys/{id}"): Operation(
        "Update virtual key",
        "Virtual keys",
        {
            200: Reply(
                "The changed key",
                schemas.KeyAnswer,
                examples.changed_key("virtual key updated", is_active=False),
            ),
            **_ONE_KEY,
            **_KEY_BODY,
        },
        description="Changes only the members that are sent.",
        body=KeyBody,
        body_example={"is_active": False},
    ),
    ("DELETE", "/api/governance/virtual-keys/{id}"): Operation(
        "Delete virtual key",
        "Virtual keys",
        {
            200: Reply(
                "The deleted key", schemas.KeyAnswer, examples.changed_key("virtual key deleted")
            ),
            **_ONE_KEY,
            **_FROM_CONFIG,
        },
        parameters=(
            Parameter(
                "cancel_jobs", "query", "`true` cancels its unfinished jobs", {"enum": ["true", "false"]}
            ),
        ),
    ),
    ("POST", "/api/governance/virtual-keys/{id}/rotate"): Operation(
        "Rotate virtual key",
        "Virtual keys",
        {
            200: Reply(
                "The key with its new value, shown once",
                schemas.KeyAnswer,
                examples.changed_key(
                    "virtual key rotated; its value is not shown again",
                    value="sk-bf-8fAi5kUyq0Jc1nTz3Yw2oVb7uXh4eKd9sLp6gRmZk9Q",
                ),
            ),
            **_ONE_KEY,
            **_FROM_CONFIG,
        },
    ),
    ("GET", "/health"): Operation(
        "Health",
        "Health",
        {
            200: Reply(
                "The store answers", schemas.Health, {"status": "ok", "components": {"db_pings": "ok"}}
            ),
            **_STORE_DOWN,
        },
    ),
    ("GET", "/healthz"): Operation(
        "Liveness",
        "Health",
        {200: Reply("The process can answer", schemas.StatusWord, {"status": "ok"})},
    ),
    ("GET", "/readyz"): Operation(
        "Readiness",
        "Health",
        {
            200: Reply("Ready for submits", schemas.StatusWord, {"status": "ready"}),
            503: _refused(
                "Draining, or no write is possible", E.SHUTTING_DOWN, "the server is shutting down"
            ),
        },
    ),
    ("GET", "/metrics"): Operation(
        "Prometheus metrics",
        "Health",
        {
            200: Reply("Text exposition format", example=examples.METRICS, media_type="text/plain"),
            **_NOT_ADMIN,
        },
    ),
    ("GET", "/openapi.json"): Operation(
        "This document",
        "Description",
        {200: Reply("OpenAPI 3.1", schemas.Description, {"openapi": "3.1.0", "info": {"title": "Tidegate"}})},
    ),
})  # fmt: skip
