"""What of a vendor's reply headers is kept: how to find the request there, and how much is left of a limit."""

from collections.abc import Mapping
from typing import Final

_REQUEST_IDS: Final = (
    "x-request-id",
    "request-id",
    "x-amzn-requestid",
    "apim-request-id",
    "x-debug-trace-id",
    "x-generation-id",
    "mistral-correlation-id",
)
_KEPT: Final = frozenset(_REQUEST_IDS)


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in headers.items() if name in _KEPT or name.startswith("x-ratelimit-")
    }


def request_id(headers: Mapping[str, str]) -> str | None:
    return next((headers[name] for name in _REQUEST_IDS if name in headers), None)
