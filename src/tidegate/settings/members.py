"""What members of the configuration are made of: kinds of values, with their limits and their help."""

from datetime import timedelta
from typing import Annotated, Any, Final

from msgspec import Meta

MIB: Final = 1 << 20
SECOND: Final = timedelta(seconds=1)
DAY: Final = timedelta(days=1)


def setting(help_text: str, **facts: Any) -> Meta:
    return Meta(description=help_text, extra=facts or None)


def duration(help_text: str, unit: str, least: timedelta, most: timedelta, **facts: Any) -> Meta:
    return Meta(description=help_text, extra={"unit": unit, "least": least, "most": most} | facts)


def size(help_text: str, unit: str, least: int, most: int) -> Meta:
    return Meta(description=help_text, extra={"unit": unit, "least": least, "most": most})


def secret(help_text: str, owner: str, **facts: Any) -> Meta:
    return Meta(description=help_text, extra={"owner": owner} | facts)


Word = Annotated[str, Meta(min_length=1, max_length=255)]
Url = Annotated[str, Meta(min_length=1, max_length=2048, extra={"is_private": True})]
UrlOrNothing = Annotated[str, Meta(max_length=2048, extra={"is_private": True})]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Origin = Annotated[
    str,
    Meta(
        pattern=r"^https?://[^/\s?#@*]+$",
        extra={"form": "an origin, such as https://app.example, without a path"},
    ),
]
HeaderName = Annotated[
    str, Meta(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", extra={"form": "the name of a header"})
]
HostName = Annotated[
    str, Meta(pattern=r"^[^\s/@?#*]+$", extra={"form": "a host name or address, as in a Host header"})
]
Weight = Annotated[float, Meta(ge=0, le=1_000_000)]
