"""A small HTTP client for one gateway: no retries, no proxies, and an error that says what to do."""

import http.client
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from email.message import Message
from typing import Any, Final, final
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from tidegate.cli.exits import CliError, Exit

_PATIENCE: Final = timedelta(seconds=30)
_LONGEST_HOLD: Final = timedelta(seconds=60)
_NO_TIME: Final = timedelta(0)


class GatewayRefused(CliError):
    """The gateway answered with an error: ``error_code`` is its stable slug."""

    def __init__(self, message: str, code: Exit, status: int, error_code: str) -> None:
        super().__init__(message, code)
        self.status = status
        self.error_code = error_code


class NoGateway(CliError):
    """Nobody answers at the address."""


class Reply(Struct, frozen=True):
    """An answer that is not an error."""

    headers: Message
    body: Any


def _no_note(_text: str) -> None:
    pass


@final
class GatewayClient:
    """Speaks to one gateway, as one caller."""

    def __init__(
        self,
        url: str,
        credential: Callable[[], str | None],
        *,
        note: Callable[[str], None] = _no_note,
    ) -> None:
        """``credential`` is asked for every request: a minted token lives shorter than a long wait."""
        self.url = url.rstrip("/")
        self._address = split_url(self.url)
        self.credential = credential
        self._note = note

    def get(self, path: str, *, hold: timedelta = _NO_TIME) -> Reply:
        """``hold`` asks the gateway to keep the answer until the job has ended; a minute at most."""
        held = min(hold, _LONGEST_HOLD)
        headers = {"prefer": f"wait={max(1, round(held.total_seconds()))}"} if held > _NO_TIME else {}
        return self._ask("GET", path, None, headers, _PATIENCE + held)

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """``body`` is JSON as bytes, or a value to be encoded."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return self._ask(method, path, content, headers or {}, _PATIENCE)

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], patience: timedelta
    ) -> Reply:
        connection = self._connection(patience)
        try:
            connection.request(method, self._address.path + path, body, self._headers(headers, body))
            response = connection.getresponse()
            content = response.read()
        except http.client.HTTPException as error:
            raise NoGateway(
                f"{self.url} does not speak HTTP as a gateway does ({type(error).__name__})"
            ) from error
        except OSError as error:
            raise NoGateway(
                f"no gateway answers at {self.url} ({_reason(error)}): "
                "start one with `tidegate serve`, or name another with --url"
            ) from error
        finally:
            connection.close()
        self._note(f"{method} {path} -> {response.status}, request id {response.headers.get('x-request-id')}")
        return self._checked_reply(response.status, response.headers, content)

    def _connection(self, patience: timedelta) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._address.scheme == "https" else http.client.HTTPConnection
        # http.client knows no proxies, whatever the environment says.
        return kind(self._address.hostname or "", self._address.port, timeout=patience.total_seconds())

    def _headers(self, headers: Mapping[str, str], body: bytes | None) -> dict[str, str]:
        own = {"accept": "application/json"} | (
            {"content-type": "application/json"} if body is not None else {}
        )
        credential = self.credential()
        if credential is not None:
            own |= {"authorization": f"Bearer {credential}"}
        return own | dict(headers)

    def _checked_reply(self, status: int, headers: Message, content: bytes) -> Reply:
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        if 200 <= status < 300 and isinstance(value, dict):
            return Reply(headers, value)
        error = value.get("error") if isinstance(value, dict) else None
        if not isinstance(error, dict) or "code" not in error:
            kind = headers.get("content-type", "no content type")
            raise NoGateway(f"{self.url} is not a Tidegate gateway: it answered HTTP {status}, {kind}")
        raise self._refused(status, str(error.get("code")), str(error.get("message")))

    def _refused(self, status: int, error_code: str, message: str) -> GatewayRefused:
        text, code = f"{message} [{error_code}]", Exit.FAILED
        if status == 401:
            code = Exit.NOT_ALLOWED
            text = (
                f"{self.url} wants another credential: {text}; give --key or TIDEGATE_KEY, "
                "or --data with the data directory of that gateway"
            )
        elif error_code == "admin_required":
            code = Exit.NOT_ALLOWED
            text = f"not allowed: {text}; without --key and TIDEGATE_KEY the gateway's own issuer makes one"
        elif status == 403:
            text, code = f"not allowed: {text}", Exit.NOT_ALLOWED
        elif status == 404:
            code = Exit.NOT_FOUND
        elif status == 503:
            text = f"not now: {text}; try again later"
        return GatewayRefused(text, code, status, error_code)


def split_url(url: str) -> SplitResult:
    """Raises ``CliError`` for anything that no gateway can have."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or parts.query or parts.fragment or parts.username is not None:
        raise CliError(f'"{url}" is not the URL of a gateway; write http://127.0.0.1:8080', Exit.USAGE)
    return parts


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()
