"""``tidegate doctor``: what is wrong, found in a minute."""

from collections.abc import Iterator
from typing import Final

from cyclopts import App
from rich.text import Text

from tidegate.cli import checks
from tidegate.cli.check_postgres import check_shared_store
from tidegate.cli.checks import Check
from tidegate.cli.configuration import configuration_file, read_settings
from tidegate.cli.connect import connect
from tidegate.cli.exits import Exit
from tidegate.cli.options import DEFAULT_CONNECTION, DEFAULT_OUTPUT, Connection, Output, examples
from tidegate.cli.screen import Screen
from tidegate.cli.text import harmless
from tidegate.clock import SystemClock
from tidegate.settings import Settings, SettingsError

_WORDS: Final = {"green": "ok", "yellow": "look", "red": "WRONG"}

app = App(
    name="doctor",
    help_prologue=examples("tidegate doctor", "tidegate doctor --config tidegate.yaml --json"),
    help_epilogue="Exit code 1 if anything is red. Calls no provider and changes nothing.",
)


@app.default
def doctor(*, connection: Connection = DEFAULT_CONNECTION, output: Output = DEFAULT_OUTPUT) -> int:
    screen = Screen(output)
    found = []
    for check in _checks(connection, screen):
        found.append(check)
        if not screen.is_json:
            _show(check, screen)
    is_well = all(check.level != "red" for check in found)
    if screen.is_json:
        lines = [{"name": check.name, "level": check.level, "text": check.text} for check in found]
        screen.document({"ok": is_well, "checks": lines})
    return Exit.OK if is_well else Exit.FAILED


def _checks(connection: Connection, screen: Screen) -> Iterator[Check]:
    yield checks.check_sqlite()
    try:
        settings = read_settings(connection)
    except SettingsError as error:
        yield Check("configuration", "red", str(error))
        return
    yield from checks.check_configuration(settings, configuration_file(connection))
    yield from checks.check_providers(settings)
    yield from checks.check_secrets(settings)
    if settings.store.is_shared:
        yield from check_shared_store(settings, SystemClock())
        return
    yield from checks.check_directory(settings)
    yield from checks.check_database(settings, SystemClock())
    yield from _check_store(settings, connection, screen)


def _check_store(settings: Settings, connection: Connection, screen: Screen) -> Iterator[Check]:
    path = settings.store.path
    if not path.exists():
        return
    holder = checks.running_gateway(path)
    if holder is not None:
        yield checks.check_ready(connect(connection, screen), holder)
        return
    with screen.err.status(f"Reading every page of {path} …"):
        yield checks.check_intact(path)


def _show(check: Check, screen: Screen) -> None:
    """The word says it too: colors are not for everybody."""
    line = Text(f"{_WORDS[check.level]:<6}", style=check.level)
    line.append(f"{check.name:<14}{harmless(check.text)}", style="default")
    screen.out.print(line, soft_wrap=True)
