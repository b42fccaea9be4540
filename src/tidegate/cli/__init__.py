"""The command line. One file per group of commands; none is imported before it is asked for."""

import os
import sys
from io import TextIOWrapper
from typing import Final

from cyclopts import App, CycloptsError, Parameter

from tidegate import __version__
from tidegate.cli.exits import CliError, Exit
from tidegate.cli.options import examples
from tidegate.cli.text import harmless

_COMMANDS: Final = (
    ("serve", "Run the gateway: HTTP interface, worker and store in one process."),
    ("work", "Run jobs of a store that several processes share."),
    ("demo", "Show what it promises: a real answer, then a killed gateway that loses nothing."),
    ("jobs", "Submit jobs, wait for them, look at them, cancel them."),
    ("keys", "Virtual keys: the credentials of your clients."),
    ("token", "Tokens (JWT): mint one, or explain one."),
    ("config", "Check the configuration, show it, print its schema."),
    ("doctor", "Look at everything a healthy gateway needs."),
    ("migrate", "Bring the database up to date, or say what is missing."),
    ("store", "Move a store: copy it into another database."),
    ("mock", "Run the mock vendor: an LLM provider that does what a script says."),
    ("local-model", "Run a small real model on this machine as a provider."),
)


def main() -> int:
    """The console script. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the terminal cannot show must not end a command.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has seen enough; Python must not complain about it on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    return code


def _run(tokens: list[str]) -> int:
    try:
        code = command_line()(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _give_up(f"{error}\nHelp: {_help_for(error)}", Exit.USAGE)
    except CliError as error:
        return _give_up(str(error), error.code)
    except KeyboardInterrupt:
        return _give_up("Interrupted.", Exit.INTERRUPTED)
    return code if isinstance(code, int) else Exit.OK


def command_line() -> App:
    """Every command, with where to find it."""
    app = App(
        name="tidegate",
        version=f"tidegate {__version__}",
        help="A self-hosted, asynchronous inference gateway for LLMs: a 202 means the job will reach an end.",
        help_prologue=examples(
            "tidegate serve", 'tidegate jobs submit --model mock/echo --message "Hello" --wait 10'
        ),
        help_epilogue="Exit codes: 0 ok, 1 failed, 2 usage, 3 configuration invalid, 4 store unusable, 5 partly failed, "
        "6 not allowed, 7 not found, 8 timed out waiting, 130 interrupted.",
        help_format="plaintext",
        default_parameter=Parameter(negative=""),
        suppress_keyboard_interrupt=False,
    )
    for place, (name, summary) in enumerate(_COMMANDS):
        module = name.replace("-", "_")
        app.command(f"tidegate.cli.{module}:app", name=name, help=summary, sort_key=place)
    return app


def _help_for(error: CycloptsError) -> str:
    return " ".join(("tidegate", *(error.command_chain or ()), "--help"))


def _give_up(message: str, code: Exit) -> int:
    sys.stderr.write(f"{harmless(message)}\n")
    return code
