"""What a record of an Idempotency-Key says to whoever repeats it, whichever database holds the record."""

from typing import Final

from tidegate.domain.errors import Conflict, ErrorCode, InvalidRequest
from tidegate.domain.jobs import Idempotency

_HEADER: Final = "Idempotency-Key"


def require_same_request(idempotency: Idempotency, fingerprint: bytes) -> None:
    """Raises ``InvalidRequest`` for another request under the same key."""
    if fingerprint != idempotency.fingerprint:
        raise InvalidRequest(
            ErrorCode.IDEMPOTENCY_KEY_REUSED,
            "Idempotency-Key was used with a different request",
            param=_HEADER,
        )


def job_is_gone() -> Conflict:
    """Running it again would cost money nobody meant to spend."""
    return Conflict(
        ErrorCode.IDEMPOTENT_JOB_GONE, "the job of this Idempotency-Key no longer exists", param=_HEADER
    )
