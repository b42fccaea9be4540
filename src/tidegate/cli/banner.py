"""What ``tidegate serve`` says when it is ready, and where the first secrets go."""

import json
import os
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tidegate import __version__
from tidegate.api import local_issuer
from tidegate.cli.connect import SUBJECT, address_text
from tidegate.cli.exits import CliError, Exit
from tidegate.cli.screen import Screen
from tidegate.cli.text import harmless
from tidegate.domain.secret import Secret
from tidegate.settings import Settings

KEY_FILE: Final = "first-virtual-key"
TOKEN_FILE: Final = "first-admin-token"  # noqa: S105 – the name of a file
_SIMULATED: Final = "mock"
_ECHO: Final = "echo"
_REMARKS: Final = {_SIMULATED: "simulated", "local": "while `tidegate local-model` runs"}
_QUESTION: Final = "When is high water at Dover today?"


class FirstSecrets(Struct, frozen=True):
    """Made at the very first start, and shown once."""

    key: Secret
    token: str | None
    """For an admin, for a day; ``None`` where there is no local issuer."""


class Start(Struct, frozen=True):
    """What there is to say about a gateway that has just become ready."""

    settings: Settings
    address: tuple[str, int]
    secrets: FirstSecrets | None
    lacks_keys: bool
    """Nobody could use it: no virtual key exists and there is none to be made by itself."""
    rescued: int

    @property
    def url(self) -> str:
        return address_text(*self.address)


def first_secrets(key: Secret, issuer_key: Secret | None, now: datetime) -> FirstSecrets:
    token = None
    if issuer_key is not None:
        token = local_issuer.mint(
            issuer_key,
            subject=SUBJECT,
            virtual_key=None,
            now=now,
            lifetime=local_issuer.LONGEST_LIFETIME,
        )
    return FirstSecrets(key, token)


def show(start: Start, screen: Screen) -> None:
    """On a terminal to who sits there, secrets included; elsewhere secrets go to files only we can read."""
    shows_secrets = screen.is_terminal and not screen.is_json
    files = {} if shows_secrets or start.secrets is None else _keep(start)
    if screen.is_json:
        screen.document(_document(start, files))
        return
    if screen.is_quiet and start.secrets is None:
        return
    text = "\n".join(_lines(start, files))
    stream = sys.stdout if screen.is_terminal else sys.stderr
    stream.write(f"{harmless(text)}\n")
    stream.flush()


def _keep(start: Start) -> dict[str, Path]:
    """The first secrets in files of their own, so that ``$(cat FILE)`` is one of them."""
    if start.secrets is None:
        return {}
    secrets = {KEY_FILE: start.secrets.key.reveal()}
    if start.secrets.token is not None:
        secrets[TOKEN_FILE] = start.secrets.token
    directory = start.settings.server.data_dir
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, secret in secrets.items():
            _write(directory / name, secret)
    except OSError as error:
        raise CliError(f"cannot write {error.filename or directory}: {error.strerror}", Exit.STORE) from error
    return {name: directory / name for name in secrets}


def _write(path: Path, secret: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        os.fchmod(handle, 0o600)
        file.write(f"{secret}\n")


def _document(start: Start, files: dict[str, Path]) -> dict[str, Any]:
    return {
        "version": __version__,
        "url": start.url,
        "docs": f"{start.url}/docs",
        "pid": os.getpid(),
        "providers": list(start.settings.providers),
        "rescued": start.rescued,
        "warnings": list(start.settings.warnings),
        "ignored": list(start.settings.ignored),
        "virtual_key_file": str(files[KEY_FILE]) if KEY_FILE in files else None,
        "admin_token_file": str(files[TOKEN_FILE]) if TOKEN_FILE in files else None,
        "curl": _curl(start, files),
    }


def _lines(start: Start, files: dict[str, Path]) -> list[str]:
    facts = {
        f"Tidegate {__version__}": start.url,
        "API reference": f"{start.url}/docs",
        "Providers": ", ".join(map(_named, start.settings.providers))
        or "none: name one in the configuration",
        "Data": start.settings.store.place,
    }
    if start.rescued:
        facts["Rescued"] = f"{start.rescued} jobs that the last process had left running"
    facts |= _secret_facts(start, files)
    lines = ["", *(f"  {name:<20} {value}" for name, value in facts.items())]
    lines += [f"  {'Warning':<20} {text}" for text in start.settings.warnings]
    lines += [f"  {'Ignored':<20} {text}" for text in start.settings.ignored]
    if start.lacks_keys:
        lines += ["", "No virtual key exists yet. Create one:", "", "  tidegate keys create --name first"]
    curl = _curl(start, files)
    if curl is not None:
        needs_key = start.secrets is None and start.settings.auth.required
        lines += [
            "",
            f"Try it{', with a virtual key in TIDEGATE_KEY' if needs_key else ''}:",
            "",
            f"  {curl}",
        ]
    return [*lines, ""]


def _secret_facts(start: Start, files: dict[str, Path]) -> dict[str, str]:
    secrets = start.secrets
    if secrets is None:
        return {}
    if files:
        facts = {"First virtual key": f"in {files[KEY_FILE]}"}
        return facts | ({"Admin token, 24 h": f"in {files[TOKEN_FILE]}"} if TOKEN_FILE in files else {})
    facts = {"First virtual key": f"{secrets.key.reveal()}  (not shown again)"}
    return facts | ({"Admin token, 24 h": secrets.token} if secrets.token is not None else {})


def _named(provider: str) -> str:
    return f"{provider} ({_REMARKS[provider]})" if provider in _REMARKS else provider


def _curl(start: Start, files: dict[str, Path]) -> str | None:
    """A line that works as it stands; ``None`` where nobody could submit, or to nobody."""
    model = _model(start.settings)
    if model is None or start.lacks_keys:
        return None
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": _QUESTION}]})
    parts = ["curl -sS", f"{start.url}/v1/async/chat/completions", *_credential(start, files)]
    parts += ['-H "Prefer: wait=30"', f"-d {shlex.quote(body)}"]
    return " ".join(parts)


def _credential(start: Start, files: dict[str, Path]) -> list[str]:
    if not start.settings.auth.required and start.secrets is None:
        return []
    bearer = "$TIDEGATE_KEY"
    if files:
        bearer = f"$(cat {shlex.quote(str(files[KEY_FILE]))})"
    elif start.secrets is not None:
        bearer = start.secrets.key.reveal()
    return [f'-H "Authorization: Bearer {bearer}"']


def _model(settings: Settings) -> str | None:
    """One that will answer: the mock's echo, else the first that a provider key names."""
    if _SIMULATED in settings.providers:
        return f"{_SIMULATED}/{_ECHO}"
    for name, provider in settings.providers.items():
        for key in provider.keys:
            named = [model for model in key.models if model != "*"]
            if named:
                return f"{name}/{named[0]}"
    return next((f"{name}/MODEL" for name in settings.providers), None)
