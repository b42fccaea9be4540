"""The kinds of single values a setting may have: how each is read, shown, described and put into a schema."""

import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tidegate.domain.secret import Secret
from tidegate.settings.problems import Code, Refused, quoted

_REFERENCE: Final = re.compile(r"(env\.|os\.environ/)[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LARGEST_SHOWN: Final = 10**18


def type_of(value: object) -> str:
    """What a value is, without saying what it says: it may be a secret in the wrong place."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case dict():
            return "an object"
        case list():
            return "a list"
        case date():
            return "a date"
        case _:
            return "something else"


def found(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() if abs(value) >= _LARGEST_SHOWN:
            return "a very large number"
        case int() | float():
            return str(value)
        case str():
            return quoted(value)
        case _:
            return type_of(value)


def wrong_type(value: object) -> Refused:
    return Refused(Code.WRONG_TYPE, f"Wrong type: found {found(value)}.")


def out_of_range(value: object) -> Refused:
    return Refused(Code.OUT_OF_RANGE, f"Out of range: found {found(value)}.")


class Kind(Struct, frozen=True):
    """What all kinds share; the defaults suit text. All but ``Hidden`` also ``read``, or raise ``Refused``."""

    @property
    def name(self) -> str:
        return "text"

    def parse(self, text: str) -> object:
        """What text from a variable or flag stands for; unchanged if it stands for nothing, to be refused."""
        return text

    def show(self, value: Any) -> object:
        """The plain value that reads back as the same."""
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string"}


class Text(Kind, frozen=True):
    """A string, perhaps of a certain form."""

    shortest: int = 0
    longest: int | None = None
    pattern: str | None = None
    form: str = ""
    """The pattern in words."""
    has_lines: bool = False
    is_private: bool = False
    """Never quoted: URLs may hold a password."""

    @property
    def allowed(self) -> str:
        if self.form:
            return self.form
        if self.longest is not None:
            return f"text of {self.shortest} to {self.longest} characters"
        return "text that is not empty" if self.shortest else "text"

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            reason = wrong_type(value)
            if isinstance(value, bool | int | float | date):
                reason.message += " Write it in quotes."
            raise reason
        if _REFERENCE.fullmatch(value):
            raise Refused(
                Code.UNSUPPORTED,
                f"Found {quoted(value)}: references are read for secrets only.",
                "Write the value, or set it through its TIDEGATE__… variable.",
            )
        if len(value) < self.shortest or (self.longest is not None and len(value) > self.longest):
            raise Refused(Code.OUT_OF_RANGE, f"Too short or too long: found {self._found(value)}.")
        if not self._is_clean(value) or (self.pattern is not None and not re.fullmatch(self.pattern, value)):
            raise Refused(Code.INVALID_VALUE, f"Invalid value: found {self._found(value)}.")
        return value

    def _found(self, value: str) -> str:
        return type_of(value) if self.is_private else quoted(value)

    def _is_clean(self, value: str) -> bool:
        """No control characters: names travel into headers, logs and terminals."""
        return not has_controls(value, allowed="\n\t" if self.has_lines else "")

    def json_schema(self) -> dict[str, Any]:
        limits = {"minLength": self.shortest or None, "maxLength": self.longest, "pattern": self.pattern}
        return {"type": "string"} | given(limits)


class Truth(Kind, frozen=True):
    """True or false; no number and no word stands for it."""

    @property
    def name(self) -> str:
        return "boolean"

    @property
    def allowed(self) -> str:
        return "true or false"

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise wrong_type(value)
        return value

    def parse(self, text: str) -> object:
        return {"true": True, "false": False}.get(text.lower(), text)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class Number(Kind, frozen=True):
    """A number within bounds."""

    most: float
    least: float | None = None
    above: float | None = None
    is_whole: bool = False

    @property
    def name(self) -> str:
        return "integer" if self.is_whole else "number"

    @property
    def allowed(self) -> str:
        noun = "a whole number" if self.is_whole else "a number"
        if self.least is not None:
            return f"{noun} from {plain(self.least)} to {plain(self.most)}"
        return f"{noun} above {self.above:g} up to {plain(self.most)}"

    def read(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int if self.is_whole else int | float):
            raise wrong_type(value)
        if (isinstance(value, float) and not math.isfinite(value)) or not self._holds(value):
            raise out_of_range(value)
        return value if self.is_whole else float(value)

    def _holds(self, value: float) -> bool:
        return (
            abs(value) < _LARGEST_SHOWN
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and value <= self.most
        )

    def parse(self, text: str) -> object:
        return number_in(text)

    def json_schema(self) -> dict[str, Any]:
        limits = {"minimum": self.least, "maximum": self.most, "exclusiveMinimum": self.above}
        return {"type": self.name} | given(limits)


class Choice(Kind, frozen=True):
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return f"one of {', '.join(self.words)}"

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise wrong_type(value)
        if value not in self.words:
            raise Refused(Code.INVALID_VALUE, f"Invalid value: found {quoted(value)}.")
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


class FilePath(Kind, frozen=True):
    """A path; a relative one counts from the working directory."""

    @property
    def name(self) -> str:
        return "path"

    @property
    def allowed(self) -> str:
        return "a path, as text"

    def read(self, value: object) -> Path:
        if not isinstance(value, str):
            raise wrong_type(value)
        return absolute(value)

    def show(self, value: Path) -> object:
        return str(value)


class Moment(Kind, frozen=True):
    """A point in time with its offset."""

    @property
    def name(self) -> str:
        return "time"

    @property
    def allowed(self) -> str:
        return "a time with its offset, such as 2027-01-31T00:00:00Z"

    def read(self, value: object) -> datetime:
        moment = _moment(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            raise wrong_type(value)
        if moment.utcoffset() is None:
            raise Refused(Code.INVALID_VALUE, "The time has no offset.")
        return moment

    def show(self, value: datetime) -> object:
        return value.isoformat()

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


class Hidden(Kind, frozen=True):
    """A secret. It is read where the environment is known; here is how it looks from outside."""

    owner: str
    """What to remove when the secret is not wanted."""
    may_be_empty: bool = False
    """An empty literal counts as absent, and a later check decides whether it was needed."""
    may_have_lines: bool = False
    """Keys in PEM form do; nothing that travels in a header does."""

    @property
    def name(self) -> str:
        return "secret"

    @property
    def allowed(self) -> str:
        return "env.NAME, file:PATH or the secret itself, as text"

    def show(self, value: Secret) -> object:
        return "***"

    def json_schema(self) -> dict[str, Any]:
        return {"type": ["string", "object"]}


def has_controls(text: str, *, allowed: str = "") -> bool:
    """Control characters, or half a character, which a variable that is not UTF-8 brings along."""
    return any(
        (character < " " or character == "\x7f" or "\ud800" <= character <= "\udfff")
        and character not in allowed
        for character in text
    )


def number_in(text: str) -> object:
    """The number that a text from outside writes, else the text."""
    if re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"-?\d{1,18}\.\d{1,18}", text, re.ASCII):
        return float(text)
    return text


def absolute(text: str) -> Path:
    """Raises ``Refused`` for what cannot be a path."""
    if not text or "\0" in text:
        raise Refused(Code.INVALID_VALUE, f"Not a path: found {quoted(text)}.")
    try:
        return Path(text).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or no name a file can have
        raise Refused(Code.INVALID_VALUE, f"Not a usable path: found {quoted(text)}.") from error


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Refused(Code.INVALID_VALUE, f"Not a time: found {quoted(text)}.") from None


def plain(number: float) -> object:
    return int(number) if number == int(number) else number


def given(limits: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in limits.items() if value is not None}
