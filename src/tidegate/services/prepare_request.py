"""Prepare: from the stored bytes of a request to what a dialect translates (contract §6.1).

The bytes are decoded again at dispatch and only newly serialised data goes upstream, so that gateway and vendor
read the same request.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from tidegate.domain.chat import ChatRequest
from tidegate.domain.inference import InferenceRequest, RequestType
from tidegate.domain.known_fields import Shape, keep_known, shape_of

_decode: Final = msgspec.json.Decoder(dict[str, Any])
_REQUESTS: Final = MappingProxyType({RequestType.CHAT_COMPLETION: ChatRequest})
# The gateway's own business: routing, and streaming, which jobs do not do.
_OURS: Final = frozenset({"model", "fallbacks", "stream", "stream_options"})
_LISTED_WHEN_SENT: Final = frozenset({"stream_options"})
_INTEGERS: Final = ("max_completion_tokens", "seed", "top_logprobs", "n", "max_tokens")


def prepare_request(request_type: RequestType, body: bytes, *, passes_extra_params: bool) -> InferenceRequest:
    """Known members by their one name, unknown ones apart."""
    sent = _decode.decode(body)
    shape = shape_of(_REQUESTS[request_type])
    dropped: list[str] = []
    extra: Mapping[str, Any] = {}
    if passes_extra_params:
        extra = {name: value for name, value in sent.items() if name not in shape}
        known = {name: value for name, value in sent.items() if name in shape and value is not None}
    else:
        known = _without_unknown(sent, shape, dropped)
    dropped += [name for name in _LISTED_WHEN_SENT if name in known]
    fields = {name: value for name, value in known.items() if name not in _OURS}
    _resolve_aliases(fields, dropped)
    return InferenceRequest(type=request_type, fields=fields, extra=extra, dropped=tuple(dropped))


def _without_unknown(sent: dict[str, Any], shape: Shape, dropped: list[str]) -> dict[str, Any]:
    known: dict[str, Any] = keep_known(sent, shape, "", dropped)
    return known


def _resolve_aliases(fields: dict[str, Any], dropped: list[str]) -> None:
    _use_max_completion_tokens(fields, dropped)
    reasoning = dict(fields.get("reasoning") or {})
    for alias, name in (("reasoning_effort", "effort"), ("reasoning_max_tokens", "max_tokens")):
        if alias in fields:
            reasoning[name] = fields.pop(alias)
    if reasoning:
        _use_integers(reasoning)
        fields["reasoning"] = reasoning
    _use_one_form_of_stop(fields)
    _use_integers(fields)
    for index, message in enumerate(fields.get("messages", ())):
        _use_one_name_of_reasoning(message, f"messages[{index}]", dropped)


def _use_integers(members: dict[str, Any]) -> None:
    for name in _INTEGERS:
        if isinstance(members.get(name), float):
            members[name] = int(members[name])


def _use_one_name_of_reasoning(message: dict[str, Any], path: str, dropped: list[str]) -> None:
    alias = message.pop("reasoning_content", None)
    if alias is None:
        return
    if message.get("reasoning") is None:
        message["reasoning"] = alias
    else:
        dropped.append(f"{path}.reasoning_content")


def _use_max_completion_tokens(fields: dict[str, Any], dropped: list[str]) -> None:
    if "max_tokens" not in fields:
        return
    older = fields.pop("max_tokens")
    if "max_completion_tokens" in fields:
        dropped.append("max_tokens")
    else:
        fields["max_completion_tokens"] = older


def _use_one_form_of_stop(fields: dict[str, Any]) -> None:
    """A string becomes a list of one; an empty list counts as absent."""
    stop = fields.get("stop")
    if isinstance(stop, str):
        fields["stop"] = [stop]
    elif stop is not None and not stop:
        del fields["stop"]
