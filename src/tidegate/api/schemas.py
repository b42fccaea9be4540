"""Shapes of our answers, for the OpenAPI document. Handlers write the same by hand, tests compare the two."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from tidegate.domain.inference import RequestType
from tidegate.domain.jobs import AttemptEnd, Outcome, Status

Timestamp = Annotated[
    str, Meta(description="RFC 3339, UTC, three fractional digits", extra_json_schema={"format": "date-time"})
]
JobIdText = Annotated[str, Meta(description="UUIDv7", extra_json_schema={"format": "uuid"})]


class ErrorDetail(Struct):
    type: str
    code: str
    message: str
    event_id: str
    param: str | UnsetType = UNSET


class ExtraErrorFields(Struct):
    provider: str | UnsetType = UNSET
    model_requested: str | UnsetType = UNSET
    request_type: RequestType | UnsetType = UNSET


class ErrorEnvelope(Struct):
    """Every refusal, and the error of a failed job."""

    event_id: str
    type: str
    is_bifrost_error: bool
    status_code: int
    error: ErrorDetail
    extra_fields: ExtraErrorFields


class JobEnvelope(Struct):
    """A job, as submit and poll show it."""

    id: JobIdText
    status: Status
    created_at: Timestamp
    expires_at: Timestamp | UnsetType = UNSET
    completed_at: Timestamp | UnsetType = UNSET
    status_code: int | UnsetType = UNSET
    result: dict[str, Any] | UnsetType = UNSET
    error: ErrorEnvelope | UnsetType = UNSET


class UsageView(Struct):
    prompt_tokens: int | UnsetType = UNSET
    completion_tokens: int | UnsetType = UNSET
    total_tokens: int | UnsetType = UNSET


class OptionsView(Struct):
    result_ttl: int
    timeout: int
    max_attempts: int
    worker_lost: str
    priority: int


class QueueView(Struct):
    held_by: Literal["schedule", "retry", "rate_limit", "pause", "provider"] | UnsetType = UNSET


class CallView(Struct):
    candidate: int
    provider: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    started_at: Timestamp | UnsetType = UNSET
    ended_at: Timestamp | UnsetType = UNSET
    status_code: int | UnsetType = UNSET
    error_code: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    retry_after: int | UnsetType = UNSET
    usage: UsageView | UnsetType = UNSET
    billing: Literal["none", "known", "unknown"] | UnsetType = UNSET
    simulated: bool | UnsetType = UNSET
    upstream: dict[str, Any] | UnsetType = UNSET


class AttemptView(Struct):
    number: int
    started_at: Timestamp
    calls: list[CallView]
    ended_at: Timestamp | UnsetType = UNSET
    end: AttemptEnd | UnsetType = UNSET


class TimingsView(Struct):
    queue_ms: int
    run_ms: int
    upstream_ms: int


class KeyReference(Struct):
    id: str
    name: str | UnsetType = UNSET


class Links(Struct, rename={"self_": "self"}):
    self_: str
    poll: str
    cancel: str | UnsetType = UNSET


class JobEntry(Struct):
    """A job in a list."""

    id: JobIdText
    object: Literal["job"]
    request_type: RequestType
    status: Status
    created_at: Timestamp
    deadline_at: Timestamp
    model: str
    candidates: list[str]
    attempt: int
    losses: int
    request_id: str
    timings: TimingsView
    links: Links
    outcome: Outcome | UnsetType = UNSET
    status_code: int | UnsetType = UNSET
    started_at: Timestamp | UnsetType = UNSET
    completed_at: Timestamp | UnsetType = UNSET
    expires_at: Timestamp | UnsetType = UNSET
    next_run_at: Timestamp | UnsetType = UNSET
    virtual_key: KeyReference | UnsetType = UNSET
    actor: str | UnsetType = UNSET
    usage: UsageView | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    error_code: str | UnsetType = UNSET


class JobView(Struct):
    """Everything about one job."""

    id: JobIdText
    object: Literal["job"]
    request_type: RequestType
    status: Status
    created_at: Timestamp
    deadline_at: Timestamp
    model: str
    candidates: list[str]
    attempt: int
    losses: int
    request_id: str
    options: OptionsView
    attempts: list[AttemptView]
    timings: TimingsView
    links: Links
    outcome: Outcome | UnsetType = UNSET
    status_code: int | UnsetType = UNSET
    started_at: Timestamp | UnsetType = UNSET
    completed_at: Timestamp | UnsetType = UNSET
    expires_at: Timestamp | UnsetType = UNSET
    next_run_at: Timestamp | UnsetType = UNSET
    virtual_key: KeyReference | UnsetType = UNSET
    actor: str | UnsetType = UNSET
    queue: QueueView | UnsetType = UNSET
    usage: UsageView | UnsetType = UNSET
    result: dict[str, Any] | UnsetType = UNSET
    error: ErrorEnvelope | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class JobList(Struct):
    object: Literal["list"]
    data: list[JobEntry]
    has_more: bool
    next_cursor: str | UnsetType = UNSET


class GrantView(Struct):
    provider: str
    allowed_models: list[str]
    weight: float | UnsetType = UNSET
    key_ids: list[str] | UnsetType = UNSET


class KeyLimitsView(Struct):
    weight: float
    priority_ceiling: int
    result_ttl_max: int | UnsetType = UNSET


class KeyView(Struct, rename={"async_": "async"}):
    """A virtual key. ``value`` is shown by create and rotate only."""

    id: str
    name: str
    description: str
    is_active: bool
    value_hint: str
    async_: KeyLimitsView
    created_at: Timestamp
    updated_at: Timestamp
    expires_at: Timestamp | UnsetType = UNSET
    provider_configs: list[GrantView] | UnsetType = UNSET
    value: str | UnsetType = UNSET


class KeyAnswer(Struct):
    virtual_key: KeyView
    message: str | UnsetType = UNSET


class KeyList(Struct):
    virtual_keys: list[KeyView]
    count: int
    total_count: int
    limit: int
    offset: int


class Description(Struct):
    """An OpenAPI document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any] | UnsetType = UNSET
    components: dict[str, Any] | UnsetType = UNSET


class StatusWord(Struct):
    status: str
    warnings: list[str] | UnsetType = UNSET


class Components(Struct):
    db_pings: str


class Health(Struct):
    """Bifrost's body, so that existing probes work."""

    status: str
    components: Components
