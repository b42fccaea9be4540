"""The chat completion request: its known members (contract §6.2–6.5)."""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from tidegate.domain.models import MOST_FALLBACKS

MOST_STOPS: Final = 4

Number = int | float


def _number(low: float | None = None, high: float | None = None, *, is_integer: bool = False) -> Meta:
    """A numeric member. The bounds are checked after the model was resolved, so the decoder must not."""
    schema: dict[str, Any] = {"type": "integer" if is_integer else "number"}
    if low is not None:
        schema["minimum"] = low
    if high is not None:
        schema["maximum"] = high
    return Meta(extra_json_schema=schema)


def _one_of(*values: str) -> Meta:
    return Meta(extra_json_schema={"enum": list(values)})


Integer = Annotated[Number | None, _number(is_integer=True)]
PositiveInteger = Annotated[Number | None, _number(1, is_integer=True)]
Penalty = Annotated[Number | None, _number(-2, 2)]


class CacheControl(Struct):
    type: str | None = None
    ttl: str | None = None


class ImageUrl(Struct):
    url: str | None = None
    detail: Annotated[str | None, _one_of("low", "high", "auto")] = None


class InputAudio(Struct):
    data: str | None = None
    format: str | None = None


class File(Struct):
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None
    file_type: str | None = None


class ContentPart(Struct):
    type: Annotated[str | None, _one_of("text", "refusal", "image_url", "input_audio", "file")] = None
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | None = None
    input_audio: InputAudio | None = None
    file: File | None = None
    cache_control: CacheControl | None = None


class CalledFunction(Struct):
    name: str | None = None
    arguments: str | None = None
    """Not parsed: models write broken JSON at times."""


class ToolCall(Struct):
    index: Integer = None
    id: str | None = None
    type: str | None = None
    function: CalledFunction | None = None
    custom: dict[str, Any] | None = None


class ReasoningDetail(Struct):
    """Kept as it came: signatures must survive."""

    id: str | None = None
    index: Integer = None
    type: str | None = None
    summary: Any = None
    text: str | None = None
    signature: str | None = None
    data: Any = None


class MessageAudio(Struct):
    id: str | None = None
    data: str | None = None
    expires_at: Number | None = None
    transcript: str | None = None


class UrlCitation(Struct):
    start_index: Integer = None
    end_index: Integer = None
    title: str | None = None
    url: str | None = None
    sources: Any = None
    type: str | None = None


class Annotation(Struct):
    type: str | None = None
    url_citation: UrlCitation | None = None


class ChatMessage(Struct):
    role: Annotated[str | None, _one_of("assistant", "user", "system", "tool", "developer")] = None
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[ReasoningDetail] | None = None
    tool_calls: list[ToolCall] | None = None
    audio: MessageAudio | None = None
    annotations: list[Annotation] | None = None


class FunctionTool(Struct):
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | str | None = None
    strict: bool | None = None


class Grammar(Struct):
    definition: str | None = None
    syntax: Annotated[str | None, _one_of("lark", "regex")] = None


class CustomFormat(Struct):
    type: str | None = None
    grammar: Grammar | None = None


class CustomTool(Struct):
    name: str | None = None
    description: str | None = None
    format: CustomFormat | None = None


class Tool(Struct):
    type: Annotated[str | None, _one_of("function", "custom")] = None
    function: FunctionTool | None = None
    custom: CustomTool | None = None
    cache_control: CacheControl | None = None


class NamedTool(Struct):
    name: str | None = None


class AllowedTools(Struct):
    mode: Annotated[str | None, _one_of("auto", "required")] = None
    tools: list[dict[str, Any]] | None = None


class ToolChoice(Struct):
    type: Annotated[
        str | None, _one_of("none", "auto", "any", "required", "function", "custom", "allowed_tools")
    ] = None
    function: NamedTool | None = None
    custom: NamedTool | None = None
    allowed_tools: AllowedTools | None = None


class Reasoning(Struct):
    enabled: bool | None = None
    effort: str | None = None
    max_tokens: PositiveInteger = None
    display: str | None = None


class StreamOptions(Struct):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Prediction(Struct):
    type: Annotated[str | None, _one_of("content")] = None
    content: str | list[ContentPart] | None = None


class ApproximateLocation(Struct):
    city: str | None = None
    country: str | None = None
    region: str | None = None
    timezone: str | None = None


class UserLocation(Struct):
    type: str | None = None
    approximate: ApproximateLocation | None = None


class WebSearchOptions(Struct):
    search_context_size: str | None = None
    user_location: UserLocation | None = None


class AudioOutput(Struct):
    format: str | None = None
    voice: Any = None


class ChatRequest(Struct):
    """Body of ``POST /v1/async/chat/completions``. ``null`` counts as absent; unknown members are allowed."""

    model: Annotated[
        str | None,
        Meta(description="`provider/model`, or a bare model name", examples=["openai/gpt-4o-mini"]),
    ] = None
    messages: Annotated[
        list[ChatMessage] | None, Meta(description="The conversation, at least one message")
    ] = None
    fallbacks: Annotated[
        list[str] | None,
        Meta(
            description="`provider/model` strings to try in order when the model fails",
            extra_json_schema={"maxItems": MOST_FALLBACKS},
        ),
    ] = None
    stream: Annotated[bool | None, Meta(description="Must be false or absent: jobs do not stream")] = None
    frequency_penalty: Penalty = None
    logit_bias: dict[str, Number] | None = None
    logprobs: bool | None = None
    max_completion_tokens: PositiveInteger = None
    max_tokens: Annotated[
        Number | None,
        Meta(
            description="Older name of `max_completion_tokens`",
            extra_json_schema={"type": "integer", "minimum": 1},
        ),
    ] = None
    metadata: Annotated[dict[str, Any] | None, Meta(description="Any values, at most 16 KiB")] = None
    modalities: list[str] | None = None
    n: PositiveInteger = None
    parallel_tool_calls: bool | None = None
    presence_penalty: Penalty = None
    prompt_cache_key: str | None = None
    reasoning: Reasoning | None = None
    reasoning_effort: Annotated[str | None, Meta(description="Alias of `reasoning.effort`")] = None
    reasoning_max_tokens: Annotated[
        Number | None,
        Meta(
            description="Alias of `reasoning.max_tokens`", extra_json_schema={"type": "integer", "minimum": 1}
        ),
    ] = None
    response_format: dict[str, Any] | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    temperature: Annotated[Number | None, _number(0, 2)] = None
    tool_choice: str | ToolChoice | None = None
    tools: list[Tool] | None = None
    seed: Annotated[Number | None, _number(-(2**63), 2**63 - 1, is_integer=True)] = None
    top_p: Annotated[Number | None, _number(0, 1)] = None
    top_logprobs: Annotated[Number | None, _number(0, 20, is_integer=True)] = None
    stop: Annotated[str | list[str] | None, Meta(extra_json_schema={"maxItems": MOST_STOPS})] = None
    prediction: Prediction | None = None
    prompt_cache_retention: Annotated[str | None, _one_of("in-memory", "24h")] = None
    web_search_options: WebSearchOptions | None = None
    audio: AudioOutput | None = None
    truncation: str | None = None
    user: str | None = None
    verbosity: Annotated[str | None, _one_of("low", "medium", "high")] = None
