"""``tidegate keys``: virtual keys of a running gateway."""

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import quote, urlencode

from cyclopts import App, Parameter, Token
from cyclopts.validators import Number

from tidegate.cli.client import GatewayClient, GatewayRefused
from tidegate.cli.connect import connect
from tidegate.cli.exits import CliError, Exit
from tidegate.cli.options import (
    DEFAULT_CONNECTION,
    DEFAULT_OUTPUT,
    DURATION_FORM,
    Connection,
    Duration,
    Flag,
    Output,
    examples,
    read_duration,
)
from tidegate.cli.screen import Screen, may_ask
from tidegate.clock import SystemClock

PATH: Final = "/api/governance/virtual-keys"
_PAGE: Final = 200

app = App(
    name="keys",
    help_prologue=examples(
        "tidegate keys create --name search-team --allow openai/gpt-4o-mini", "tidegate keys list"
    ),
)


def _convert_when(_type: Any, tokens: Sequence[Token]) -> datetime:
    """A date, a time, or how long from now."""
    text = tokens[0].value
    distance = read_duration(text)
    if distance is not None:
        return SystemClock().now() + distance
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise ValueError(f'"{text}" is neither a time such as 2027-01-31T12:00 nor {DURATION_FORM}') from None


def _convert_grant(_type: Any, tokens: Sequence[Token]) -> list[tuple[str, str]]:
    grants = []
    for token in tokens:
        provider, slash, model = token.value.partition("/")
        if not (provider and slash and model):
            raise ValueError(
                f'"{token.value}" is not provider/model; write {token.value or "openai"}/* for every model'
            )
        grants.append((provider, model))
    return grants


When = Annotated[datetime, Parameter(converter=_convert_when, n_tokens=1, metavar="WHEN")]
Grants = Annotated[list[tuple[str, str]], Parameter(converter=_convert_grant, n_tokens=1, metavar="MODEL")]
Which = Annotated[str, Parameter(help="Id or name of the key.")]


@app.command(
    help_prologue=examples(
        "tidegate keys create --name search-team",
        "tidegate keys create --name nightly --allow 'openai/*' --expires 30d",
    )
)
def create(
    *,
    name: Annotated[str, Parameter(help="Unique name.")],
    allow: Annotated[
        Grants | None,
        Parameter(help="provider/model it may use, or 'provider/*'; repeatable. Without any: everything."),
    ] = None,
    expires: Annotated[When | None, Parameter(help="A time, or a duration from now.")] = None,
    weight: Annotated[
        float | None, Parameter(help="Share of a provider when keys compete; 1 by default.")
    ] = None,
    priority_ceiling: Annotated[
        int | None, Parameter(help="Best priority of its jobs.", validator=Number(gte=1, lte=5))
    ] = None,
    result_ttl_max: Annotated[Duration | None, Parameter(help="Longest lifetime of its results.")] = None,
    description: Annotated[str | None, Parameter(help="For people.")] = None,
    connection: Connection = DEFAULT_CONNECTION,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Create a key and print its value, once: the gateway keeps only a digest."""
    screen = Screen(output)
    limits = {
        "weight": weight,
        "priority_ceiling": priority_ceiling,
        "result_ttl_max": None if result_ttl_max is None else result_ttl_max // timedelta(seconds=1),
    }
    body = {
        "name": name,
        "description": description,
        "provider_configs": None if allow is None else _grants(allow),
        "expires_at": None if expires is None else expires.isoformat(),
        "async": {member: value for member, value in limits.items() if value is not None} or None,
    }
    client = connect(connection, screen)
    reply = client.send("POST", PATH, {member: value for member, value in body.items() if value is not None})
    return _show_secret(reply.body["virtual_key"], screen)


@app.command(
    name="list", help_prologue=examples("tidegate keys list", "tidegate keys list --search team- --json")
)
def list_keys(
    *,
    search: Annotated[str, Parameter(help="Beginning of the name.")] = "",
    connection: Connection = DEFAULT_CONNECTION,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """List the keys by name."""
    screen = Screen(output)
    found = _pages(connect(connection, screen), search)
    if screen.is_json:
        screen.entries(found)
        return Exit.OK
    screen.table(
        ("ID", "NAME", "STATE", "VALUE", "EXPIRES", "CREATED"),
        [
            (
                key["id"],
                key["name"],
                "active" if key["is_active"] else "revoked",
                key["value_hint"],
                screen.moment(key.get("expires_at")),
                screen.moment(key["created_at"]),
            )
            for key in found
        ],
    )
    return Exit.OK


@app.command(
    help_prologue=examples("tidegate keys show search-team", "tidegate keys show search-team --json")
)
def show(
    which: Which, /, *, connection: Connection = DEFAULT_CONNECTION, output: Output = DEFAULT_OUTPUT
) -> int:
    """Show one key with its rights and limits; never its value."""
    screen = Screen(output)
    key = find_key(connect(connection, screen), which)
    if screen.is_json:
        screen.document(key)
        return Exit.OK
    limits = key.get("async", {})
    facts = {
        "id": key["id"],
        "name": key["name"],
        "description": key.get("description"),
        "state": "active" if key["is_active"] else "revoked",
        "value": key["value_hint"],
        "may use": _rights(key.get("provider_configs")),
        "weight": limits.get("weight"),
        "best priority": limits.get("priority_ceiling"),
        "longest result lifetime": _seconds(limits.get("result_ttl_max")),
        "expires": screen.moment(key.get("expires_at")),
        "created": screen.moment(key["created_at"]),
        "changed": screen.moment(key["updated_at"]),
    }
    screen.table(("MEMBER", "VALUE"), [(name, str(value)) for name, value in facts.items() if value])
    return Exit.OK


@app.command(
    help_prologue=examples(
        "tidegate keys revoke search-team", "tidegate keys revoke 019cadd6-a3fe-72d0-833c-352f8860e41f"
    )
)
def revoke(
    which: Which, /, *, connection: Connection = DEFAULT_CONNECTION, output: Output = DEFAULT_OUTPUT
) -> int:
    """Refuse the key from now on, with 403; its jobs stay."""
    screen = Screen(output)
    client = connect(connection, screen)
    path = _path_of(find_key(client, which))
    key = client.send("PUT", path, {"is_active": False}).body["virtual_key"]
    if screen.is_json:
        screen.document(key)
    else:
        screen.line(f"revoked {key['name']} ({key['id']})")
    return Exit.OK


@app.command(
    help_prologue=examples("tidegate keys rotate search-team", "tidegate keys rotate search-team --json")
)
def rotate(
    which: Which, /, *, connection: Connection = DEFAULT_CONNECTION, output: Output = DEFAULT_OUTPUT
) -> int:
    """Give the key a new value and print it, once. The old one is refused at once; id, limits and jobs stay."""
    screen = Screen(output)
    client = connect(connection, screen)
    reply = client.send("POST", f"{_path_of(find_key(client, which))}/rotate")
    return _show_secret(reply.body["virtual_key"], screen)


@app.command(
    help_prologue=examples(
        "tidegate keys delete old-team", "tidegate keys delete old-team --cancel-jobs --yes"
    )
)
def delete(
    which: Which,
    /,
    *,
    cancel_jobs: Annotated[Flag, Parameter(help="Cancel its unfinished jobs.")] = False,
    yes: Annotated[Flag, Parameter(help="Do not ask.")] = False,
    connection: Connection = DEFAULT_CONNECTION,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Remove the key: it is refused with 401, and its unfinished jobs fail when they are run."""
    screen = Screen(output)
    client = connect(connection, screen)
    key = find_key(client, which)
    if not yes and may_ask():
        _confirm(f"Delete the virtual key {key['name']} ({key['id']})?")
    deleted = client.send("DELETE", f"{_path_of(key)}?cancel_jobs={'true' if cancel_jobs else 'false'}")
    if screen.is_json:
        screen.document(deleted.body["virtual_key"])
    else:
        screen.line(f"deleted {key['name']} ({key['id']})")
    return Exit.OK


def find_key(client: GatewayClient, which: str) -> dict[str, Any]:
    """The key with this id, else with exactly this name. Raises ``CliError``."""
    try:
        found: dict[str, Any] = client.get(f"{PATH}/{quote(which, safe='')}").body["virtual_key"]
    except GatewayRefused as refused:
        if refused.status != 404:
            raise
        named = next((key for key in _pages(client, which) if key["name"] == which), None)
        return named if named is not None else _no_such_key(which)
    return found


def _pages(client: GatewayClient, search: str) -> Iterator[dict[str, Any]]:
    offset = 0
    while True:
        query = urlencode({"limit": _PAGE, "offset": offset, "search": search})
        page = client.get(f"{PATH}?{query}").body
        yield from page["virtual_keys"]
        offset += page["count"]
        if not page["count"] or offset >= page["total_count"]:
            return


def _path_of(key: dict[str, Any]) -> str:
    return f"{PATH}/{quote(key['id'], safe='')}"


def _no_such_key(which: str) -> NoReturn:
    raise CliError(
        f'no virtual key has the id or the name "{which}"; see `tidegate keys list`', Exit.NOT_FOUND
    )


def _confirm(question: str) -> None:
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CliError("Nothing was changed.", Exit.FAILED)


def _grants(allowed: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    models: dict[str, list[str]] = {}
    for provider, model in allowed:
        models.setdefault(provider, []).append(model)
    return [{"provider": provider, "allowed_models": names} for provider, names in models.items()]


def _rights(grants: list[dict[str, Any]] | None) -> str:
    if grants is None:
        return "everything"
    named = (f"{grant['provider']}/{model}" for grant in grants for model in grant.get("allowed_models", ()))
    return ", ".join(named) or "nothing"


def _seconds(count: int | None) -> str | None:
    return None if count is None else str(timedelta(seconds=count))


def _show_secret(key: dict[str, Any], screen: Screen) -> int:
    if screen.is_json:
        screen.document(key)
        return Exit.OK
    screen.note(f"{key['name']} ({key['id']}); the value is not shown again:")
    screen.line(key["value"])
    return Exit.OK
