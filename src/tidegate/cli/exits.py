"""How a command ends: its exit codes, and the error that carries one."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILED = 1
    """The job failed, the gateway refused or cannot be reached, a check is red."""
    USAGE = 2
    """The command line itself is wrong."""
    CONFIGURATION = 3
    """The configuration does not hold."""
    STORE = 4
    """The store cannot be used, or another process uses it."""
    PARTLY = 5
    """Some of several things failed."""
    NOT_ALLOWED = 6
    """The credential is missing, refused, or has not the right."""
    NOT_FOUND = 7
    TIMED_OUT = 8
    """The wait is over, the job is not."""
    INTERRUPTED = 130
    """Ctrl-C."""


class CliError(Exception):
    """A command cannot go on: the message says why and what to do."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code
