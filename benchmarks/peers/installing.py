"""How a peer gets onto this machine, and what is said where it does not."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.bench import LoadFailed
from benchmarks.machine.processes import ChildFailed

LEFT_OUT: Final = (subprocess.SubprocessError, OSError, ChildFailed, LoadFailed, TimeoutError)
"""What may befall a peer without stopping the others."""
_INSTALL_WITHIN: Final = 600.0
_REASON: Final = 300
_INSTALLED: Final = "installed.txt"


def environment(place: Path, name: str, *packages: str) -> Path:
    """The programs of a virtual environment below ``place`` with these packages; made again when they are others."""
    folder = place / name
    installed, wanted = folder / _INSTALLED, "\n".join(packages)
    if not installed.exists() or installed.read_text("utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(folder)], place)
        run([str(folder / "bin" / "pip"), "install", "--quiet", *packages], place)
        installed.write_text(wanted, "utf-8")
    return folder / "bin"


def run(command: Sequence[str], place: Path) -> None:
    subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=_INSTALL_WITHIN)


def why(error: Exception) -> str:
    """With the end of what an installer said: the reason stands there."""
    said = getattr(error, "stderr", None) or b""
    return f"{type(error).__name__}: {error} {said.decode('utf-8', 'replace').strip()[-_REASON:]}".strip()
