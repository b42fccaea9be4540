"""What a failure means: its class, the job's status, and what a bare HTTP status says (contract §8.4, §9.2)."""

import pytest

from tidegate.domain.failures import Failure, FailureClass, FailureCode, code_of_status

CALLERS_FAULT = FailureClass.CALLERS_FAULT
KEY_REFUSED = FailureClass.KEY_REFUSED
PERMANENT = FailureClass.PERMANENT
RATE_LIMITED = FailureClass.RATE_LIMITED
TRANSIENT = FailureClass.TRANSIENT

# The row of the contract: code, the vendor's status, the class, the status of the job.
ROWS = {
    "provider 400": ("upstream_rejected", 400, CALLERS_FAULT, 400),
    "provider 413": ("upstream_rejected", 413, CALLERS_FAULT, 413),
    "provider 422": ("upstream_rejected", 422, CALLERS_FAULT, 422),
    "provider 404 not about the model": ("upstream_rejected", 404, CALLERS_FAULT, 404),
    "recognised: input too long": ("context_length_exceeded", 400, CALLERS_FAULT, 400),
    "recognised: content refused": ("content_policy_violation", 403, CALLERS_FAULT, 403),
    "content form the provider cannot take": ("unsupported_content", None, PERMANENT, 400),
    "provider does not know the model": ("model_not_found", 404, PERMANENT, 404),
    "provider does not know the model, said with 400": ("model_not_found", 400, PERMANENT, 404),
    "all keys refused": ("upstream_credentials_exhausted", None, PERMANENT, 502),
    "one key refused": ("upstream_key_refused", 401, KEY_REFUSED, 502),
    "provider 429": ("upstream_rate_limited", 429, RATE_LIMITED, 429),
    "provider 409": ("upstream_busy", 409, TRANSIENT, 409),
    "provider 425": ("upstream_busy", 425, TRANSIENT, 425),
    "provider 500": ("upstream_server_error", 500, TRANSIENT, 500),
    "provider 529": ("upstream_server_error", 529, TRANSIENT, 529),
    "provider 501": ("unsupported_operation", 501, PERMANENT, 501),
    "adapter lacks the operation": ("unsupported_operation", None, PERMANENT, 501),
    "provider 3xx": ("upstream_unexpected_status", 302, PERMANENT, 502),
    "other 4xx": ("upstream_unexpected_status", 418, PERMANENT, 502),
    "DNS, connect, TLS, reset": ("upstream_connection_failed", None, TRANSIENT, 502),
    "no answer in time": ("upstream_timeout", None, TRANSIENT, 504),
    "provider 408": ("upstream_timeout", 408, TRANSIENT, 504),
    "unusable 2xx": ("upstream_invalid_response", 200, PERMANENT, 502),
    "response above the size limit": ("response_too_large", 200, PERMANENT, 502),
    "no usable key at dispatch": ("no_eligible_keys", None, PERMANENT, 503),
    "provider no longer allowed": ("provider_blocked", None, PERMANENT, 403),
    "model no longer allowed": ("model_blocked", None, PERMANENT, 403),
    "fallback without a free slot": ("provider_busy", None, TRANSIENT, 503),
    "fallback whose lane is closed": ("provider_cooling", None, TRANSIENT, 503),
    "candidate named twice": ("duplicate_candidate", None, PERMANENT, 400),
}


@pytest.mark.parametrize(("code", "status", "failure_class", "job_status"), ROWS.values(), ids=ROWS)
def test_a_failure_has_the_class_and_the_status_of_its_row(
    code: str, status: int | None, failure_class: FailureClass, job_status: int
) -> None:
    failure = Failure(FailureCode(code), "…", upstream_status=status)

    assert failure.failure_class is failure_class
    assert failure.job_status == job_status


def test_every_code_has_a_row() -> None:
    assert {FailureCode(code) for code, *_ in ROWS.values()} == set(FailureCode)


def test_a_status_the_vendor_did_not_give_is_a_bad_gateway() -> None:
    assert Failure(FailureCode.SERVER_ERROR, "…").job_status == 502


@pytest.mark.parametrize(
    ("failure_class", "may_heal"),
    [
        (KEY_REFUSED, False),
        (RATE_LIMITED, True),
        (TRANSIENT, True),
        (PERMANENT, False),
        (CALLERS_FAULT, False),
    ],
    ids=str,
)
def test_waiting_heals_only_what_is_transient(failure_class: FailureClass, *, may_heal: bool) -> None:
    assert failure_class.may_heal is may_heal


STATUSES = {
    **dict.fromkeys((300, 301, 302, 303, 304, 307, 308), FailureCode.UNEXPECTED_STATUS),
    **dict.fromkeys((400, 413, 422), FailureCode.UPSTREAM_REJECTED),
    **dict.fromkeys((401, 402, 403), FailureCode.KEY_REFUSED),
    404: FailureCode.MODEL_NOT_FOUND,
    408: FailureCode.TIMEOUT,
    **dict.fromkeys((409, 425), FailureCode.BUSY),
    429: FailureCode.RATE_LIMITED,
    **dict.fromkeys((405, 406, 407, 410, 411, 412, 414, 415, 418, 426, 451), FailureCode.UNEXPECTED_STATUS),
    **dict.fromkeys((500, 502, 503, 504, 508, 520, 529, 599), FailureCode.SERVER_ERROR),
    501: FailureCode.UNSUPPORTED_OPERATION,
}


@pytest.mark.parametrize(("status", "code"), STATUSES.items(), ids=str)
def test_a_bare_status_says_this_much(status: int, code: FailureCode) -> None:
    assert code_of_status(status) is code


@pytest.mark.parametrize(
    ("failure", "may_have_billed"),
    [
        (Failure(FailureCode.TIMEOUT, "silence after sending", was_sent=True), True),
        (Failure(FailureCode.TIMEOUT, "408: the vendor gave up on us", upstream_status=408), False),
        (Failure(FailureCode.CONNECTION_FAILED, "reset after sending", was_sent=True), True),
        (Failure(FailureCode.CONNECTION_FAILED, "name unknown"), False),
        (Failure(FailureCode.INVALID_RESPONSE, "2xx without an answer", upstream_status=200), True),
        (Failure(FailureCode.RESPONSE_TOO_LARGE, "2xx without end", upstream_status=200), True),
        (Failure(FailureCode.SERVER_ERROR, "explicit refusal", upstream_status=500), False),
        (Failure(FailureCode.RATE_LIMITED, "explicit refusal", upstream_status=429), False),
    ],
    ids=lambda value: value.message if isinstance(value, Failure) else None,
)
def test_what_was_not_refused_may_have_been_billed(failure: Failure, *, may_have_billed: bool) -> None:
    assert failure.may_have_billed is may_have_billed
