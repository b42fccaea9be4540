"""A script at work: which rule answers a call, what it decides, and what it has counted so far."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from tidegate.mock_vendor.clock import Chance
from tidegate.mock_vendor.script import MODELS, Latency, RateLimit, Rule, Script


@final
class Playbook:
    """Chooses the rule of each call. Counts live as long as the script does."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._rules = [ActiveRule(rule) for rule in (*script.rules, *MODELS, script.default)]
        self._last_resort = ActiveRule(Rule())

    def choose(self, model: str, api_key: str) -> "ActiveRule":
        for active in self._rules:
            if active.takes(model, api_key):
                return active
        return self._last_resort

    def models(self) -> list[str]:
        """Every model that is named without a pattern, once."""
        names = (active.rule.model for active in self._rules)
        return list(dict.fromkeys(name for name in names if "*" not in name))


@final
class ActiveRule:
    """One rule with its counts."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.is_plain = _is_plain(rule)
        """Nothing but an answer, at once: the way that has to be fast."""
        self._model = _pattern(rule.model)
        self._api_key = _pattern(rule.api_key)
        self._left = math.inf if rule.first is None else rule.first
        self._bucket = Bucket(rule.rate_limit) if rule.rate_limit else None
        self._running = 0

    def takes(self, model: str, api_key: str) -> bool:
        """Whether the call is this rule's; if so it is counted."""
        if not (self._left and _matches(self._model, model) and _matches(self._api_key, api_key)):
            return False
        self._left -= 1
        return True

    def refusal(self, now: float) -> str | None:
        """Why this call gets 429. Ask while the call is counted as running."""
        if self._bucket is not None and not self._bucket.take(now):
            return "Rate limit reached for requests"
        if self.is_crowded and self.rule.over_limit == "refuse":
            return "Too many concurrent requests"
        return None

    @property
    def is_crowded(self) -> bool:
        limit = self.rule.concurrency_limit
        return limit is not None and self._running > limit

    @contextmanager
    def running(self) -> Iterator[None]:
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


@final
class Bucket:
    """A token bucket: full at the start. ``now`` is in seconds that never jump."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._tokens = float(limit.burst)
        self._filled_at = -math.inf

    def take(self, now: float) -> bool:
        gained = (now - self._filled_at) * self._limit.requests_per_second
        self._tokens = min(float(self._limit.burst), self._tokens + gained)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def seconds_of(latency: float | Latency, chance: Chance) -> float:
    if not isinstance(latency, Latency):
        return latency
    if latency.mean is not None and latency.sigma is not None:
        # The mean of a lognormal distribution lies sigma²/2 above its median, on the logarithmic scale.
        return chance.lognormvariate(math.log(latency.mean) - latency.sigma**2 / 2, latency.sigma)
    return chance.uniform(latency.min or 0.0, latency.max or 0.0)


def _is_plain(rule: Rule) -> bool:
    return rule == Rule(model=rule.model, api_key=rule.api_key, first=rule.first, tokens=rule.tokens)


def _pattern(text: str) -> str | re.Pattern[str] | None:
    """Text to compare with, a pattern, or ``None`` for anything."""
    if text == "*":
        return None
    if "*" not in text:
        return text
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)


def _matches(pattern: str | re.Pattern[str] | None, text: str) -> bool:
    if pattern is None:
        return True
    if isinstance(pattern, str):
        return pattern == text
    return pattern.fullmatch(text) is not None
