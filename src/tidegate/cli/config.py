"""``tidegate config``: check the configuration, show it, print its schema."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from cyclopts import App, Parameter
from msgspec.structs import asdict

from tidegate.cli.configuration import configuration_file, read_settings, require_settings
from tidegate.cli.exits import CliError, Exit
from tidegate.cli.options import DEFAULT_OUTPUT, DEFAULT_SOURCE, Output, Source, examples
from tidegate.cli.screen import Screen
from tidegate.settings import Settings, SettingsError, json_schema
from tidegate.settings import show as described

_LEAF = frozenset({"value", "origin"})

app = App(
    name="config",
    help_prologue=examples(
        "tidegate config check --config tidegate.yaml", "tidegate config show --field server.port"
    ),
)


@app.command(
    help_prologue=examples("tidegate config check --config tidegate.yaml", "tidegate config check --json")
)
def check(*, source: Source = DEFAULT_SOURCE, output: Output = DEFAULT_OUTPUT) -> int:
    """Read everything as a start would, and report every problem at once. Exit code 3 if there is one."""
    screen = Screen(output)
    name = str(configuration_file(source) or "The configuration without a file")
    try:
        settings = read_settings(source)
    except SettingsError as error:
        return _refused(error, name, screen)
    if screen.is_json:
        screen.document(_verdict(settings.warnings, settings.ignored))
        return Exit.OK
    screen.line(f"{name} is valid.")
    for text in settings.warnings:
        screen.note(f"Warning: {text}")
    for text in settings.ignored:
        screen.note(f"Ignored: {text}")
    return Exit.OK


@app.command(
    help_prologue=examples(
        "tidegate config show", "tidegate config show --config tidegate.yaml --field providers.openai"
    )
)
def show(
    *,
    field: Annotated[str | None, Parameter(help="One setting, or one section.")] = None,
    source: Source = DEFAULT_SOURCE,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Print every setting with its value and where that came from. Secrets are masked."""
    settings = require_settings(source)
    screen = Screen(output)
    if screen.is_json:
        screen.document(_nested(settings, field))
        return Exit.OK
    rows = [row for row in _rows(described(settings, settings.origins), "") if _is_within(row[0], field)]
    if not rows:
        raise _no_such_setting(field)
    if len(rows) == 1 and rows[0][0] == field:
        screen.line(rows[0][1])
        return Exit.OK
    screen.table(("SETTING", "VALUE", "ORIGIN"), rows)
    return Exit.OK


@app.command(
    help_prologue=examples("tidegate config schema", "tidegate config schema > tidegate.schema.json")
)
def schema(*, output: Output = DEFAULT_OUTPUT) -> int:
    """Print the JSON Schema of the configuration file, for editors."""
    Screen(output).document(json_schema())
    return Exit.OK


def _refused(error: SettingsError, name: str, screen: Screen) -> int:
    if screen.is_json:
        screen.document({"valid": False, "problems": [asdict(one) for one in error.problems]})
        return Exit.CONFIGURATION
    count = len(error.problems)
    screen.line(str(error))
    screen.note(f"\n{name} has {'a problem' if count == 1 else f'{count} problems'}.")
    return Exit.CONFIGURATION


def _verdict(warnings: tuple[str, ...], ignored: tuple[str, ...]) -> dict[str, Any]:
    return {"valid": True, "problems": [], "warnings": list(warnings), "ignored": list(ignored)}


def _nested(settings: Settings, field: str | None) -> Any:
    """The whole tree, or the part of it that ``field`` names."""
    tree: Any = described(settings, settings.origins)
    if field is None:
        return tree
    for step in field.replace("[", ".").replace("]", "").split("."):
        if isinstance(tree, list) and step.isdigit() and int(step) < len(tree):
            tree = tree[int(step)]
        elif isinstance(tree, dict) and step in tree and tree.keys() != _LEAF:
            tree = tree[step]
        else:
            raise _no_such_setting(field)
    return tree


def _rows(tree: Any, name: str) -> Iterator[tuple[str, str, str]]:
    """Every single value under its dotted name."""
    if isinstance(tree, Mapping) and tree.keys() == _LEAF:
        yield name, _text(tree["value"]), str(tree["origin"])
    elif isinstance(tree, Mapping):
        for member, value in tree.items():
            yield from _rows(value, f"{name}.{member}" if name else member)
    else:
        for index, value in enumerate(tree):
            yield from _rows(value, f"{name}[{index}]")


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ", ".join(map(_text, value)) or "-"
        case _:
            return str(value)


def _is_within(name: str, field: str | None) -> bool:
    return field is None or name == field or name.startswith((f"{field}.", f"{field}["))


def _no_such_setting(field: str | None) -> CliError:
    return CliError(
        f'there is no setting "{field}"; `tidegate config show` lists all of them', Exit.NOT_FOUND
    )
