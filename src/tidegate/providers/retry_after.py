"""How long a vendor asks us to wait, from wherever it says so."""

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from tidegate.domain.inference import HttpReply

LONGEST: Final = timedelta(hours=24)
_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
"""``1s``, ``6m0s``, ``12ms``, ``1h2m3.5s``: how OpenAI, Groq and Google write a duration."""


def asked_delay(reply: HttpReply, delay_in_body: str | None = None) -> timedelta | None:
    """The vendor's wish, at most a day. ``retry-after`` in both its forms, else the body, else rate limits.

    Only for replies that refuse: Anthropic sends the header with good ones too.
    """
    asked = _from_retry_after(reply)
    if asked is None:
        asked = _duration(delay_in_body)
    if asked is None:
        asked = _from_rate_limits(reply)
    return None if asked is None else min(asked, LONGEST)


def _from_retry_after(reply: HttpReply) -> timedelta | None:
    """The longer of milliseconds and seconds: Azure sends ``retry-after: 1`` and ``retry-after-ms: 0``."""
    seconds = reply.headers.get("retry-after")
    given = [
        _number(reply.headers.get("retry-after-ms"), timedelta(milliseconds=1)),
        _number(seconds, timedelta(seconds=1)),
        _until(seconds, reply.received_at),
    ]
    return max((delay for delay in given if delay is not None), default=None)


def _number(text: str | None, unit: timedelta) -> timedelta | None:
    try:
        amount = float(text or "")
    except ValueError:
        return None
    if not math.isfinite(amount) or amount < 0:
        return None
    return unit * min(amount, LONGEST / unit)


def _until(text: str | None, now: datetime) -> timedelta | None:
    """An HTTP date; one that is past asks for nothing."""
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment - now if moment > now else None


def _duration(text: str | None) -> timedelta | None:
    parts = _DURATION.fullmatch(text) if text else None
    if parts is None:
        return None
    units = (timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1), timedelta(milliseconds=1))
    amounts = [_number(amount, unit) for amount, unit in zip(parts.groups(), units, strict=True)]
    return sum((amount for amount in amounts if amount is not None), timedelta(0))


def _from_rate_limits(reply: HttpReply) -> timedelta | None:
    """When the last exhausted limit is full again. A limit with something left is not the one we hit."""
    resets = [
        _duration(reset) or _number(reset, timedelta(seconds=1))
        for reset, remaining in _rate_limits(reply)
        if remaining in {None, "0"}
    ]
    # A day or more is a date in a notation of the vendor's own, or nonsense.
    return max((reset for reset in resets if reset is not None and reset < LONGEST), default=None)


def _rate_limits(reply: HttpReply) -> Iterator[tuple[str, str | None]]:
    for name, value in reply.headers.items():
        if name.startswith("x-ratelimit-reset"):
            yield value, reply.headers.get(name.replace("-reset", "-remaining", 1))
