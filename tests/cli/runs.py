"""The console script as users run it: a clean environment, a directory of its own."""

import io
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, final
from unittest.mock import patch

import structlog

from tidegate.cli import main

NO_TIME: Final = 30
COMMAND: Final = (sys.executable, "-m", "tidegate")

Result = subprocess.CompletedProcess[str]


@final
class Cli:
    """Runs ``tidegate`` in ``directory``."""

    def __init__(self, directory: Path, bytecode: Path, **variables: str) -> None:
        self.directory = directory
        self._bytecode = bytecode
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PYTHONPYCACHEPREFIX": str(bytecode),
            "PYTHONWARNINGS": "error",
            "TZ": "UTC",
            **variables,
        }

    def with_variables(self, **variables: str) -> "Cli":
        return Cli(self.directory, self._bytecode, **{**self._environment, **variables})

    def __call__(self, *arguments: str, stdin: str = "") -> Result:
        """What the console script calls, without starting Python once more for it."""
        out, err = _stream(""), _stream("")
        with (
            chdir(self.directory),
            patch.dict(os.environ, self._environment, clear=True),
            patch.multiple(sys, argv=["tidegate", *arguments], stdin=_stream(stdin), stdout=out, stderr=err),
        ):
            code = main()
        structlog.reset_defaults()
        return Result(arguments, code, _text(out), _text(err))

    def process(self, *arguments: str, stdin: str = "") -> Result:
        """The same as a process of its own."""
        return subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=self._environment,
            timeout=NO_TIME,
            check=False,
        )

    def start(self, *arguments: str, most_blocks: int | None = None) -> subprocess.Popen[str]:
        """In the background; ``most_blocks`` limits how large a file it may write, in units of 512 bytes."""
        limit = ("sh", "-c", f'ulimit -f {most_blocks}; exec "$@"', "sh") if most_blocks else ()
        return subprocess.Popen(
            [*limit, *COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env=self._environment,
        )

    def curl(self, line: str) -> Any:
        """What a line gets when somebody pastes it; without curl, what it asks for is asked in another way."""
        if shutil.which("curl"):
            return json.loads(self.shell(line).stdout)
        flags = self.shell(f"curl() {{ printf '%s\\n' \"$@\"; }}; {line}").stdout.splitlines()
        headers = [value.split(": ", 1) for flag, value in pairwise(flags) if flag == "-H"]
        data = next((value.encode() for flag, value in pairwise(flags) if flag == "-d"), None)
        url = next(flag for flag in flags if flag.startswith("http"))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(url, data, dict(headers))  # noqa: S310 – it starts with http
        with opener.open(request, timeout=NO_TIME) as response:
            return json.load(response)

    def shell(self, line: str) -> Result:
        """A line as somebody pastes it."""
        return subprocess.run(
            ["sh", "-c", line],
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=self._environment,
            timeout=NO_TIME,
            check=False,
        )

    def on_terminal(
        self, *arguments: str, until: str = "", answer: str = "", width: int = 200
    ) -> tuple[int, str]:
        """Exit code and everything a terminal of ``width`` columns shows.

        When ``until`` has appeared, ``answer`` is typed; without one the process is told to stop.
        """
        terminal, other_end = pty.openpty()
        columns = {"COLUMNS": str(width), "LINES": "50", "TERM": "xterm"}
        with subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=other_end,
            stdout=other_end,
            stderr=other_end,
            cwd=self.directory,
            env=self._environment | columns,
        ) as process:
            os.close(other_end)
            try:
                shown = _read_terminal(terminal, process, until, answer)
            finally:
                process.kill()
                os.close(terminal)
        return process.returncode, shown


def _stream(text: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def _read_terminal(terminal: int, process: subprocess.Popen[bytes], until: str, answer: str) -> str:
    """Until the process has closed its end."""
    shown, is_over = b"", False
    while select.select([terminal], [], [], NO_TIME)[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        shown += data
        if until and not is_over and until.encode() in shown:
            is_over = True
            if answer:
                os.write(terminal, f"{answer}\n".encode())
            else:
                process.terminate()
    process.wait(NO_TIME)
    return shown.decode()


@final
class Served:
    """A gateway that is ready."""

    def __init__(self, process: subprocess.Popen[str], said: Mapping[str, Any]) -> None:
        self.process = process
        self.said = said
        """Its ready document."""
        self.log = ""
        """What it wrote to stderr, once it has stopped."""

    @property
    def url(self) -> str:
        return str(self.said["url"])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        _, self.log = self.process.communicate(timeout=NO_TIME)
        return self.process.returncode


@contextmanager
def serving(cli: Cli, *arguments: str, most_blocks: int | None = None) -> Iterator[Served]:
    """``tidegate serve`` on a free port, ready; stopped in order unless the test did."""
    process = cli.start("serve", "--port", "0", "--json", *arguments, most_blocks=most_blocks)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate(timeout=NO_TIME)
        served = Served(process, json.loads(line))
        yield served
        if process.returncode is None:
            assert served.stop() == 0, served.log
    finally:
        process.kill()
        process.communicate()


def write_json(file: Path, value: Any) -> Path:
    file.write_text(json.dumps(value), "utf-8")
    file.chmod(0o600)
    return file


def one_line(text: str) -> str:
    """The only line of ``text``."""
    assert text.endswith("\n"), text
    assert text.count("\n") == 1, text
    return text[:-1]
