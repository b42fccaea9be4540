"""OpenAI's chat dialect from the vendor's side: what a request holds, what answers and errors look like."""

from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

CHARACTERS_PER_TOKEN: Final = 4
"""Close enough to English text."""

# Filled in rather than encoded: the load generator shares its machine with this server.
_COMPLETION: Final = (
    b'{"id":"chatcmpl-mock-%d","object":"chat.completion","created":%d,"model":%b,'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":%b,"refusal":null,"annotations":[]},'
    b'"logprobs":null,"finish_reason":%b}],'
    b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d},'
    b'"system_fingerprint":"tidegate-mock"}'
)
_ERRORS: Final[dict[int, tuple[str, str | None]]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


class Part(Struct):
    type: str
    text: str = ""


class Message(Struct):
    role: str
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class ResponseFormat(Struct):
    type: str


class ChatRequest(Struct):
    """What the vendor looks at; everything else is accepted unseen."""

    model: str = ""
    messages: list[Message] = []
    response_format: ResponseFormat | None = None
    stream: bool | None = False
    user: Any = None
    metadata: Any = None

    @property
    def echo(self) -> str:
        """The text of the last user message; inside an object where JSON is asked for."""
        text = self._last_user_text()
        if self.response_format is None or self.response_format.type == "text":
            return text
        return encode({"echo": text}).decode()

    def _last_user_text(self) -> str:
        for message in reversed(self.messages):
            if message.role == "user":
                return message.text
        return ""


class BadRequest(Exception):
    """The request is answered with 400; the message is for the caller."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


_decoder: Final = msgspec.json.Decoder(ChatRequest)
encode: Final = msgspec.json.Encoder().encode


def read_request(body: bytes) -> ChatRequest:
    """Raises ``BadRequest``."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid request: {error}") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest("We could not parse the JSON body of your request.") from error
    if not request.model:
        raise BadRequest("you must provide a model parameter", "model")
    if not request.messages:
        raise BadRequest("Missing required parameter: 'messages'.", "messages")
    if request.stream:
        raise BadRequest("The mock vendor does not stream.", "stream")
    return request


class Usage(Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int


class Answer(Struct, frozen=True):
    """A ``chat.completion`` object as bytes, and what it bills."""

    body: bytes
    usage: Usage


def complete(
    request: ChatRequest, content: str, *, tokens: int, finish_reason: str, n: int, at: datetime
) -> Answer:
    prompt_tokens = sum([len(message.text) for message in request.messages]) // CHARACTERS_PER_TOKEN + 1
    body = _COMPLETION % (
        n,
        int(at.timestamp()),
        encode(request.model),
        encode(content),
        encode(finish_reason),
        prompt_tokens,
        tokens,
        prompt_tokens + tokens,
    )
    return Answer(body, Usage(prompt_tokens, tokens))


def error(status: int, message: str, *, param: str | None = None, code: str | None = None) -> bytes:
    """OpenAI's error object with the type and code that usually come with ``status``."""
    kind, usual = _ERRORS.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
    return encode({"error": {"message": message, "type": kind, "param": param, "code": code or usual}})


def models(names: list[str], at: datetime) -> bytes:
    created = int(at.timestamp())
    data = [
        {"id": name, "object": "model", "created": created, "owned_by": "tidegate-mock"} for name in names
    ]
    return encode({"object": "list", "data": data})
