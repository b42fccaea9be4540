"""Every row of the table of job errors (contract §8.4), provoked through a real vendor and read by a client."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import Struct

from support.gateway import chat
from support.processes import free_port
from support.scenes import (
    gateway_on,
    own_provider,
    read_error,
)
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

REQUEST: Final = "invalid_request_error"
UPSTREAM: Final = "upstream_error"
TIMEOUT: Final = "timeout_error"
QUICK: Final = {"default_request_timeout_in_seconds": 1, "max_retries": 0}
TEXT_FILE: Final = {"type": "file", "file": {"file_url": "https://files.example/a.txt"}}


class Row(Struct, frozen=True, kw_only=True):
    """How the vendor behaves, and what the client reads. ``{p}`` stands for the provider's name."""

    rule: dict[str, Any] = {}
    network: dict[str, Any] = {}
    body: dict[str, Any] = {}
    headers: dict[str, str] = {}
    status_code: int
    bf: bool = False
    type: str
    code: str
    message: str
    outcome: str = "provider_error"
    calls: tuple[tuple[int | None, str | None, str | None], ...]
    """Status, error code and billing of each call."""


def said(status: int, message: str = "no", code: str | None = None) -> dict[str, Any]:
    return {"status": status, "error": {"error": {"message": message, "type": "t", "code": code}}}


def rejected(status: int, message: str = "no", *, code: str = "upstream_rejected", told: str = "") -> Row:
    return Row(
        rule=said(status, message, told or None),
        status_code=status,
        type=REQUEST,
        code=code,
        message="provider {p}: " + message,
        calls=((status, code, "none"),),
    )


def exhausted(status: int, told: str | None = None) -> Row:
    return Row(
        rule=said(status, code=told),
        status_code=502,
        type=UPSTREAM,
        code="upstream_credentials_exhausted",
        message='every key of provider "{p}" was refused',
        calls=((status, "upstream_key_refused", "none"),),
    )


def trouble(status: int, code: str, kind: str = UPSTREAM) -> Row:
    return Row(
        rule=said(status),
        status_code=status,
        type=kind,
        code=code,
        message="provider {p}: no",
        calls=((status, code, "none"),) * 3,
    )


def unexpected(status: int) -> Row:
    return Row(
        rule=said(status),
        status_code=502,
        type=UPSTREAM,
        code="upstream_unexpected_status",
        message='provider "{p}" answered with status ' + str(status),
        calls=((status, "upstream_unexpected_status", "none"),),
    )


def unreachable(step: str, billing: str = "none", **facts: Any) -> Row:
    return Row(
        status_code=502,
        type=UPSTREAM,
        code="upstream_connection_failed",
        message='could not reach provider "{p}" (' + step + ")",
        calls=((None, "upstream_connection_failed", billing),) * 3,
        **facts,
    )


def unusable(**rule: Any) -> Row:
    return Row(
        rule=rule,
        status_code=502,
        bf=True,
        type=UPSTREAM,
        code="upstream_invalid_response",
        message='provider "{p}" sent an unusable response',
        calls=((200, "upstream_invalid_response", "unknown"),),
    )


ROWS: Final[Mapping[str, Row]] = {
    "provider-400": rejected(400),
    "provider-413": rejected(413),
    "provider-422": rejected(422),
    "provider-404-about-something-else": rejected(404, "File file-1 not found"),
    "input-too-long": rejected(400, "long", code="context_length_exceeded", told="context_length_exceeded"),
    "content-refused": rejected(400, "bad", code="content_policy_violation", told="content_filter"),
    "content-it-cannot-take": Row(
        body={"messages": [{"role": "user", "content": [TEXT_FILE]}]},
        status_code=400,
        type=REQUEST,
        code="unsupported_content",
        message='provider "{p}" cannot take files by URL',
        calls=((None, "unsupported_content", None),),
    ),
    "model-unknown": Row(
        rule=said(404, "The model does not exist", "model_not_found"),
        status_code=404,
        type="not_found_error",
        code="model_not_found",
        message="provider {p}: The model does not exist",
        calls=((404, "model_not_found", "none"),),
    ),
    "keys-refused-401": exhausted(401),
    "keys-refused-402": exhausted(402),
    "keys-refused-403": exhausted(403),
    "keys-refused-quota": exhausted(429, "insufficient_quota"),
    "provider-429": trouble(429, "upstream_rate_limited", "rate_limit_error"),
    "provider-409": trouble(409, "upstream_busy"),
    "provider-425": trouble(425, "upstream_busy"),
    "provider-500": trouble(500, "upstream_server_error"),
    "provider-503": trouble(503, "upstream_server_error"),
    "provider-529": trouble(529, "upstream_server_error"),
    "provider-502-of-a-proxy": Row(
        rule={"status": 502, "error": "<html>Bad Gateway</html>"},
        status_code=502,
        type=UPSTREAM,
        code="upstream_server_error",
        message='provider "{p}" answered with status 502',
        calls=((502, "upstream_server_error", "none"),) * 3,
    ),
    "provider-501": Row(
        rule=said(501),
        status_code=501,
        type=REQUEST,
        code="unsupported_operation",
        message='chat_completion is not supported by provider "{p}"',
        calls=((501, "unsupported_operation", "none"),),
    ),
    "provider-302": unexpected(302),
    "provider-418": unexpected(418),
    "connect": unreachable("connect", network={"base_url": f"http://127.0.0.1:{free_port()}"}),
    "reset-before-the-answer": unreachable("reset", "unknown", rule={"reset": "before_headers"}),
    "silence": Row(
        rule={"hang": "before_headers"},
        network=QUICK,
        status_code=504,
        bf=True,
        type=TIMEOUT,
        code="upstream_timeout",
        message='provider "{p}" did not answer within 1 s',
        calls=((None, "upstream_timeout", "unknown"),),
    ),
    "provider-408": Row(
        rule=said(408),
        status_code=504,
        bf=True,
        type=TIMEOUT,
        code="upstream_timeout",
        message='provider "{p}" did not answer in time',
        calls=((408, "upstream_timeout", "none"),) * 3,
    ),
    "empty": unusable(body=""),
    "unreadable": unusable(body="<html>Welcome</html>"),
    "without-choices": unusable(body='{"id": "1", "choices": []}'),
    "finish-reason-says-failure": unusable(finish_reason="error"),
    "too-large": Row(
        rule={"size": 33 * 2**20},
        status_code=502,
        bf=True,
        type=UPSTREAM,
        code="response_too_large",
        message='response of provider "{p}" exceeds 33554432 bytes',
        calls=((200, "response_too_large", "unknown"),),
    ),
    "deadline": Row(
        rule={"hang": "in_body"},
        headers={"x-bf-async-timeout": "1"},
        status_code=504,
        bf=True,
        type=TIMEOUT,
        code="deadline_exceeded",
        message="job did not finish before its deadline",
        outcome="deadline_exceeded",
        calls=((200, "upstream_timeout", "unknown"),),
    ),
}


def rules() -> dict[str, Any]:
    return {"rules": [{"model": name, **row.rule} for name, row in ROWS.items()]}


def expected(name: str, row: Row) -> dict[str, Any]:
    return {
        "status": "failed",
        "status_code": row.status_code,
        "bf": row.bf,
        "type": row.type,
        "code": row.code,
        "message": row.message.replace("{p}", name),
        "outcome": row.outcome,
        "calls": list(row.calls),
    }


async def test_every_row_that_a_vendor_can_cause(tmp_path: Path) -> None:
    async with MockVendor.serve(script=rules()) as vendor:
        own = {name: own_provider(vendor.url, row.network) for name, row in ROWS.items()}
        async with gateway_on(tmp_path, vendor, own) as gateway:
            jobs = {
                name: await gateway.accepted(
                    chat(f"{name}/{name}", **row.body), {"x-bf-async-max-attempts": "1", **row.headers}
                )
                for name, row in ROWS.items()
            }
            await asyncio.gather(*map(gateway.ended, jobs.values()))

            found = {name: read_error(await gateway.details(job)) for name, job in jobs.items()}

    assert found == {name: expected(name, row) for name, row in ROWS.items()}
