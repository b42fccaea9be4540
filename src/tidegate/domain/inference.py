"""What is asked of a model and what comes back, independent of any vendor."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct

from tidegate.domain.secret import Secret


class RequestType(StrEnum):
    """Kinds of inference request (contract §2.1)."""

    CHAT_COMPLETION = "chat_completion"


class Candidate(Struct, frozen=True):
    """One ``provider/model`` a job may run on."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class InferenceRequest(Struct, frozen=True):
    """A decoded, validated request as a dialect translates it."""

    type: RequestType
    fields: Mapping[str, Any]
    """Known members only, aliases resolved; nulls dropped."""
    extra: Mapping[str, Any]
    """Unknown members to be merged into the vendor's body, never over a known one."""
    dropped: tuple[str, ...]
    """Paths of members that go nowhere."""


class ProviderKey(Struct, frozen=True):
    """Our secret at a vendor, or the place of one where the vendor asks for none."""

    id: str
    name: str
    value: Secret | None = None
    models: tuple[str, ...] = ("*",)
    """Models it serves; ``*`` means all, an empty list none."""
    weight: float = 1.0
    is_enabled: bool = True

    def serves(self, model: str) -> bool:
        return "*" in self.models or model in self.models


class Target(Struct, frozen=True):
    """Where one call goes: the candidate's model at the vendor's origin, with one key."""

    provider: str
    model: str
    base_url: str
    """Origin, possibly with a path prefix, no slash at the end."""
    key: ProviderKey


class Credential(Struct, frozen=True):
    """An authentication header that may travel to one origin only."""

    origin: str
    header: str
    value: Secret


class HttpCall(Struct, frozen=True):
    """One HTTP request to a vendor, before it is sent."""

    provider: str
    """Names the egress settings (proxy, CA) it is sent with."""
    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    credential: Credential | None
    dropped: tuple[str, ...] = ()
    """Known members of the request without a counterpart at this vendor."""


class HttpReply(Struct, frozen=True):
    """A complete reply: any status, the body decompressed."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of repeated headers the last value."""
    body: bytes
    received_at: datetime


class Usage(Struct, frozen=True, omit_defaults=True):
    """Tokens of one call, as the vendor reports them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Completion(Struct, frozen=True):
    """A vendor's answer in our terms: ``result`` is the JSON object of the request type, without extras."""

    result: dict[str, Any]
    usage: Usage | None = None
    is_simulated: bool = False
    response_headers: Mapping[str, str] = {}
    """Allow-listed vendor headers: request ids, rate limits."""


class UpstreamDetail(Struct, frozen=True, omit_defaults=True):
    """The vendor's own words about a failure."""

    type: str | None = None
    code: str | None = None
    request_id: str | None = None


Billing = Literal["none", "known", "unknown"]


class Call(Struct, frozen=True, omit_defaults=True):
    """One HTTP request to one candidate with one provider key; or a candidate that was skipped."""

    candidate: int
    provider: str | None = None
    model: str | None = None
    key: str | None = None
    """The key's name, never its value."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    status_code: int | None = None
    error_code: str | None = None
    message: str | None = None
    retry_after: int | None = None
    """Seconds the vendor asked us to wait."""
    usage: Usage | None = None
    billing: Billing | None = None
    simulated: bool = False
    upstream: UpstreamDetail | None = None


class CallTiming(Struct, frozen=True):
    """When a call ran and how long it took."""

    started_at: datetime
    ended_at: datetime
    duration: timedelta
