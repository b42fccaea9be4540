"""What vendors do to us, classified. All knowledge about what a failure means for retry stands in this file.

Sources: contract §8.4 (codes, statuses) and §9.2 (classes).
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from tidegate.domain.inference import UpstreamDetail


class FailureClass(StrEnum):
    """What a failure means for the rest of the attempt."""

    KEY_REFUSED = "key_refused"
    """The key is dead for the rest of the job; the next key is tried at once."""
    RATE_LIMITED = "rate_limited"
    """Transient; the next eligible key is tried after a pause."""
    TRANSIENT = "transient"
    """The same candidate may answer after a pause."""
    PERMANENT = "permanent"
    """This candidate will not answer; the next one may."""
    CALLERS_FAULT = "callers_fault"
    """The request itself is refused: no other candidate is asked."""

    @property
    def may_heal(self) -> bool:
        return self in {FailureClass.RATE_LIMITED, FailureClass.TRANSIENT}


class FailureCode(StrEnum):
    """Stable slugs for ``error.code`` of a job and ``error_code`` of a call."""

    UPSTREAM_REJECTED = "upstream_rejected"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    CONTENT_POLICY_VIOLATION = "content_policy_violation"
    UNSUPPORTED_CONTENT = "unsupported_content"
    MODEL_NOT_FOUND = "model_not_found"
    CREDENTIALS_EXHAUSTED = "upstream_credentials_exhausted"
    RATE_LIMITED = "upstream_rate_limited"
    BUSY = "upstream_busy"
    SERVER_ERROR = "upstream_server_error"
    UNSUPPORTED_OPERATION = "unsupported_operation"
    UNEXPECTED_STATUS = "upstream_unexpected_status"
    CONNECTION_FAILED = "upstream_connection_failed"
    TIMEOUT = "upstream_timeout"
    INVALID_RESPONSE = "upstream_invalid_response"
    RESPONSE_TOO_LARGE = "response_too_large"
    NO_ELIGIBLE_KEYS = "no_eligible_keys"
    PROVIDER_BLOCKED = "provider_blocked"
    MODEL_BLOCKED = "model_blocked"
    KEY_REFUSED = "upstream_key_refused"
    PROVIDER_BUSY = "provider_busy"
    PROVIDER_COOLING = "provider_cooling"
    DUPLICATE_CANDIDATE = "duplicate_candidate"


class _Rule(Struct, frozen=True):
    failure_class: FailureClass
    job_status: int | None
    """Status of the job that fails with it; ``None`` repeats the vendor's status."""


_C = FailureClass
_RULES: Final[Mapping[FailureCode, _Rule]] = MappingProxyType(
    {
        FailureCode.UPSTREAM_REJECTED: _Rule(_C.CALLERS_FAULT, None),
        FailureCode.CONTEXT_LENGTH_EXCEEDED: _Rule(_C.CALLERS_FAULT, None),
        FailureCode.CONTENT_POLICY_VIOLATION: _Rule(_C.CALLERS_FAULT, None),
        FailureCode.UNSUPPORTED_CONTENT: _Rule(_C.PERMANENT, 400),
        FailureCode.MODEL_NOT_FOUND: _Rule(_C.PERMANENT, 404),
        FailureCode.CREDENTIALS_EXHAUSTED: _Rule(_C.PERMANENT, 502),
        FailureCode.RATE_LIMITED: _Rule(_C.RATE_LIMITED, 429),
        FailureCode.BUSY: _Rule(_C.TRANSIENT, None),
        FailureCode.SERVER_ERROR: _Rule(_C.TRANSIENT, None),
        FailureCode.UNSUPPORTED_OPERATION: _Rule(_C.PERMANENT, 501),
        FailureCode.UNEXPECTED_STATUS: _Rule(_C.PERMANENT, 502),
        FailureCode.CONNECTION_FAILED: _Rule(_C.TRANSIENT, 502),
        FailureCode.TIMEOUT: _Rule(_C.TRANSIENT, 504),
        FailureCode.INVALID_RESPONSE: _Rule(_C.PERMANENT, 502),
        FailureCode.RESPONSE_TOO_LARGE: _Rule(_C.PERMANENT, 502),
        FailureCode.NO_ELIGIBLE_KEYS: _Rule(_C.PERMANENT, 503),
        FailureCode.PROVIDER_BLOCKED: _Rule(_C.PERMANENT, 403),
        FailureCode.MODEL_BLOCKED: _Rule(_C.PERMANENT, 403),
        FailureCode.KEY_REFUSED: _Rule(_C.KEY_REFUSED, 502),
        FailureCode.PROVIDER_BUSY: _Rule(_C.TRANSIENT, 503),
        FailureCode.PROVIDER_COOLING: _Rule(_C.TRANSIENT, 503),
        FailureCode.DUPLICATE_CANDIDATE: _Rule(_C.PERMANENT, 400),
    }
)


class Failure(Struct, frozen=True):
    """Why a call failed: a value to decide by, to store and to show."""

    code: FailureCode
    message: str
    upstream_status: int | None = None
    retry_after: timedelta | None = None
    was_sent: bool = False
    """Part of the request may have reached the vendor and no complete reply came back: it may have billed."""
    upstream: UpstreamDetail | None = None

    @property
    def failure_class(self) -> FailureClass:
        return _RULES[self.code].failure_class

    @property
    def may_have_billed(self) -> bool:
        """The vendor may have done the work without our hearing what it costs."""
        return self.was_sent or self.code in {FailureCode.INVALID_RESPONSE, FailureCode.RESPONSE_TOO_LARGE}

    @property
    def job_status(self) -> int:
        status = _RULES[self.code].job_status
        return status if status is not None else (self.upstream_status or 502)


_REJECTED: Final = frozenset({400, 404, 413, 422})
_BUSY: Final = frozenset({409, 425})
_KEY_REFUSED: Final = frozenset({401, 402, 403})


def code_of_status(status: int) -> FailureCode:
    """The class of an HTTP status alone; a dialect that recognises the body may know better.

    A 404 is about the model unless the body names something else: the model is all the caller chose in the
    vendor's path.
    """
    if status in _KEY_REFUSED:
        return FailureCode.KEY_REFUSED
    if status == 404:
        return FailureCode.MODEL_NOT_FOUND
    if status in _REJECTED:
        return FailureCode.UPSTREAM_REJECTED
    if status == 408:
        return FailureCode.TIMEOUT
    if status in _BUSY:
        return FailureCode.BUSY
    if status == 429:
        return FailureCode.RATE_LIMITED
    if status == 501:
        return FailureCode.UNSUPPORTED_OPERATION
    if status >= 500:
        return FailureCode.SERVER_ERROR
    return FailureCode.UNEXPECTED_STATUS
