"""The processes of the demonstration: children of ours, in a directory of their own, gone when we go."""

import json
import os
import selectors
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final, Self, final

from msgspec import Struct

from tidegate.cli.client import GatewayClient
from tidegate.cli.exits import CliError
from tidegate.clock import SystemRng

_PATIENCE_SECONDS: Final = 30
_OWN_VARIABLES: Final = "TIDEGATE"
_CACHE_VARIABLE: Final = "TIDEGATE_CACHE"


class Child(Struct, frozen=True):
    """A process that said it is ready."""

    process: "subprocess.Popen[str]"
    said: str
    """Its first line."""
    seconds: float
    """How long that took."""

    @property
    def url(self) -> str:
        """The address in a line such as ``Mock vendor at http://127.0.0.1:8090/v1, …``."""
        word = next(word for word in self.said.split() if word.startswith("http"))
        return word.rstrip(",").removesuffix("/v1")


@final
class Stage:
    """Starts and kills; everything it writes lies in one temporary directory."""

    @classmethod
    @contextmanager
    def set(cls) -> Iterator[Self]:
        with TemporaryDirectory(prefix="tidegate-demo-") as directory:
            stage = cls(Path(directory))
            try:
                yield stage
            finally:
                stage.clear()

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._children: list[Child] = []
        self._key = f"sk-bf-{urlsafe_b64encode(SystemRng().secret_bytes(32)).rstrip(b'=').decode()}"

    def start(self, *arguments: str) -> Child:
        """``tidegate`` with these arguments, once it has said its first line. Raises ``CliError``."""
        log = self._directory / f"{arguments[0]}-{len(self._children)}.log"
        began = perf_counter()
        with log.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 – ourselves, with arguments of our own
                [sys.executable, "-m", "tidegate", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=_environment(),
                cwd=self._directory,
                # Ctrl-C is for us; we see to the children.
                start_new_session=True,
            )
        child = Child(process, "", 0)
        self._children.append(child)
        said = _first_line(process)
        if not said:
            process.kill()
            raise CliError(f"tidegate {arguments[0]} did not start: {_last_words(log)}")
        ready = Child(process, said, perf_counter() - began)
        self._children[-1] = ready
        return ready

    def start_gateway(self, config: Path) -> tuple[Child, GatewayClient]:
        child = self.start("serve", "--config", str(config), "--json")
        return child, GatewayClient(json.loads(child.said)["url"], lambda: self._key)

    def write_configuration(self, providers: dict[str, Any], *, loss_budget: int) -> Path:
        """Of a gateway with these providers and one virtual key."""
        file = self._directory / "tidegate.json"
        content = {
            "server": {"port": 0, "data_dir": str(self._directory / "data")},
            "async": {"worker_loss_budget": loss_budget},
            "governance": {"virtual_keys": [{"name": "demo", "value": "file:virtual-key"}]},
            "providers": providers,
        }
        _write(self._directory / "virtual-key", self._key)
        _write(file, json.dumps(content))
        return file

    def clear(self) -> None:
        """Nothing of it is left running."""
        for child in self._children:
            child.process.kill()
        for child in self._children:
            child.process.wait()
            if child.process.stdout is not None:
                child.process.stdout.close()


def _environment() -> dict[str, str]:
    """Ours, without settings that are meant for another gateway."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_OWN_VARIABLES) or name == _CACHE_VARIABLE
    }


def _write(file: Path, text: str) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as opened:
        opened.write(text)


def _first_line(process: "subprocess.Popen[str]") -> str:
    """Empty when it ends, or says nothing for too long."""
    if process.stdout is None:
        return ""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return process.stdout.readline() if selector.select(_PATIENCE_SECONDS) else ""


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
