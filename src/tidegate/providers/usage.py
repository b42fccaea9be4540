"""How many tokens a reply cost, as its vendor reports it."""

from typing import Any, Final

from tidegate.domain.inference import Usage

_LARGEST: Final = 2**53
"""More than that is noise, and would not fit where counts are stored."""
_NAMES_FOR_CACHED: Final = ("prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens")
"""DeepSeek, Mistral, Together: the same number under names of their own."""


def take_usage(body: dict[str, Any]) -> Usage | None:
    """The token counts, put right in ``body`` too: reported ones only, and the sum of those."""
    usage = body.get("usage")
    if not isinstance(usage, dict) or not usage:
        body.pop("usage", None)
        return None
    _name_cached_tokens(usage)
    if isinstance(usage.get("cost"), int | float):
        # OpenRouter reports one number where the contract has a record; its credits are US dollars.
        usage["cost"] = {"total_cost": usage["cost"]}
    prompt = _take_count(usage, "prompt_tokens")
    completion = _take_count(usage, "completion_tokens")
    total = _take_count(usage, "total_tokens")
    if prompt is None and completion is None and total is None:
        return None
    if total is None:
        total = usage["total_tokens"] = (prompt or 0) + (completion or 0)
    return Usage(prompt or 0, completion or 0, total)


def _take_count(usage: dict[str, Any], name: str) -> int | None:
    count = whole_number(usage.get(name))
    if count is not None:
        usage[name] = count
    return count


def _name_cached_tokens(usage: dict[str, Any]) -> None:
    details = usage.get("prompt_tokens_details")
    if isinstance(details, dict) and "cached_tokens" in details:
        return
    for name in _NAMES_FOR_CACHED:
        cached = whole_number(usage.get(name))
        if cached is not None:
            known = details if isinstance(details, dict) else {}
            usage["prompt_tokens_details"] = {**known, "cached_tokens": cached}
            return


def whole_number(value: object) -> int | None:
    """A number of things; some vendors count in floats."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < _LARGEST and value == int(value) else None
