"""Job options from headers: grammar here, limits in the service (contract §10, §4.5, §4.6)."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from tidegate.api.inbound import Inbound
from tidegate.domain.errors import ErrorCode, InvalidRequest
from tidegate.services.submit_job import AskedOptions

LONGEST_WAIT: Final = 60
_TTL: Final = b"x-bf-async-job-result-ttl"
# Options of the contract that this version does not build. Ignoring one could cost money.
_NOT_BUILT: Final = (
    b"x-bf-async-queue-timeout", b"x-bf-async-worker-lost", b"x-bf-async-not-before", b"x-bf-async-webhook",
)  # fmt: skip
_KNOWN: Final = frozenset({
    _TTL, b"x-bf-async-timeout", b"x-bf-async-max-attempts", b"x-bf-async-priority", *_NOT_BUILT,
    b"x-bf-async", b"x-bf-async-id",
})  # fmt: skip
_FAMILY: Final = b"x-bf-async-"
_POSITIVE: Final = re.compile(rb"\+?[0-9]+")
_MOST_DIGITS: Final = 18
_VISIBLE_ASCII: Final = re.compile(rb"[\x21-\x7e]{1,255}")
_WAIT: Final = re.compile(rb'wait\s*=\s*"?([0-9]+)"?', re.IGNORECASE)


def read_options(inbound: Inbound) -> AskedOptions:
    """Raises ``InvalidRequest`` naming the header; the TTL header never fails."""
    for name in inbound.headers:
        if name.startswith(_FAMILY):
            _check_family_member(inbound, name)
    return AskedOptions(
        result_ttl=_read_ttl(inbound),
        timeout=_read_integer(inbound, b"x-bf-async-timeout", 1, None),
        max_attempts=_read_integer(inbound, b"x-bf-async-max-attempts", 1, 10),
        priority=_read_integer(inbound, b"x-bf-async-priority", 1, 5),
    )


def read_idempotency_key(inbound: Inbound) -> str | None:
    """1 to 255 visible ASCII characters, with or without double quotes. Raises ``InvalidRequest``."""
    value = inbound.headers.get(b"idempotency-key")
    if value is None:
        return None
    if len(value) >= 2 and value.startswith(b'"') and value.endswith(b'"'):
        value = value[1:-1]
    if b"idempotency-key" in inbound.repeated or _VISIBLE_ASCII.fullmatch(value) is None:
        raise _invalid("Idempotency-Key", "expected 1 to 255 visible ASCII characters, sent once")
    return value.decode("ascii")


def read_wait(inbound: Inbound, query: Mapping[str, Sequence[str]]) -> timedelta | None:
    """How long the answer may be held: the header wins over ``?wait=``. ``None`` when nobody asks.

    An unreadable ``Prefer`` is ignored, as RFC 7240 asks; an unreadable ``?wait=`` is a mistake.
    """
    for value in inbound.values(b"prefer"):
        for preference in value.split(b","):
            found = _WAIT.fullmatch(preference.split(b";")[0].strip())
            if found is not None:
                return _capped(found[1])
    if "wait" not in query:
        return None
    value = query["wait"][0].encode()
    if len(query["wait"]) > 1 or not value.isdigit():
        raise InvalidRequest(
            ErrorCode.INVALID_QUERY_PARAMETER,
            f"invalid wait: expected whole seconds from 0 to {LONGEST_WAIT}",
            param="wait",
        )
    return _capped(value)


def _capped(digits: bytes) -> timedelta:
    return timedelta(seconds=min(_to_int(digits), LONGEST_WAIT))


def _to_int(digits: bytes) -> int:
    """Far beyond any maximum the number of digits no longer matters."""
    return int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS


def _check_family_member(inbound: Inbound, name: bytes) -> None:
    if name == _TTL:
        return
    shown = name.decode("latin-1")
    if name not in _KNOWN:
        raise _invalid(shown, "no such option")
    if name in _NOT_BUILT:
        raise _invalid(shown, "this option is not supported by this version; leave the header out")
    if name in inbound.repeated:
        raise _invalid(shown, "expected to be sent once")


def _read_ttl(inbound: Inbound) -> int | None:
    value = inbound.headers.get(_TTL)
    if value is None or _TTL in inbound.repeated or _POSITIVE.fullmatch(value) is None:
        return None
    return _to_int(value.removeprefix(b"+")) or None


def _read_integer(inbound: Inbound, name: bytes, low: int, high: int | None) -> int | None:
    value = inbound.headers.get(name)
    if value is None:
        return None
    number = _to_int(value) if value.isdigit() else None
    if number is None or number < low or (high is not None and number > high):
        expected = f"an integer from {low} to {high}" if high is not None else f"an integer of at least {low}"
        raise _invalid(name.decode(), f"expected {expected}")
    return number


def _invalid(name: str, problem: str) -> InvalidRequest:
    return InvalidRequest(ErrorCode.INVALID_HEADER, f"invalid {name}: {problem}", param=name)
