"""What a refusal means, what is shown of it, and how long to wait."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.exchange import explain
from tidegate.domain.failures import FailureClass, FailureCode
from tidegate.domain.inference import UpstreamDetail

C = FailureCode


# Status


@pytest.mark.parametrize(
    ("status", "code", "failure_class", "job_status"),
    [
        (301, C.UNEXPECTED_STATUS, FailureClass.PERMANENT, 502),
        (302, C.UNEXPECTED_STATUS, FailureClass.PERMANENT, 502),
        (400, C.UPSTREAM_REJECTED, FailureClass.CALLERS_FAULT, 400),
        (401, C.KEY_REFUSED, FailureClass.KEY_REFUSED, 502),
        (402, C.KEY_REFUSED, FailureClass.KEY_REFUSED, 502),
        (403, C.KEY_REFUSED, FailureClass.KEY_REFUSED, 502),
        (404, C.MODEL_NOT_FOUND, FailureClass.PERMANENT, 404),
        (405, C.UNEXPECTED_STATUS, FailureClass.PERMANENT, 502),
        (408, C.TIMEOUT, FailureClass.TRANSIENT, 504),
        (409, C.BUSY, FailureClass.TRANSIENT, 409),
        (413, C.UPSTREAM_REJECTED, FailureClass.CALLERS_FAULT, 413),
        (422, C.UPSTREAM_REJECTED, FailureClass.CALLERS_FAULT, 422),
        (424, C.UNEXPECTED_STATUS, FailureClass.PERMANENT, 502),
        (425, C.BUSY, FailureClass.TRANSIENT, 425),
        (429, C.RATE_LIMITED, FailureClass.RATE_LIMITED, 429),
        (499, C.UNEXPECTED_STATUS, FailureClass.PERMANENT, 502),
        (500, C.SERVER_ERROR, FailureClass.TRANSIENT, 500),
        (501, C.UNSUPPORTED_OPERATION, FailureClass.PERMANENT, 501),
        (502, C.SERVER_ERROR, FailureClass.TRANSIENT, 502),
        (503, C.SERVER_ERROR, FailureClass.TRANSIENT, 503),
        (520, C.SERVER_ERROR, FailureClass.TRANSIENT, 520),
        (529, C.SERVER_ERROR, FailureClass.TRANSIENT, 529),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>oh</html>", b'{"error": {"message": "oh"}}'])
def test_a_status_alone_says_what_to_do(
    status: int, code: FailureCode, failure_class: FailureClass, job_status: int, body: bytes
) -> None:
    failure = explain(status, body)

    assert (failure.code, failure.failure_class) == (code, failure_class)
    assert (failure.upstream_status, failure.job_status) == (status, job_status)
    assert not failure.was_sent


# Identifiers


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        # Money: as dead as a bad key.
        (429, {"type": "insufficient_quota"}, C.KEY_REFUSED),
        (429, {"code": "insufficient_quota"}, C.KEY_REFUSED),
        (429, {"code": "credit_balance_exhausted"}, C.KEY_REFUSED),
        (429, {"code": "organization_spend_limit_exceeded"}, C.KEY_REFUSED),
        (429, {"code": "project_spend_limit_exceeded"}, C.KEY_REFUSED),
        (429, {"code": "organization_usage_limit_exceeded"}, C.KEY_REFUSED),
        (429, {"type": "exceeded_current_quota_error"}, C.KEY_REFUSED),
        (400, {"code": "billing_hard_limit_reached"}, C.KEY_REFUSED),
        # Limits that pass.
        (429, {"code": "rate_limit_exceeded", "type": "tokens"}, C.RATE_LIMITED),
        (429, {"code": "slow_down"}, C.RATE_LIMITED),
        (429, {"code": "RateLimitReached"}, C.RATE_LIMITED),
        (429, {"code": "token_quota_exceeded", "type": "too_many_tokens_error"}, C.RATE_LIMITED),
        (429, {"code": "model_not_found"}, C.RATE_LIMITED),
        # Keys refused with 400.
        (400, {"code": "invalid_api_key"}, C.KEY_REFUSED),
        (400, {"code": 400, "details": [{"reason": "API_KEY_INVALID"}]}, C.KEY_REFUSED),
        # Models.
        (400, {"code": "model_not_found"}, C.MODEL_NOT_FOUND),
        (400, {"type": "invalid_model", "code": "1500"}, C.MODEL_NOT_FOUND),
        (404, {"code": "DeploymentNotFound"}, C.MODEL_NOT_FOUND),
        # Length.
        (400, {"code": "context_length_exceeded"}, C.CONTEXT_LENGTH_EXCEEDED),
        (413, {"code": "context_length_exceeded"}, C.CONTEXT_LENGTH_EXCEEDED),
        (400, {"type": "exceed_context_size_error"}, C.CONTEXT_LENGTH_EXCEEDED),
        (400, {"type": "too_many_prompt_tokens", "code": 400}, C.CONTEXT_LENGTH_EXCEEDED),
        # Content.
        (400, {"code": "content_policy_violation"}, C.CONTENT_POLICY_VIOLATION),
        (400, {"code": "content_filter"}, C.CONTENT_POLICY_VIOLATION),
        (
            400,
            {"code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
            C.CONTENT_POLICY_VIOLATION,
        ),
        (400, {"code": "data_inspection_failed"}, C.CONTENT_POLICY_VIOLATION),
        (403, {"code": 403, "metadata": {"flagged_input": "…"}}, C.CONTENT_POLICY_VIOLATION),
        (403, {"code": "permission_denied"}, C.KEY_REFUSED),
        # A status that leaves no doubt is not argued with.
        (401, {"code": "model_not_found"}, C.KEY_REFUSED),
        (500, {"code": "context_length_exceeded"}, C.SERVER_ERROR),
        (503, {"code": "insufficient_quota"}, C.SERVER_ERROR),
        (400, {"code": "unheard_of"}, C.UPSTREAM_REJECTED),
    ],
)
def test_an_identifier_says_more_than_the_status(
    status: int, error: dict[str, Any], code: FailureCode
) -> None:
    assert explain(status, {"error": {"message": "no", **error}}).code is code


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [
        ("1113", 429, C.KEY_REFUSED),
        ("1302", 429, C.RATE_LIMITED),
        ("1211", 400, C.MODEL_NOT_FOUND),
        ("1261", 400, C.CONTEXT_LENGTH_EXCEEDED),
        ("1301", 400, C.CONTENT_POLICY_VIOLATION),
    ],
)
def test_a_vendors_own_numbers_mean_something_only_there(number: str, status: int, code: FailureCode) -> None:
    body = {"error": {"code": number, "message": "no"}}

    assert explain(status, body, vendor="zai").code is code
    assert explain(status, body).code in {C.RATE_LIMITED, C.UPSTREAM_REJECTED}


# Words, when nothing else helps


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (400, "Incorrect API key provided: xa***12. You can obtain one at …", C.KEY_REFUSED),
        (400, "API key not valid. Please pass a valid API key.", C.KEY_REFUSED),
        (429, "Insufficient balance or no resource package. Please recharge.", C.KEY_REFUSED),
        (429, "Your credit balance is too low", C.KEY_REFUSED),
        # Groq's and Google's words for limits that pass, with an advertisement.
        (429, "Rate limit reached … Upgrade at https://console.groq.com/settings/billing", C.RATE_LIMITED),
        (429, "You exceeded your current quota, please check your plan and billing", C.RATE_LIMITED),
        (400, "This model's maximum context length is 4096 tokens", C.CONTEXT_LENGTH_EXCEEDED),
        (400, "This model's maximum prompt length is 131072 but …", C.CONTEXT_LENGTH_EXCEEDED),
        (400, "This endpoint's maximum context length is 8192", C.CONTEXT_LENGTH_EXCEEDED),
        (422, "prompt is too long: 208310 tokens > 200000 maximum", C.CONTEXT_LENGTH_EXCEEDED),
        (400, "The input token count (5) exceeds the maximum", C.CONTEXT_LENGTH_EXCEEDED),
        (400, "max_tokens is too large: 200000", C.UPSTREAM_REJECTED),
        (400, "Model Not Exist", C.MODEL_NOT_FOUND),
        (400, "Unknown Model, please check the model code.", C.MODEL_NOT_FOUND),
        (400, "foo/bar is not a valid model ID", C.MODEL_NOT_FOUND),
        (422, "The model `x` does not exist", C.MODEL_NOT_FOUND),
        (400, "The model `x` does not support image inputs", C.UPSTREAM_REJECTED),
        (400, "The response was filtered due to our content management policy", C.CONTENT_POLICY_VIOLATION),
        (403, "Content violates usage guidelines.", C.CONTENT_POLICY_VIOLATION),
        (403, "The caller does not have permission", C.KEY_REFUSED),
    ],
)
def test_a_message_is_read_when_nothing_else_helps(status: int, message: str, code: FailureCode) -> None:
    assert explain(status, {"error": {"message": message}}).code is code


def test_a_caller_cannot_make_a_vendor_say_that_our_key_is_bad() -> None:
    error = {"message": "Invalid value: 'invalid api key'.", "param": "tool_choice", "code": "invalid_value"}

    assert explain(400, {"error": error}).code is C.UPSTREAM_REJECTED


@pytest.mark.parametrize(
    ("error", "is_about_the_model"),
    [
        ({"message": "The model `x` does not exist", "code": "model_not_found"}, True),
        ({"message": "This model is not supported here", "param": "model"}, True),
        ({"message": 'model "x" not found, try pulling it first'}, True),
        ({"message": "Not Found"}, True),
        ({"message": "Invalid URL (POST /v1/chat/completions)"}, True),
        ({"message": "No endpoints found that support image input"}, True),
        ({"message": "No such File object: file-123", "param": "file_id"}, False),
        ({"message": "File file-123 not found"}, False),
        ({"message": "No such file"}, False),
    ],
)
def test_a_404_is_about_the_model_unless_it_names_something_else(
    error: dict[str, Any], *, is_about_the_model: bool
) -> None:
    expected = C.MODEL_NOT_FOUND if is_about_the_model else C.UPSTREAM_REJECTED

    assert explain(404, {"error": error}).code is expected


# The shapes an error comes in


@pytest.mark.parametrize(
    ("body", "message", "detail"),
    [
        (
            {"error": {"message": "no", "type": "t", "code": "c"}},
            "no",
            UpstreamDetail("t", "c"),
        ),
        ({"error": {"message": "no", "code": 429}}, "no", UpstreamDetail(None, "429")),
        (
            {"error": "Incorrect", "code": "Client specified"},
            "Incorrect",
            UpstreamDetail(None, "Client specified"),
        ),
        ({"error": "Overloaded", "error_type": "overloaded"}, "Overloaded", UpstreamDetail("overloaded")),
        ({"error": "Bad Request", "message": "no"}, "no", UpstreamDetail("Bad Request")),
        ({"error": [{"message": "no"}]}, "no", None),
        (
            [{"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}],
            "no",
            UpstreamDetail("INVALID_ARGUMENT", "400"),
        ),
        ({"detail": "Not Found"}, "Not Found", None),
        ({"detail": {"message": "no", "code": "c"}}, "no", UpstreamDetail(None, "c")),
        (
            {"detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs", "type": "extra"}, {"msg": "b"}]},
            "body.top_k: Extra inputs; b",
            None,
        ),
        (
            {"object": "error", "message": "no", "type": "invalid_model", "code": "1500"},
            "no",
            UpstreamDetail("invalid_model", "1500"),
        ),
        (
            {"error": {"message": "Provider returned error", "metadata": {"raw": "slow down"}}},
            "Provider returned error: slow down",
            None,
        ),
        ({"detail": ["a", 7, {"loc": "x", "msg": "b"}]}, "a; b", None),
        ("just text", "just text", None),
        (b"upstream connect error", "upstream connect error", None),
    ],
)
def test_an_error_is_read_in_every_shape(body: object, message: str, detail: UpstreamDetail | None) -> None:
    failure = explain(409, body)

    assert failure.message == f"provider openai: {message}"
    assert failure.upstream == detail


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"<!DOCTYPE html><title>502</title>",
        b"\n<html>no</html>",
        b'{"error": {"mess',
        b"\xff\xfe",
        b"[" * 100_000,
        b"[" * 400 + b"]" * 400,
        b"{}",
        b"[]",
        b"null",
        b"502",
        b'{"error": null}',
        b'{"error": {}}',
        b'{"error": {"message": 5}}',
        b'{"detail": []}',
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_body_without_words_is_answered_with_ours(body: bytes) -> None:
    assert explain(502, body).message == 'provider "openai" answered with status 502'


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (302, 'provider "groq" answered with status 302'),
        (405, 'provider "groq" answered with status 405'),
        (408, 'provider "groq" did not answer in time'),
        (501, 'chat_completion is not supported by provider "groq"'),
        (503, "provider groq: no"),
    ],
)
def test_some_messages_are_ours_whatever_the_vendor_says(status: int, message: str) -> None:
    assert explain(status, {"error": {"message": "no"}}, vendor="groq").message == message


@pytest.mark.parametrize("name", ["x-request-id", "apim-request-id", "x-generation-id"])
def test_a_failure_can_be_found_at_the_vendor(name: str) -> None:
    request_id = "0123456789abcdef0123456789abcdef"

    failure = explain(500, {"error": {"type": "t"}}, {name: request_id, "server": "x"})

    assert failure.upstream == UpstreamDetail("t", None, request_id)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 600) | st.text("ab"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "detail", "details", "message", "metadata", "code", "loc", "msg", "raw"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@given(body=JSON | st.binary(max_size=30), status=st.integers(300, 599))
def test_any_body_is_explained(body: object, status: int) -> None:
    failure = explain(status, body)

    assert 0 < len(failure.message) < 2_100
    assert failure.upstream_status == status
