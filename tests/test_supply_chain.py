"""What is shipped and what comes with it: no more than is written down, and nothing that nobody looked at (security.md §9)."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import apsw
import pytest

from tidegate.store.sqlite.connection import check_library

ROOT: Final = Path(__file__).resolve().parent.parent
MOST_PACKAGES: Final = 30
NEVER: Final = {"litellm", "jinja2", "mako", "setuptools"}
"""Compromised before, template engines, and what runs code of its own when it is installed."""
LOCK: Final = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))
PACKAGES: Final[Mapping[str, Any]] = {package["name"]: package for package in LOCK["package"]}
SUFFIXES: Final = {".py", ".typed", ".sql", ".js", ".txt", ".json"}


def closure(name: str) -> set[str]:
    """What a plain ``pip install`` of the package brings."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        package = PACKAGES[waiting.pop()]
        for dependency in package.get("dependencies", ()):
            if dependency["name"] not in found:
                found.add(dependency["name"])
                waiting.append(dependency["name"])
    return found


def direct() -> set[str]:
    return {dependency["name"] for dependency in PACKAGES["tidegate"]["dependencies"]}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def test_every_dependency_is_explained() -> None:
    page = (ROOT / "docs" / "decisions" / "0008-dependencies.md").read_text("utf-8")
    explained = {
        name
        for row in page.splitlines()
        if row.startswith("| ")
        for name in row.split("|")[1].strip().split(", ")
    }

    assert direct() <= explained
    assert explained - direct() == {"package"}, "explained and not there"


def test_a_plain_install_is_small_and_holds_nothing_forbidden() -> None:
    installed = closure("tidegate")

    assert len(installed) <= MOST_PACKAGES, sorted(installed)
    assert not installed & NEVER
    assert not {name for name in installed if name.startswith("pytest")}


def test_everything_is_locked_by_its_hash_and_comes_from_one_index() -> None:
    for name, package in PACKAGES.items():
        if name == "tidegate":
            continue
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
        assert package["source"] == {"registry": "https://pypi.org/simple"}, name
        assert files, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", file["hash"]) for file in files), name


@pytest.mark.parametrize(("name", "oldest"), [("pyjwt", "2.13"), ("cryptography", "50"), ("apsw", "3.51.3")])
def test_what_had_holes_is_locked_above_them(name: str, oldest: str) -> None:
    assert numbers(PACKAGES[name]["version"]) >= numbers(oldest)


def test_the_sqlite_that_comes_along_is_a_sound_one(monkeypatch: pytest.MonkeyPatch) -> None:
    check_library()

    for unsound in ("3.51.2", "3.52.0"):
        monkeypatch.setattr(apsw, "sqlite_lib_version", lambda version=unsound: version)
        with pytest.raises(Exception, match="may corrupt the database"):
            check_library()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and source distribution, and the wheel that is made of the latter."""
    place = tmp_path_factory.mktemp("dist")
    hatch = [sys.executable, "-m", "hatchling", "build"]
    subprocess.run([*hatch, "-d", str(place)], cwd=ROOT, check=True, capture_output=True)
    (archive,) = place.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(place / "source", filter="data")
    (unpacked,) = (place / "source").iterdir()
    subprocess.run(
        [*hatch, "-t", "wheel", "-d", str(place / "again")], cwd=unpacked, check=True, capture_output=True
    )
    return place


def content_of(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def wheel_in(place: Path) -> dict[str, bytes]:
    (wheel,) = place.glob("*.whl")
    return content_of(wheel)


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    """No ``.pth`` file, no ``sitecustomize``, nothing native."""
    names = [PurePosixPath(name) for name in wheel_in(built)]
    ours = [name for name in names if name.parts[0] == "tidegate"]
    rest = [name for name in names if name not in ours]

    assert {name.suffix for name in ours} <= SUFFIXES
    assert all(name.parts[0] == "tidegate-0.1.0.dist-info" for name in rest)


def test_the_wheel_holds_all_that_the_package_reads(built: Path) -> None:
    source = ROOT / "src"
    files = {
        str(path.relative_to(source)): path.read_bytes()
        for path in source.rglob("*")
        if path.is_file() and path.suffix in SUFFIXES and "__pycache__" not in path.parts
    }

    assert {
        name: content for name, content in wheel_in(built).items() if name.startswith("tidegate/")
    } == files


def test_the_source_distribution_makes_the_same_wheel(built: Path) -> None:
    assert wheel_in(built / "again") == wheel_in(built)


def test_child_processes_and_code_from_data_have_no_place() -> None:
    """``subprocess`` is the command line's alone (an import rule); these are nobody's."""
    words = re.compile(
        r"\b(?:eval|exec|compile|__import__)\(|\bpickle\b|\bmarshal\b|yaml\.(?:unsafe_)?load\(|shell=True"
    )
    found = [
        f"{path.name}: {line.strip()}"
        for path in (ROOT / "src").rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if words.search(line) and "re.compile(" not in line
    ]

    assert found == []
