"""OpenAI's chat dialect, which most vendors speak with an accent of their own."""

from typing import Final
from urllib.parse import urlsplit

import msgspec

from tidegate.domain.failures import Failure, FailureCode
from tidegate.domain.inference import (
    Completion,
    Credential,
    HttpCall,
    HttpReply,
    InferenceRequest,
    RequestType,
    Target,
    UpstreamDetail,
)
from tidegate.domain.models import unsupported_operation_message
from tidegate.domain.secret import Secret
from tidegate.providers.bodies import translate
from tidegate.providers.messages import unsupported_part
from tidegate.providers.recognition import classify, embedded_status
from tidegate.providers.refusals import Refusal, read_refusal, refusal_in
from tidegate.providers.replies import as_chat_completion, decode_object, embedded_error
from tidegate.providers.reply_headers import kept_headers, request_id
from tidegate.providers.retry_after import asked_delay
from tidegate.providers.scrub import scrub
from tidegate.providers.usage import take_usage
from tidegate.providers.vendors import Vendor

_HEADERS: Final = (("content-type", "application/json"), ("accept", "application/json"))
_LONGEST_IDENTIFIER: Final = 100


class OpenAIProvider:
    """Speaks with one vendor; the row says how it deviates."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor

    def build(self, request: InferenceRequest, target: Target) -> HttpCall | Failure:
        part = unsupported_part(request.fields.get("messages", ()), self._vendor.quirks)
        if part is not None:
            return Failure(
                FailureCode.UNSUPPORTED_CONTENT, f'provider "{target.provider}" cannot take {part}'
            )
        said = translate(request, self._vendor.quirks)
        return HttpCall(
            provider=target.provider,
            method="POST",
            url=target.base_url + self._vendor.chat_path,
            headers=_HEADERS,
            body=msgspec.json.encode({"model": target.model, **said.members}),
            credential=self._credential(target),
            dropped=said.dropped,
        )

    def _credential(self, target: Target) -> Credential | None:
        secret = target.key.value
        if not secret:
            return None
        place = urlsplit(target.base_url)
        is_bearer = self._vendor.key_header == "authorization"
        return Credential(
            origin=f"{place.scheme}://{place.netloc}",
            header=self._vendor.key_header,
            value=Secret(f"Bearer {secret.reveal()}") if is_bearer else secret,
        )

    def parse(self, request: InferenceRequest, reply: HttpReply) -> Completion | Failure:
        body = decode_object(reply.body)
        if body is None:
            return self._unusable(reply)
        error = embedded_error(body)
        if error is not None:
            return self._embedded(refusal_in(error), reply)
        result = as_chat_completion(body, reply)
        if result is None:
            return self._unusable(reply)
        return Completion(
            result=result,
            usage=take_usage(result),
            is_simulated=self._vendor.is_simulated,
            response_headers=kept_headers(reply.headers),
        )

    def explain(self, reply: HttpReply) -> Failure:
        refusal = read_refusal(reply.body)
        code = classify(reply.status, refusal, self._vendor.quirks.failure_codes)
        return Failure(
            code,
            self._message(code, reply.status, refusal),
            upstream_status=reply.status,
            retry_after=asked_delay(reply, refusal.retry_delay),
            upstream=_detail(refusal, reply),
        )

    def _embedded(self, refusal: Refusal, reply: HttpReply) -> Failure:
        status = embedded_status(refusal)
        if status is None:
            return self._unusable(reply, refusal)
        code = classify(status, refusal, self._vendor.quirks.failure_codes)
        return Failure(
            code,
            self._message(code, status, refusal),
            upstream_status=status,
            upstream=_detail(refusal, reply),
        )

    def _unusable(self, reply: HttpReply, refusal: Refusal | None = None) -> Failure:
        return Failure(
            FailureCode.INVALID_RESPONSE,
            f'provider "{self._vendor.name}" sent an unusable response',
            upstream_status=reply.status,
            upstream=_detail(refusal or Refusal(), reply),
        )

    def _message(self, code: FailureCode, status: int, refusal: Refusal) -> str:
        """The vendor's own words where the contract copies them, else ours (contract §8.4)."""
        name = self._vendor.name
        words = scrub(refusal.message)
        match code:
            case FailureCode.TIMEOUT:
                return f'provider "{name}" did not answer in time'
            case FailureCode.UNSUPPORTED_OPERATION:
                return unsupported_operation_message(RequestType.CHAT_COMPLETION, name)
            case _ if words and code is not FailureCode.UNEXPECTED_STATUS:
                return f"provider {name}: {words}"
            case _:
                return f'provider "{name}" answered with status {status}'


def _detail(refusal: Refusal, reply: HttpReply) -> UpstreamDetail | None:
    found = request_id(reply.headers)
    detail = UpstreamDetail(
        type=_shown(refusal.type),
        code=_shown(refusal.code),
        request_id=found[:_LONGEST_IDENTIFIER] if found else None,
    )
    return None if detail == UpstreamDetail() else detail


def _shown(identifier: str | None) -> str | None:
    return scrub(identifier, longest=_LONGEST_IDENTIFIER) if identifier else None
