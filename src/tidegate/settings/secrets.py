"""Secrets of the configuration: from an environment variable, from a file, or as they stand."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tidegate.domain.secret import Secret
from tidegate.settings.kinds import Hidden, has_controls, type_of
from tidegate.settings.problems import Code, Refused, did_you_mean, quoted

_ENVIRONMENT: Final = re.compile(r"(?:env\.|os\.environ/)(.*)", re.DOTALL)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FILE_PREFIX: Final = "file:"
_VAULT: Final = re.compile(r"vault\.[\w/.#-]+", re.ASCII)
_LARGEST_FILE: Final = 64 << 10
_OBJECT_MEMBERS: Final = frozenset({"value", "ref", "type", "env_var", "from_env"})


class FoundSecret(Struct, frozen=True):
    """A secret, and the reference it came by; none for one that stood there in clear."""

    secret: Secret | None
    reference: str = ""


class SecretReader:
    """Resolves what stands in a secret's place. No message ever quotes it, unless it is a reference."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._environ = environ
        self._folder = folder

    def read(self, kind: Hidden, value: object) -> FoundSecret:
        """Raises ``Refused``."""
        if isinstance(value, dict):
            value = _from_object(value)
        if not isinstance(value, str):
            raise Refused(Code.WRONG_TYPE, f"Wrong type: found {type_of(value)}.")
        if _VAULT.fullmatch(value):
            raise Refused(
                Code.UNSUPPORTED,
                "References to a vault are not supported by this version.",
                "Use env.NAME or file:PATH",
            )
        if match := _ENVIRONMENT.fullmatch(value):
            return FoundSecret(_checked(kind, self._variable(kind, match[1])), f"env.{match[1]}")
        if value.startswith(_FILE_PREFIX):
            return FoundSecret(_checked(kind, self._file(kind, value)), value)
        if not value.strip():
            if kind.may_be_empty:
                return FoundSecret(None)
            raise Refused(Code.MISSING_FIELD, "The secret is empty.", f"Set it, or remove {kind.owner}")
        return FoundSecret(_checked(kind, value))

    def _variable(self, kind: Hidden, name: str) -> str:
        if not _VARIABLE.fullmatch(name):
            raise Refused(
                Code.INVALID_VALUE,
                f"env.{name if len(name) <= 40 and name.isprintable() else '…'} names no variable.",
                "Write env. and letters, digits and _",
            )
        value = self._environ.get(name)
        if value is not None and value.strip():
            return value
        state = "is not set" if value is None else "is empty"
        near = did_you_mean(name, (known for known, text in self._environ.items() if text.strip()))
        raise Refused(
            Code.ENV_MISSING,
            f"env.{name} {state}.",
            f"Set the variable, or remove {kind.owner}",
            near.replace("Did you mean ", "Did you mean env.").replace("?", " (set)?"),
        )

    def _file(self, kind: Hidden, reference: str) -> str:
        name = reference.removeprefix(_FILE_PREFIX)
        try:
            with (self._folder / name).open("rb") as file:
                content = file.read(_LARGEST_FILE + 1)
            text = content.decode().rstrip("\r\n")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a path, or not text"
            raise Refused(
                Code.UNREADABLE,
                f"{_FILE_PREFIX}{quoted(name)} cannot be read: {reason}.",
                "Name a file relative to the configuration file",
            ) from error
        if len(content) > _LARGEST_FILE or not text.strip():
            state = "is empty" if not text.strip() else "is too large for a secret"
            raise Refused(
                Code.MISSING_FIELD if not text.strip() else Code.OUT_OF_RANGE,
                f"{_FILE_PREFIX}{quoted(name)} {state}.",
                f"Write the secret into the file, or remove {kind.owner}",
            )
        return text


def _from_object(value: Mapping[Any, Any]) -> object:
    """Bifrost's long form: ``{"env_var": "NAME", "from_env": true}`` or ``{"type": "env", "ref": "NAME"}``."""
    if not set(value) <= _OBJECT_MEMBERS:
        return value
    text, kind = value.get("value", ""), value.get("type", "")
    if value.get("from_env") is True or kind == "env":
        text = value.get("env_var") or value.get("ref") or text
        return text if not isinstance(text, str) or text.startswith("env.") else f"env.{text}"
    if kind == "vault":
        return f"vault.{value.get('ref', text)}"
    return text


def _checked(kind: Hidden, text: str) -> Secret:
    if has_controls(text, allowed="\n\r\t" if kind.may_have_lines else ""):
        raise Refused(
            Code.INVALID_VALUE, "The secret holds a line break or a control character.", "Remove it"
        )
    if text != text.strip() and not kind.may_have_lines:
        raise Refused(Code.INVALID_VALUE, "The secret begins or ends with white space.", "Remove it")
    return Secret(text)
