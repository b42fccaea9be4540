"""What can be wrong with a configuration: the codes, one problem, and the error that carries all of them."""

import difflib
import re
import textwrap
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

Trail = tuple[str | int, ...]
"""The way to a value in a document: member names and list positions."""


class Code(StrEnum):
    """Stable slugs of configuration problems."""

    UNREADABLE = "config_unreadable"
    """A file cannot be read, or is not valid in its format."""
    UNKNOWN_FIELD = "config_unknown_field"
    """There is no setting of this name."""
    DUPLICATE = "config_duplicate"
    """A member is given twice, or two entries share a name, an id or a secret that must be unique."""
    MISSING_FIELD = "config_missing_field"
    """A required setting is absent or empty."""
    WRONG_TYPE = "config_wrong_type"
    """Text where a number is expected, a list where an object is expected, and so on."""
    INVALID_VALUE = "config_invalid_value"
    """The type is right, the value is none of the allowed ones."""
    OUT_OF_RANGE = "config_out_of_range"
    """A number, duration, size or text is too small, too large, too short or too long."""
    CONFLICT = "config_conflict"
    """Settings that are fine alone contradict each other."""
    UNKNOWN_PROVIDER = "config_unknown_provider"
    """No such provider is known."""
    UNSUPPORTED = "config_unsupported"
    """The setting, or the value, belongs to something this version does not do."""
    ENV_MISSING = "config_env_missing"
    """A referenced environment variable is unset or empty."""
    WEAK_SECRET = "config_weak_secret"  # noqa: S105 – a slug, not a secret
    """A secret is too short for what it protects."""
    LITERAL_SECRET = "config_literal_secret"  # noqa: S105 – a slug, not a secret
    """A secret stands in clear in the file although ``security.strict_secrets`` forbids it."""


class Problem(Struct, frozen=True):
    """One thing that is wrong: where, what was found, what is allowed."""

    path: str
    """The setting, such as ``providers.openai.keys[0].value``; empty for the file as a whole."""
    place: str
    """``file:line:column`` as far as the format tells, or the variable or flag."""
    message: str
    allowed: str
    """What is allowed, or the next step."""
    hint: str
    """A near name, as a question; often empty."""
    code: Code

    def __str__(self) -> str:
        heading = _printable("  ".join(part for part in (self.place, self.path) if part))
        sentence = f"{self.message} {self.hint}".rstrip()
        *lines, last = textwrap.wrap(self.allowed, _WIDTH)
        return "\n  ".join((heading, sentence, *lines, f"{last:<60} [{self.code}]"))


class SettingsError(Exception):
    """The configuration does not hold. Carries every problem, in the order of the document."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n\n".join(str(problem) for problem in self.problems)


class Refused(Exception):
    """A value cannot be used, before anyone has said where it stood."""

    def __init__(self, code: Code, message: str, allowed: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.allowed = allowed
        self.hint = hint


_WIDTH: Final = 98
_PLAIN_NAME: Final = re.compile(r"[\w$<>*-]+", re.ASCII)


def dotted(trail: Trail) -> str:
    """``("providers", "openai", "keys", 0)`` as ``providers.openai.keys[0]``."""
    text = ""
    for step in trail:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_NAME.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{quoted(step)}]"
    return text


def quoted(text: str, *, longest: int = 60) -> str:
    """In double quotes, short, and without anything that could move a terminal's cursor."""
    shown = text if len(text) <= longest else f"{text[:longest]}…"
    return f'"{_printable(shown)}"'


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like ``name``, if any is like it at all."""
    by_fold = {candidate.casefold(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.casefold(), by_fold, n=1, cutoff=0.6)
    return by_fold[matches[0]] if matches else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    match = nearest(name, candidates)
    return f"Did you mean {match}?" if match else ""
