"""What every refusal has in common: one envelope, checked the same way everywhere (contract §8.1)."""

from typing import Any

import httpx2

# The tables of contract §8.2 and §8.3: code → status, error.type. Everything from 500 on is the gateway's
# fault but for missing provider keys, which are the operator's choice.
TABLE = {
    "route_not_found": (404, "not_found_error"),
    "method_not_allowed": (405, "invalid_request_error"),
    "request_timeout": (408, "timeout_error"),
    "request_too_large": (413, "invalid_request_error"),
    "unsupported_content_encoding": (415, "invalid_request_error"),
    "invalid_encoding": (400, "invalid_request_error"),
    "host_not_allowed": (400, "invalid_request_error"),
    "origin_not_allowed": (403, "permission_error"),
    "virtual_key_required": (401, "authentication_error"),
    "invalid_credentials": (401, "authentication_error"),
    "virtual_key_not_found": (401, "authentication_error"),
    "virtual_key_expired": (401, "authentication_error"),
    "invalid_token": (401, "authentication_error"),
    "token_expired": (401, "authentication_error"),
    "conflicting_credentials": (401, "authentication_error"),
    "virtual_key_blocked": (403, "permission_error"),
    "admin_required": (403, "permission_error"),
    "invalid_query_parameter": (400, "invalid_request_error"),
    "storage_unavailable": (503, "overloaded_error"),
    "store_busy": (503, "overloaded_error"),
    "storage_full": (503, "overloaded_error"),
    "commit_unknown": (503, "api_error"),
    "shutting_down": (503, "overloaded_error"),
    "internal_error": (500, "api_error"),
    "invalid_json": (400, "invalid_request_error"),
    "invalid_type": (400, "invalid_request_error"),
    "out_of_range": (400, "invalid_request_error"),
    "invalid_value": (400, "invalid_request_error"),
    "missing_required_parameter": (400, "invalid_request_error"),
    "too_many_items": (400, "invalid_request_error"),
    "too_large": (400, "invalid_request_error"),
    "conflicting_parameters": (400, "invalid_request_error"),
    "stream_not_supported": (400, "invalid_request_error"),
    "provider_unresolved": (400, "invalid_request_error"),
    "provider_not_configured": (400, "invalid_request_error"),
    "unsupported_operation": (400, "invalid_request_error"),
    "model_not_found": (400, "invalid_request_error"),
    "no_eligible_keys": (503, "overloaded_error"),
    "invalid_header": (400, "invalid_request_error"),
    "missing_required_headers": (400, "invalid_request_error"),
    "invalid_cursor": (400, "invalid_request_error"),
    "unknown_field": (400, "invalid_request_error"),
    "provider_blocked": (403, "permission_error"),
    "model_blocked": (403, "permission_error"),
    "job_not_found": (404, "not_found_error"),
    "not_found": (404, "not_found_error"),
    "job_not_cancellable": (409, "conflict_error"),
    "idempotent_job_gone": (409, "conflict_error"),
    "already_exists": (409, "conflict_error"),
    "managed_by_config": (409, "conflict_error"),
    "idempotency_key_reused": (422, "invalid_request_error"),
    "queue_full": (429, "rate_limit_error"),
}
EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "frame-ancestors 'none'",
}


def assert_refused(
    response: httpx2.Response,
    code: str,
    message: str | None = None,
    *,
    param: str | None = None,
    extra: dict[str, Any] | None = None,
) -> None:
    """The whole answer: status, headers and every member of the envelope. ``extra`` where it matters."""
    status, kind = TABLE[code]
    assert response.status_code == status, response.text
    body = response.json()
    detail = body["error"]
    assert set(body) == {"event_id", "type", "is_bifrost_error", "status_code", "error", "extra_fields"}
    assert set(detail) - {"param"} == {"event_id", "type", "code", "message"}
    assert (detail["code"], detail["type"]) == (code, kind), response.text
    assert (body["type"], body["status_code"]) == (code, status)
    assert body["is_bifrost_error"] is (status >= 500 and code != "no_eligible_keys")
    assert body["event_id"] == detail["event_id"] == response.headers["x-request-id"]
    assert message is None or detail["message"] == message, detail["message"]
    assert param is None or detail.get("param") == param
    assert extra is None or body["extra_fields"] == extra
    assert set(body["extra_fields"]) <= {"provider", "model_requested", "request_type"}
    assert_common_headers(response)
    _assert_headers_of_status(response, status)


def assert_common_headers(response: httpx2.Response) -> None:
    assert response.headers.items() >= EVERYWHERE.items()
    assert 1 <= len(response.headers["x-request-id"]) <= 128
    assert "server" not in response.headers


def _assert_headers_of_status(response: httpx2.Response, status: int) -> None:
    assert response.headers["content-type"] == "application/json"
    challenge = response.headers.get("www-authenticate", "")
    assert challenge.startswith('Bearer realm="tidegate"') is (status == 401)
    assert ("retry-after" in response.headers) is (status in {429, 503})
    if status in {429, 503}:
        assert int(response.headers["retry-after"]) >= 1
