"""Examples of answers for the OpenAPI document: one story, told in the shapes of the contract."""

from typing import Any, Final

from tidegate.api.errors import KINDS, envelope
from tidegate.domain.errors import ErrorCode

_JOB_ID: Final = "019cadd4-663b-7c7e-b323-ca2bfd566729"
_REQUEST_ID: Final = "019cadd4-6624-7407-9367-3ac85c84bdcd"
_MODEL: Final = "openai/gpt-4o-mini"
_CREATED: Final = "2026-03-02T09:15:04.123Z"
_STARTED: Final = "2026-03-02T09:15:04.160Z"
_COMPLETED: Final = "2026-03-02T09:15:09.777Z"
_EXPIRES: Final = "2026-03-02T10:15:09.777Z"
_USAGE: Final = {"prompt_tokens": 14, "completion_tokens": 6, "total_tokens": 20}

CHAT: Final = {
    "model": _MODEL,
    "messages": [{"role": "user", "content": "When is high water at Dover today?"}],
    "fallbacks": ["groq/llama-3.3-70b-versatile"],
    "temperature": 0.2,
}
PENDING: Final = {"id": _JOB_ID, "status": "pending", "created_at": _CREATED}
_RESULT: Final = {
    "id": "chatcmpl-B7x2",
    "object": "chat.completion",
    "created": 1772442909,
    "model": "gpt-4o-mini",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "High water at noon."},
        }
    ],
    "usage": _USAGE,
    "extra_fields": {
        "request_type": "chat_completion",
        "provider": "openai",
        "model_requested": _MODEL,
        "original_model_requested": _MODEL,
        "resolved_model_used": "gpt-4o-mini",
        "latency": 5412,
    },
}
COMPLETED: Final = {
    "id": _JOB_ID,
    "status": "completed",
    "expires_at": _EXPIRES,
    "created_at": _CREATED,
    "completed_at": _COMPLETED,
    "status_code": 200,
    "result": _RESULT,
}

_JOB: Final = {
    "id": _JOB_ID,
    "object": "job",
    "request_type": "chat_completion",
    "status": "completed",
    "outcome": "succeeded",
    "status_code": 200,
    "created_at": _CREATED,
    "started_at": _STARTED,
    "completed_at": _COMPLETED,
    "expires_at": _EXPIRES,
    "deadline_at": "2026-03-02T10:15:04.123Z",
    "model": _MODEL,
    "candidates": [_MODEL, "groq/llama-3.3-70b-versatile"],
    "attempt": 1,
    "losses": 0,
    "virtual_key": {"id": "019ba6eb-5800-7c7d-abf2-33227bffac0d", "name": "search-team"},
    "request_id": _REQUEST_ID,
}
_LINKS: Final = {"self": f"/v1/async/jobs/{_JOB_ID}", "poll": f"/v1/async/chat/completions/{_JOB_ID}"}
_OPTIONS: Final = {
    "result_ttl": 3600,
    "timeout": 3600,
    "max_attempts": 3,
    "worker_lost": "retry",
    "priority": 3,
}
JOB: Final = _JOB | {
    "result": _RESULT,
    "options": _OPTIONS,
    "attempts": [
        {
            "number": 1,
            "started_at": _STARTED,
            "ended_at": _COMPLETED,
            "end": "succeeded",
            "calls": [
                {
                    "candidate": 0,
                    "provider": "openai",
                    "model": "gpt-4o-mini",
                    "key": "main",
                    "started_at": "2026-03-02T09:15:04.164Z",
                    "ended_at": "2026-03-02T09:15:09.576Z",
                    "status_code": 200,
                    "usage": _USAGE,
                    "billing": "known",
                }
            ],
        }
    ],
    "usage": _USAGE,
    "timings": {"queue_ms": 37, "run_ms": 5617, "upstream_ms": 5412},
    "links": _LINKS,
}
JOB_LIST: Final = {
    "object": "list",
    "data": [{name: JOB[name] for name in (*_JOB, "usage", "timings", "links")}],
    "has_more": False,
}
_CANCELLED: Final = {
    "event_id": _REQUEST_ID,
    "type": "request_cancelled",
    "is_bifrost_error": True,
    "status_code": 499,
    "error": {
        "event_id": _REQUEST_ID,
        "type": "cancelled_error",
        "code": "request_cancelled",
        "message": "job was cancelled",
    },
    "extra_fields": {"model_requested": _MODEL, "request_type": "chat_completion"},
}
CANCELLED_JOB: Final = {name: value for name, value in _JOB.items() if name != "started_at"} | {
    "status": "failed",
    "outcome": "cancelled",
    "status_code": 499,
    "attempt": 0,
    "error": _CANCELLED,
    "options": _OPTIONS,
    "attempts": [],
    "timings": {"queue_ms": 5654, "run_ms": 0, "upstream_ms": 0},
    "links": _LINKS,
}

NEW_KEY: Final = {
    "name": "search-team",
    "provider_configs": [{"provider": "openai", "allowed_models": ["*"]}],
}
_KEY: Final = {
    "id": "019ba6eb-5800-7c7d-abf2-33227bffac0d",
    "name": "search-team",
    "description": "",
    "is_active": True,
    "value_hint": "sk-bf-…Zk9Q",
    "provider_configs": [{"provider": "openai", "allowed_models": ["*"]}],
    "async": {"weight": 1.0, "priority_ceiling": 1},
    "created_at": _CREATED,
    "updated_at": _CREATED,
}
KEY: Final = {"virtual_key": _KEY}
KEY_LIST: Final = {"virtual_keys": [_KEY], "count": 1, "total_count": 1, "limit": 50, "offset": 0}
METRICS: Final = "# TYPE tidegate_jobs_pending gauge\n"


def changed_key(message: str, **members: Any) -> dict[str, Any]:
    return {"message": message, "virtual_key": _KEY | members}


def refusal(code: ErrorCode, message: str, param: str | None = None) -> dict[str, Any]:
    """The error envelope as the table of codes has it."""
    kind = KINDS[code]
    return envelope(
        code=code,
        message=message,
        status=kind.status,
        kind=kind.type,
        gateway_is_cause=kind.gateway_is_cause,
        event_id=_REQUEST_ID,
        extra={},
        param=param,
    )
