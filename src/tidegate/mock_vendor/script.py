"""What the mock vendor is told to do: rules matched in order, read from YAML, TOML, JSON or a dict."""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import yaml
from msgspec import Meta, Struct

Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=0)]
AtLeastOne = Annotated[int, Meta(ge=1)]
Status = Annotated[int, Meta(ge=200, le=599)]
Where = Literal["before_headers", "in_body"]

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class ScriptError(Exception):
    """The script cannot be used; the message names the file and the path within it."""


class Latency(Struct, frozen=True, omit_defaults=True):
    """Seconds before the answer: uniform between ``min`` and ``max``, or lognormal around ``mean``."""

    min: Seconds | None = None
    max: Seconds | None = None
    mean: Positive | None = None
    sigma: Seconds | None = None
    """Standard deviation of the logarithm; 1 is a heavy tail."""

    def __post_init__(self) -> None:
        given = tuple(name for name in self.__struct_fields__ if getattr(self, name) is not None)
        if given not in {("min", "max"), ("mean", "sigma")}:
            raise ValueError("a latency takes either min and max, or mean and sigma")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")


class RateLimit(Struct, frozen=True, omit_defaults=True):
    """Calls beyond this are answered with 429."""

    requests_per_second: Positive
    burst: AtLeastOne = 1


class Bomb(Struct, frozen=True, omit_defaults=True):
    """A body of zeros that is small on the wire and ``size`` bytes when decompressed."""

    size: AtLeastOne
    encoding: Literal["gzip", "deflate"] = "gzip"


class Rule(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which calls are meant, and how they are answered. Without any member: at once, with an echo."""

    model: str = "*"
    """Exact name, or with ``*`` for any run of characters."""
    api_key: str = "*"
    """The bearer token of the call, written like ``model``."""
    first: AtLeastOne | None = None
    """Only the first N calls that match; later ones go on to the next rule."""

    latency: Seconds | Latency = 0.0
    rate_limit: RateLimit | None = None
    concurrency_limit: AtLeastOne | None = None
    over_limit: Literal["refuse", "count"] = "refuse"
    """What happens to calls above ``concurrency_limit``: 429, or an answer and a count in the journal."""
    fail_rate: Share | None = None
    """The share of calls answered with ``fail_status``; then ``error`` and ``retry_after`` are theirs alone."""
    fail_status: Status = 503

    status: Status = 200
    headers: dict[str, str | list[str]] = {}
    retry_after: float | str | None = None
    """Seconds, or any text to be sent as it stands."""
    error: dict[str, Any] | str | None = None
    """The body instead of an answer: an object, or text such as a proxy's HTML page."""
    body: str | None = None
    """The body to send as it stands; empty text is an empty body."""
    size: Count | None = None
    """Bytes of content instead of the echo."""
    tokens: Count | None = None
    """Completion tokens to report."""
    finish_reason: str = "stop"

    hang: Where | None = None
    """Fall silent until the client leaves."""
    drip: Positive | None = None
    """Bytes per second of the body."""
    endless: bool = False
    """Repeat the body until the client leaves."""
    bomb: Bomb | None = None
    reset: Where | None = None
    """Break the connection (TCP RST)."""
    content_length_off_by: int = 0
    """Declare that many bytes more (or, below zero, fewer) than are sent, then close."""
    bad_chunk: bool = False
    """Send a chunk whose size is not a number, then close."""

    def __post_init__(self) -> None:
        for name, value in self.headers.items():
            _check_header(name, value)
        if isinstance(self.retry_after, str):
            _check_header("retry-after", self.retry_after)
        if self.endless and "" in (self.body, self.error):
            raise ValueError("endless needs a body to repeat")
        if self.endless and (
            self.bomb or self.size is not None or self.bad_chunk or self.content_length_off_by
        ):
            raise ValueError("endless goes with none of bomb, size, bad_chunk and content_length_off_by")


class Script(Struct, frozen=True, omit_defaults=True):
    """Rules in order of precedence. Models of the vendor (``echo`` and the like) come after them."""

    rules: tuple[Rule, ...] = ()
    default: Rule = Rule()
    """For every model that neither a rule nor the vendor knows."""

    def with_flags(self, *, latency: float | None, fail_rate: float | None) -> "Script":
        """The same script, slower or less reliable wherever nothing else is said: the default and ``echo``.

        Raises ``ScriptError`` for a value out of range.
        """
        changes = {
            name: value
            for name, value in {"latency": latency, "fail_rate": fail_rate}.items()
            if value is not None
        }
        if not changes:
            return self
        try:
            default = msgspec.convert({**msgspec.to_builtins(self.default), **changes}, Rule)
        except msgspec.ValidationError as error:
            raise ScriptError(f"flags: {error}") from error
        return Script((*self.rules, msgspec.structs.replace(default, model="echo")), default)


MODELS: Final = (
    Rule(model="echo"),
    Rule(model="slow", latency=2.0),
    Rule(model="flaky", fail_rate=0.3),
    Rule(model="fail", status=500),
    Rule(model="limited", rate_limit=RateLimit(requests_per_second=1, burst=3), retry_after=1),
)
"""How the models of the vendor itself behave, unless a script says otherwise."""

_NESTED: Final[Mapping[str, type[Struct]]] = {
    "rules": Rule,
    "default": Rule,
    "latency": Latency,
    "rate_limit": RateLimit,
    "bomb": Bomb,
}


def load_script(path: Path) -> Script:
    """Raises ``ScriptError``."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{path}: cannot be read: {error}") from error
    try:
        data = _parse(text, path.suffix)
    except (yaml.YAMLError, tomllib.TOMLDecodeError, msgspec.DecodeError) as error:
        raise ScriptError(f"{path}: {' '.join(str(error).split())}") from error
    return read_script(data, place=str(path))


def read_script(data: object, *, place: str = "script") -> Script:
    """Raises ``ScriptError``; ``place`` says in its message where the script came from."""
    try:
        _check_names(data, Script, "$")
        return msgspec.convert(data, Script)
    except (msgspec.ValidationError, ScriptError) as error:
        raise ScriptError(f"{place}: {error}") from error


def _parse(text: str, suffix: str) -> object:
    match suffix.lower():
        case ".yaml" | ".yml":
            return yaml.safe_load(text)
        case ".toml":
            return tomllib.loads(text)
        case _:
            return msgspec.json.decode(text)


def _check_names(data: object, kind: type[Struct], path: str) -> None:
    if not isinstance(data, dict):
        return
    for name, value in data.items():
        here = f"{path}.{name}"
        if name not in kind.__struct_fields__:
            raise ScriptError(f"{here} is not known; {_nearest(str(name), kind)}")
        inner = _NESTED.get(name)
        if inner is None:
            continue
        if isinstance(value, list):
            for index, item in enumerate(value):
                _check_names(item, inner, f"{here}[{index}]")
        else:
            _check_names(value, inner, here)


def _nearest(name: str, kind: type[Struct]) -> str:
    near = difflib.get_close_matches(name, kind.__struct_fields__, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(kind.__struct_fields__)}"


def _check_header(name: str, value: str | list[str]) -> None:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a header name")
    if name.lower() in {"content-length", "transfer-encoding", "x-request-id"}:
        raise ValueError(
            f"{name} is set by the server (for broken lengths see content_length_off_by, bad_chunk)"
        )
    for text in [value] if isinstance(value, str) else value:
        if not _HEADER_VALUE.fullmatch(text):
            raise ValueError(f"the value of header {name} holds characters that HTTP forbids")
