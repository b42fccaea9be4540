"""What a refusal means: the status first, then its identifiers, the text of its message last.

Sources: recorded replies, the vendors' error pages and SDKs; named where the knowledge is one vendor's.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tidegate.domain.failures import FailureCode, code_of_status
from tidegate.providers.refusals import Refusal

_LONGEST_SEARCHED: Final = 4_000
_KEY: Final = FailureCode.KEY_REFUSED
_MODEL: Final = FailureCode.MODEL_NOT_FOUND
_LENGTH: Final = FailureCode.CONTEXT_LENGTH_EXCEEDED
_POLICY: Final = FailureCode.CONTENT_POLICY_VIOLATION

_RECOGNISABLE: Final[Mapping[int, frozenset[FailureCode]]] = MappingProxyType(
    {
        400: frozenset({_KEY, _MODEL, _LENGTH, _POLICY}),
        403: frozenset({_POLICY}),
        413: frozenset({_LENGTH}),
        422: frozenset({_KEY, _MODEL, _LENGTH, _POLICY}),
        429: frozenset({_KEY}),
    }
)
"""What a status may turn out to mean when the body says more."""

_BY_WORD: Final[Mapping[str, FailureCode]] = MappingProxyType(
    {
        # Google's compatible surface and xAI refuse a bad key with 400.
        **dict.fromkeys(("api_key_invalid", "authentication_error", "invalid_api_key"), _KEY),
        # Spent money comes as 429 and heals no sooner than a bad key: OpenAI's error page, Moonshot.
        **dict.fromkeys(
            (
                "billing_hard_limit_reached",
                "billing_not_active",
                "credit_balance_exhausted",
                "exceeded_current_quota_error",
                "insufficient_balance",
                "insufficient_quota",
                "organization_spend_limit_exceeded",
                "organization_usage_limit_exceeded",
                "project_spend_limit_exceeded",
            ),
            _KEY,
        ),
        # OpenAI's Responses answer 400 here; Mistral and Perplexity say invalid_model.
        **dict.fromkeys(("deploymentnotfound", "invalid_model", "model_not_found", "unknown_model"), _MODEL),
        # OpenAI, Perplexity, llama.cpp.
        **dict.fromkeys(
            (
                "context_length_exceeded",
                "exceed_context_size_error",
                "string_above_max_length",
                "too_many_prompt_tokens",
            ),
            _LENGTH,
        ),
        # OpenAI, Azure (its outer and its inner code), DashScope.
        **dict.fromkeys(
            (
                "content_filter",
                "content_policy_violation",
                "data_inspection_failed",
                "moderation_blocked",
                "responsibleaipolicyviolation",
            ),
            _POLICY,
        ),
    }
)
_BY_TEXT: Final = (
    (
        _KEY,
        re.compile(
            r"(?:incorrect|invalid|expired|wrong) api[ _-]?key|api[ _-]?key (?:is |was |has )?(?:not valid|invalid|expired)"
            r"|insufficient (?:account )?(?:quota|balance|credits?|funds)|(?:credit|account) balance"
            r"|spend(?:ing)? limit|out of credits|in arrears",
            re.IGNORECASE,
        ),
    ),
    (
        _LENGTH,
        re.compile(
            r"maximum (?:context|prompt|input) length|context (?:length|window|size)|too many (?:input|prompt) tokens"
            r"|(?:prompt|input|messages?|conversation) (?:is|are) too long|length of all messages is too long"
            r"|token count .{0,40}exceeds",
            re.IGNORECASE,
        ),
    ),
    (
        _MODEL,
        re.compile(
            r"\bmodel\b.{0,80}\b(?:does(?: not|n't) exist|not exist|not found|not available)|unknown model"
            r"|invalid model\b|not a valid model",
            re.IGNORECASE,
        ),
    ),
    (
        _POLICY,
        re.compile(
            r"content (?:management )?policy|content[ _-]filter|usage (?:policy|policies|guidelines)"
            r"|flagged (?:as|by|for)|safety system|inappropriate content",
            re.IGNORECASE,
        ),
    ),
)
_SOMETHING_ELSE: Final = re.compile(
    r"\b(?:file|image|audio|document|conversation|container|vector store)s?\b.{0,80}"
    r"\b(?:not found|does(?: not|n't) exist)|no such (?:file|image|document|container)",
    re.IGNORECASE,
)


def classify(
    status: int, refusal: Refusal, vendor_codes: Mapping[str, FailureCode] = MappingProxyType({})
) -> FailureCode:
    possible = _RECOGNISABLE.get(status, frozenset())
    for word in refusal.words:
        code = vendor_codes.get(word) or _BY_WORD.get(word)
        if code in possible:
            return code
    if possible:
        by_text = _by_text(refusal, possible)
        if by_text is not None:
            return by_text
    if status == 404 and _names_something_else(refusal):
        return FailureCode.UPSTREAM_REJECTED
    return code_of_status(status)


def _by_text(refusal: Refusal, possible: frozenset[FailureCode]) -> FailureCode | None:
    text = refusal.message[:_LONGEST_SEARCHED]
    for code, pattern in _BY_TEXT:
        # A message about a parameter quotes the caller, who must not be able to say that our key is bad.
        is_quotable = code is _KEY and refusal.param is not None
        if code in possible and not is_quotable and pattern.search(text):
            return code
    return None


def _names_something_else(refusal: Refusal) -> bool:
    if "model_not_found" in refusal.words or refusal.param == "model":
        return False
    text = refusal.message[:_LONGEST_SEARCHED]
    return refusal.param is not None or (
        _SOMETHING_ELSE.search(text) is not None and "model" not in text.lower()
    )


_STATUS_OF_WORD: Final[Mapping[str, int]] = MappingProxyType(
    {
        **dict.fromkeys(("invalid_request_error", *(w for w, c in _BY_WORD.items() if c is not _KEY)), 400),
        **dict.fromkeys(("authentication_error", "invalid_api_key"), 401),
        **dict.fromkeys(
            ("rate_limit_error", "rate_limit_exceeded", "too_many_requests", "insufficient_quota"), 429
        ),
        **dict.fromkeys(("api_error", "internal_server_error", "server_error"), 500),
        **dict.fromkeys(("overloaded_error", "service_unavailable"), 503),
    }
)


def embedded_status(refusal: Refusal) -> int | None:
    """The status an error would have had, when it arrives inside a good reply (OpenRouter)."""
    for word in refusal.words:
        if word.isdecimal() and 400 <= int(word[:4]) <= 599:
            return int(word[:4])
        if word in _STATUS_OF_WORD:
            return _STATUS_OF_WORD[word]
    return None
