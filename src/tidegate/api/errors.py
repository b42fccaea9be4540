"""Errors on the wire: one table from code to HTTP status, and the envelope around it (contract §8)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import Struct

from tidegate.api.answers import Answer, Header, compact, header, json_answer
from tidegate.domain.errors import ErrorCode, GatewayError, Unauthenticated
from tidegate.domain.failures import FailureCode
from tidegate.domain.inference import RequestType
from tidegate.domain.jobs import JobError, JobErrorCode

_REALM: Final = 'Bearer realm="tidegate"'
_DEFAULT_RETRY_AFTER: Final = 5


class Kind(Struct, frozen=True):
    """What an error code means on the wire."""

    status: int
    type: str
    gateway_is_cause: bool = False


_REQUEST: Final = "invalid_request_error"
_AUTH: Final = "authentication_error"
_PERMISSION: Final = "permission_error"
_NOT_FOUND: Final = "not_found_error"
_CONFLICT: Final = "conflict_error"
_OVERLOADED: Final = "overloaded_error"
_TIMEOUT: Final = "timeout_error"
_UPSTREAM: Final = "upstream_error"

E = ErrorCode
KINDS: Final[Mapping[ErrorCode, Kind]] = MappingProxyType(
    {
        E.ROUTE_NOT_FOUND: Kind(404, _NOT_FOUND),
        E.METHOD_NOT_ALLOWED: Kind(405, _REQUEST),
        E.REQUEST_TIMEOUT: Kind(408, _TIMEOUT),
        E.REQUEST_TOO_LARGE: Kind(413, _REQUEST),
        E.UNSUPPORTED_CONTENT_ENCODING: Kind(415, _REQUEST),
        E.INVALID_ENCODING: Kind(400, _REQUEST),
        E.HOST_NOT_ALLOWED: Kind(400, _REQUEST),
        E.ORIGIN_NOT_ALLOWED: Kind(403, _PERMISSION),
        E.VIRTUAL_KEY_REQUIRED: Kind(401, _AUTH),
        E.INVALID_CREDENTIALS: Kind(401, _AUTH),
        E.VIRTUAL_KEY_NOT_FOUND: Kind(401, _AUTH),
        E.VIRTUAL_KEY_EXPIRED: Kind(401, _AUTH),
        E.INVALID_TOKEN: Kind(401, _AUTH),
        E.TOKEN_EXPIRED: Kind(401, _AUTH),
        E.CONFLICTING_CREDENTIALS: Kind(401, _AUTH),
        E.VIRTUAL_KEY_BLOCKED: Kind(403, _PERMISSION),
        E.ADMIN_REQUIRED: Kind(403, _PERMISSION),
        E.INVALID_QUERY_PARAMETER: Kind(400, _REQUEST),
        E.STORAGE_UNAVAILABLE: Kind(503, _OVERLOADED, gateway_is_cause=True),
        E.STORE_BUSY: Kind(503, _OVERLOADED, gateway_is_cause=True),
        E.STORAGE_FULL: Kind(503, _OVERLOADED, gateway_is_cause=True),
        E.COMMIT_UNKNOWN: Kind(503, "api_error", gateway_is_cause=True),
        E.SHUTTING_DOWN: Kind(503, _OVERLOADED, gateway_is_cause=True),
        E.INTERNAL_ERROR: Kind(500, "api_error", gateway_is_cause=True),
        E.INVALID_JSON: Kind(400, _REQUEST),
        E.INVALID_TYPE: Kind(400, _REQUEST),
        E.OUT_OF_RANGE: Kind(400, _REQUEST),
        E.INVALID_VALUE: Kind(400, _REQUEST),
        E.MISSING_REQUIRED_PARAMETER: Kind(400, _REQUEST),
        E.TOO_MANY_ITEMS: Kind(400, _REQUEST),
        E.TOO_LARGE: Kind(400, _REQUEST),
        E.CONFLICTING_PARAMETERS: Kind(400, _REQUEST),
        E.STREAM_NOT_SUPPORTED: Kind(400, _REQUEST),
        E.PROVIDER_UNRESOLVED: Kind(400, _REQUEST),
        E.PROVIDER_NOT_CONFIGURED: Kind(400, _REQUEST),
        E.UNSUPPORTED_OPERATION: Kind(400, _REQUEST),
        E.MODEL_NOT_FOUND: Kind(400, _REQUEST),
        E.NO_ELIGIBLE_KEYS: Kind(503, _OVERLOADED),
        E.INVALID_HEADER: Kind(400, _REQUEST),
        E.MISSING_REQUIRED_HEADERS: Kind(400, _REQUEST),
        E.INVALID_CURSOR: Kind(400, _REQUEST),
        E.UNKNOWN_FIELD: Kind(400, _REQUEST),
        E.PROVIDER_BLOCKED: Kind(403, _PERMISSION),
        E.MODEL_BLOCKED: Kind(403, _PERMISSION),
        E.JOB_NOT_FOUND: Kind(404, _NOT_FOUND),
        E.NOT_FOUND: Kind(404, _NOT_FOUND),
        E.JOB_NOT_CANCELLABLE: Kind(409, _CONFLICT),
        E.IDEMPOTENT_JOB_GONE: Kind(409, _CONFLICT),
        E.ALREADY_EXISTS: Kind(409, _CONFLICT),
        E.MANAGED_BY_CONFIG: Kind(409, _CONFLICT),
        E.IDEMPOTENCY_KEY_REUSED: Kind(422, _REQUEST),
        E.QUEUE_FULL: Kind(429, "rate_limit_error"),
    }
)

# Of job errors: type and cause. The status stands in the job itself (contract §8.4).
F = FailureCode
J = JobErrorCode
_JOB_KINDS: Final[Mapping[str, tuple[str, bool]]] = MappingProxyType(
    {
        F.UPSTREAM_REJECTED: (_REQUEST, False),
        F.CONTEXT_LENGTH_EXCEEDED: (_REQUEST, False),
        F.CONTENT_POLICY_VIOLATION: (_REQUEST, False),
        F.UNSUPPORTED_CONTENT: (_REQUEST, False),
        F.MODEL_NOT_FOUND: (_NOT_FOUND, False),
        F.CREDENTIALS_EXHAUSTED: (_UPSTREAM, False),
        F.RATE_LIMITED: ("rate_limit_error", False),
        F.BUSY: (_UPSTREAM, False),
        F.SERVER_ERROR: (_UPSTREAM, False),
        F.UNSUPPORTED_OPERATION: (_REQUEST, False),
        F.UNEXPECTED_STATUS: (_UPSTREAM, False),
        F.CONNECTION_FAILED: (_UPSTREAM, False),
        F.TIMEOUT: (_TIMEOUT, True),
        F.INVALID_RESPONSE: (_UPSTREAM, True),
        F.RESPONSE_TOO_LARGE: (_UPSTREAM, True),
        F.NO_ELIGIBLE_KEYS: (_OVERLOADED, False),
        F.PROVIDER_BLOCKED: (_PERMISSION, False),
        F.MODEL_BLOCKED: (_PERMISSION, False),
        E.VIRTUAL_KEY_NOT_FOUND: (_AUTH, False),
        E.VIRTUAL_KEY_EXPIRED: (_AUTH, False),
        E.VIRTUAL_KEY_BLOCKED: (_PERMISSION, False),
        J.REQUEST_CANCELLED: ("cancelled_error", True),
        J.QUEUE_TIMEOUT: (_TIMEOUT, True),
        J.DEADLINE_EXCEEDED: (_TIMEOUT, True),
        J.WORKER_LOST: ("api_error", True),
        J.INTERNAL_ERROR: ("api_error", True),
    }
)


def envelope(
    *,
    code: str,
    message: str,
    status: int,
    kind: str,
    gateway_is_cause: bool,
    event_id: str,
    extra: Mapping[str, Any],
    param: str | None = None,
) -> dict[str, Any]:
    """The error envelope (contract §8.1)."""
    return {
        "event_id": event_id,
        "type": code,
        "is_bifrost_error": gateway_is_cause,
        "status_code": status,
        "error": compact({
            "type": kind, "code": code, "message": message, "param": param, "event_id": event_id,
        }),
        "extra_fields": extra,
    }  # fmt: skip


def job_error_envelope(
    error: JobError, *, event_id: str, model: str, request_type: RequestType
) -> dict[str, Any]:
    """A job's error: ``event_id`` is the request id of its submit, the same in every poll."""
    kind, gateway_is_cause = _JOB_KINDS[error.code]
    return envelope(
        code=error.code,
        message=error.message,
        status=error.status_code,
        kind=kind,
        gateway_is_cause=gateway_is_cause,
        event_id=event_id,
        extra=compact({
            "provider": error.provider, "model_requested": model, "request_type": request_type,
        }),
    )  # fmt: skip


def error_answer(
    error: GatewayError,
    *,
    request_id: str,
    request_type: RequestType | None,
    headers: tuple[Header, ...] = (),
) -> Answer:
    kind = KINDS[error.code]
    body = envelope(
        code=error.code,
        message=error.message,
        status=kind.status,
        kind=kind.type,
        gateway_is_cause=kind.gateway_is_cause,
        event_id=request_id,
        param=error.param,
        extra=compact({
            "provider": error.provider,
            "model_requested": error.model_requested,
            "request_type": request_type,
        }),
    )  # fmt: skip
    return json_answer(kind.status, body, *headers, *_headers_of(error, kind))


def _headers_of(error: GatewayError, kind: Kind) -> list[Header]:
    found: list[Header] = []
    if isinstance(error, Unauthenticated):
        challenge = f'{_REALM}, error="invalid_token"' if error.credential_was_sent else _REALM
        found.append(header("www-authenticate", challenge))
    if kind.status in {429, 503}:
        seconds = _DEFAULT_RETRY_AFTER
        if error.retry_after is not None:
            seconds = max(1, round(error.retry_after.total_seconds()))
        found.append(header("retry-after", seconds))
    if kind.status in {408, 413}:
        found.append(header("connection", "close"))  # the rest of the body is not read
    return found


def internal_error(request_id: str) -> Answer:
    return error_answer(
        GatewayError(ErrorCode.INTERNAL_ERROR, "internal error"), request_id=request_id, request_type=None
    )


def encode_job_error(error: JobError, *, event_id: str, model: str, request_type: RequestType) -> bytes:
    return msgspec.json.encode(
        job_error_envelope(error, event_id=event_id, model=model, request_type=request_type)
    )
