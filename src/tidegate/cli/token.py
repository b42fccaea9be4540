"""``tidegate token``: mint a token, or say rule by rule why one would be accepted or refused."""

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from cyclopts import App, Parameter
from joserfc import jwt

from tidegate.api import local_issuer
from tidegate.api.tokens import import_key
from tidegate.cli.configuration import require_settings
from tidegate.cli.connect import SUBJECT, connect, own_key
from tidegate.cli.exits import CliError, Exit
from tidegate.cli.keys import find_key
from tidegate.cli.options import (
    DEFAULT_OUTPUT,
    DEFAULT_SOURCE,
    Connection,
    Duration,
    Flag,
    Output,
    Source,
    examples,
)
from tidegate.cli.screen import Screen
from tidegate.cli.token_rules import Finding, findings
from tidegate.clock import SystemClock
from tidegate.domain.ids import epoch_ms, is_uuid
from tidegate.domain.secret import Secret
from tidegate.settings import IssuerSettings, Settings

_DEFAULT_LIFETIME: Final = timedelta(hours=1)
_MARKS: Final = {"ok": "ok     ", "failed": "FAILED ", "unchecked": "?      "}

app = App(
    name="token",
    help_prologue=examples("tidegate token mint --admin --ttl 10m", "tidegate token inspect TOKEN"),
)


@app.command(
    help_prologue=examples("tidegate token mint --key search-team --ttl 8h", "tidegate token mint --admin")
)
def mint(
    *,
    for_key: Annotated[
        str | None, Parameter(name="--key", help="Id or name of the virtual key that the token stands for.")
    ] = None,
    admin: Annotated[Flag, Parameter(help="A token for an administrator.")] = False,
    ttl: Annotated[
        Duration, Parameter(help="Lifetime, at most 24h.", show_default=False)
    ] = _DEFAULT_LIFETIME,
    subject: Annotated[str, Parameter(help="Who uses it: shown to administrators.")] = SUBJECT,
    issuer: Annotated[
        str | None,
        Parameter(
            help="An issuer of the configuration with an HS256 key, instead of the data directory's own."
        ),
    ] = None,
    url: Annotated[str | None, Parameter(help="The gateway to look a key's name up at.")] = None,
    source: Source = DEFAULT_SOURCE,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Print a fresh token. Lives one hour unless --ttl says otherwise."""
    if admin == (for_key is not None):
        raise CliError("say either --key NAME or --admin", Exit.USAGE)
    if not timedelta(seconds=1) <= ttl <= local_issuer.LONGEST_LIFETIME:
        raise CliError("--ttl lies between 1s and 24h", Exit.USAGE)
    settings = require_settings(source)
    screen = Screen(output)
    key_id = None
    if for_key is not None:
        key_id = _key_id(
            for_key, settings, Connection(config=source.config, data=source.data, url=url), screen
        )
    now = SystemClock().now()
    if issuer is None:
        token = local_issuer.mint(
            _own_key(settings), subject=subject, virtual_key=key_id, now=now, lifetime=ttl
        )
    else:
        token = _mint_as(_configured(issuer, settings), settings, subject, key_id, now, ttl)
    if screen.is_json:
        expires_at = (now + ttl).isoformat(timespec="seconds")
        screen.document({"token": token, "virtual_key": key_id, "expires_at": expires_at})
    else:
        screen.line(token)
    return Exit.OK


@app.command(
    help_prologue=examples("tidegate token inspect eyJhbGciOi…", "tidegate token inspect - < token.txt")
)
def inspect(
    token: Annotated[
        str,
        Parameter(
            help="The token; - reads stdin, where no process list shows it.", allow_leading_hyphen=True
        ),
    ],
    /,
    *,
    source: Source = DEFAULT_SOURCE,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Check a token against every rule of the gateway with this configuration; exit code 1 if it is refused."""
    settings = require_settings(source)
    screen = Screen(output)
    text = sys.stdin.read().strip() if token == "-" else token.strip()  # noqa: S105 – a dash, not a secret
    found = findings(
        text,
        [*settings.auth.jwt.issuers, *_own_issuer(settings)],
        settings.auth.jwt.claims,
        max_lifetime=settings.auth.jwt.max_lifetime,
        now=SystemClock().now(),
    )
    is_refused = any(finding.verdict == "failed" for finding in found)
    if screen.is_json:
        rules = [{"rule": one.rule, "verdict": one.verdict, "why": one.why} for one in found]
        screen.document({"accepted": not is_refused, "rules": rules})
    else:
        _show(found, screen, is_refused=is_refused)
    return Exit.FAILED if is_refused else Exit.OK


def _show(found: Sequence[Finding], screen: Screen, *, is_refused: bool) -> None:
    for one in found:
        screen.line(f"{_MARKS[one.verdict]} {one.rule:<12} {one.why}")
    if is_refused:
        screen.note("\nThe gateway would refuse this token.")
        return
    is_complete = all(one.verdict == "ok" for one in found)
    checked = "No rule" if is_complete else "No rule that can be checked here"
    screen.note(
        f"\n{checked} speaks against this token. Whether a virtual key is active, only the gateway knows."
    )


def _own_key(settings: Settings) -> Secret:
    if not settings.auth.local_issuer:
        raise CliError(
            "auth.local_issuer is false: name an issuer of the configuration with --issuer", Exit.NOT_ALLOWED
        )
    key = own_key(settings)
    if key is None and settings.store.is_shared:
        raise CliError(
            "on a PostgreSQL store the processes have no key of their own: set auth.local_issuer_key, "
            "or name an issuer of the configuration with --issuer",
            Exit.NOT_FOUND,
        )
    if key is None:
        raise CliError(
            f"{settings.server.data_dir} has no {local_issuer.FILE_NAME}: start the gateway once, "
            "or name its data directory with --data",
            Exit.NOT_FOUND,
        )
    return key


def _own_issuer(settings: Settings) -> list[IssuerSettings]:
    """The local issuer, described like those of the configuration."""
    if not settings.auth.local_issuer:
        return []
    return [
        IssuerSettings(
            iss=local_issuer.ISSUER,
            aud=local_issuer.AUDIENCE,
            algorithms=(local_issuer.ALGORITHM,),
            key=own_key(settings),
            kinds=local_issuer.KINDS,
        )
    ]


def _configured(name: str, settings: Settings) -> IssuerSettings:
    found = next((issuer for issuer in settings.auth.jwt.issuers if issuer.iss == name), None)
    if found is None:
        raise CliError(f'auth.jwt.issuers has no issuer "{name}"', Exit.NOT_FOUND)
    if found.key is None or found.algorithms != (local_issuer.ALGORITHM,):
        raise CliError(
            f'"{name}" has no HS256 key here: only its owner can mint its tokens', Exit.NOT_ALLOWED
        )
    return found


def _mint_as(
    issuer: IssuerSettings,
    settings: Settings,
    subject: str,
    key_id: str | None,
    now: datetime,
    ttl: timedelta,
) -> str:
    if issuer.key is None:
        raise ValueError("an issuer without a key was chosen")
    kind = "admin" if key_id is None else "virtual_key"
    if kind not in issuer.kinds:
        raise CliError(
            f'"{issuer.iss}" may not mint {kind} tokens: its kinds do not say so', Exit.NOT_ALLOWED
        )
    names, issued_at = settings.auth.jwt.claims, epoch_ms(now) // 1000
    claims: dict[str, Any] = {"iss": issuer.iss, "aud": issuer.aud, "sub": subject, "iat": issued_at}
    claims["exp"] = issued_at + ttl // timedelta(seconds=1)
    claims |= {names.role: names.admin_value} if key_id is None else {names.virtual_key: key_id}
    algorithm = issuer.algorithms[0]
    header = {"alg": algorithm} | ({"typ": issuer.typ} if issuer.typ is not None else {})
    return jwt.encode(header, claims, import_key(issuer.key.reveal(), algorithm), algorithms=[algorithm])


def _key_id(which: str, settings: Settings, connection: Connection, screen: Screen) -> str:
    """What the token has to name. A key of the configuration may go by its name, another only by its id."""
    for configured in settings.governance.virtual_keys:
        if which in {configured.id, configured.name}:
            return configured.id or configured.name
    if is_uuid(which):
        return which
    found: str = find_key(connect(connection, screen), which)["id"]
    return found
