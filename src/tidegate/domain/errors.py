"""Why *we* refuse or break: exceptions with a stable code. What a vendor did to us is a failure, not an error."""

from datetime import timedelta
from enum import StrEnum


class ErrorCode(StrEnum):
    """Stable slugs of ``error.code`` (contract §8.2, §8.3); never renamed within a major version."""

    ROUTE_NOT_FOUND = "route_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    REQUEST_TOO_LARGE = "request_too_large"
    UNSUPPORTED_CONTENT_ENCODING = "unsupported_content_encoding"
    INVALID_ENCODING = "invalid_encoding"
    HOST_NOT_ALLOWED = "host_not_allowed"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    VIRTUAL_KEY_REQUIRED = "virtual_key_required"
    INVALID_CREDENTIALS = "invalid_credentials"
    VIRTUAL_KEY_NOT_FOUND = "virtual_key_not_found"
    VIRTUAL_KEY_EXPIRED = "virtual_key_expired"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 – a slug, not a secret
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 – a slug, not a secret
    CONFLICTING_CREDENTIALS = "conflicting_credentials"
    VIRTUAL_KEY_BLOCKED = "virtual_key_blocked"
    ADMIN_REQUIRED = "admin_required"
    INVALID_QUERY_PARAMETER = "invalid_query_parameter"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    STORE_BUSY = "store_busy"
    STORAGE_FULL = "storage_full"
    COMMIT_UNKNOWN = "commit_unknown"
    SHUTTING_DOWN = "shutting_down"
    INTERNAL_ERROR = "internal_error"

    INVALID_JSON = "invalid_json"
    INVALID_TYPE = "invalid_type"
    OUT_OF_RANGE = "out_of_range"
    INVALID_VALUE = "invalid_value"
    MISSING_REQUIRED_PARAMETER = "missing_required_parameter"
    TOO_MANY_ITEMS = "too_many_items"
    TOO_LARGE = "too_large"
    CONFLICTING_PARAMETERS = "conflicting_parameters"
    STREAM_NOT_SUPPORTED = "stream_not_supported"
    PROVIDER_UNRESOLVED = "provider_unresolved"
    PROVIDER_NOT_CONFIGURED = "provider_not_configured"
    UNSUPPORTED_OPERATION = "unsupported_operation"
    MODEL_NOT_FOUND = "model_not_found"
    NO_ELIGIBLE_KEYS = "no_eligible_keys"
    INVALID_HEADER = "invalid_header"
    MISSING_REQUIRED_HEADERS = "missing_required_headers"
    INVALID_CURSOR = "invalid_cursor"
    UNKNOWN_FIELD = "unknown_field"
    PROVIDER_BLOCKED = "provider_blocked"
    MODEL_BLOCKED = "model_blocked"
    JOB_NOT_FOUND = "job_not_found"
    NOT_FOUND = "not_found"
    JOB_NOT_CANCELLABLE = "job_not_cancellable"
    IDEMPOTENT_JOB_GONE = "idempotent_job_gone"
    ALREADY_EXISTS = "already_exists"
    MANAGED_BY_CONFIG = "managed_by_config"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    QUEUE_FULL = "queue_full"


class GatewayError(Exception):
    """Base of everything the gateway refuses or fails at.

    ``param`` is the JSON path, header or query parameter at fault; ``retry_after`` a hint for the caller.
    ``provider`` and ``model_requested`` are set where the request got far enough to know them.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        param: str | None = None,
        retry_after: timedelta | None = None,
        provider: str | None = None,
        model_requested: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.provider = provider
        self.model_requested = model_requested


class InvalidRequest(GatewayError):
    """The caller sent something that cannot be accepted as it is."""


class Unauthenticated(GatewayError):
    """No credential, or one that does not hold. ``credential_was_sent`` shapes ``WWW-Authenticate``."""

    def __init__(self, code: ErrorCode, message: str, *, credential_was_sent: bool) -> None:
        super().__init__(code, message)
        self.credential_was_sent = credential_was_sent


class Forbidden(GatewayError):
    """The caller is known and may not do this."""


class NotFound(GatewayError):
    """No such thing, or none that this caller may see: the two look alike."""


class Conflict(GatewayError):
    """The thing is in a state that does not allow this."""


class Overloaded(GatewayError):
    """Try again later; nothing was done."""


class StoreError(GatewayError):
    """The store could not do its part."""


class StorageUnavailable(StoreError):
    def __init__(self) -> None:
        super().__init__(ErrorCode.STORAGE_UNAVAILABLE, "the store is not available; nothing was stored")


class StoreBusy(StoreError):
    """Trying again soon is worth while."""

    def __init__(
        self, code: ErrorCode = ErrorCode.STORE_BUSY, message: str = "the store is busy; nothing was stored"
    ) -> None:
        super().__init__(code, message)


class StoreAway(StoreBusy):
    """The database cannot be reached for now; it, or another one in its place, may come back."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.STORAGE_UNAVAILABLE, "the store is not available; nothing was stored")


class StorageFull(StoreError):
    def __init__(self) -> None:
        super().__init__(ErrorCode.STORAGE_FULL, "the store is full; nothing was stored")


class CommitUnknown(StoreError):
    def __init__(self) -> None:
        super().__init__(
            ErrorCode.COMMIT_UNKNOWN,
            "it is not known whether the job was stored; repeat with the same Idempotency-Key",
        )


def job_not_found() -> NotFound:
    return NotFound(ErrorCode.JOB_NOT_FOUND, "job not found or expired")


def too_many(name: str, limit: int, found: int) -> InvalidRequest:
    return InvalidRequest(
        ErrorCode.TOO_MANY_ITEMS, f"'{name}' takes at most {limit} entries, got {found}", param=name
    )
