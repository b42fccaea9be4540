"""The image without an engine: its file is read, and its steps are run in a folder of their own."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from deploy.dockerfile import BUILD, IMAGE, STAGES, all_of
from deploy.files import DEPLOY, ROOT, read_yaml
from tidegate import __version__

PREFIX: Final = "/opt/tidegate"
TOOLS: Final = Path(sys.executable).parent


def test_the_linter_finds_nothing() -> None:
    done = subprocess.run(
        [TOOLS / "hadolint", "--no-color", DEPLOY / "Dockerfile"], check=False, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (0, "")


def test_every_stage_starts_from_the_same_pinned_base() -> None:
    bases = {all_of("FROM", stage)[0].split()[0] for stage in STAGES}

    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", bases.pop())


def test_it_runs_as_a_number_that_is_not_root() -> None:
    *_, user = all_of("USER", IMAGE)

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert all(
        service["user"] == user
        for name in ("compose.sqlite.yaml", "compose.postgres.yaml")
        for service in read_yaml(DEPLOY / name)["services"].values()
        if service["image"].startswith("tidegate:")
    )


def test_uv_is_the_one_everything_else_is_made_with() -> None:
    first, *_ = all_of("RUN", BUILD)
    (makefile,) = re.findall(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)

    assert first.split()[-1] == f"uv=={makefile}"


def test_only_what_is_copied_reaches_the_engine() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    copied = {name for rest in all_of("COPY", BUILD) for name in rest.split()[:-1]}

    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == copied
    assert all(rest.startswith("--from=build ") for rest in all_of("COPY", IMAGE))


def test_nothing_secret_is_baked_in() -> None:
    names = {
        pair.partition("=")[0] for stage in STAGES for rest in all_of("ENV", stage) for pair in rest.split()
    }

    assert names == {
        "PATH", "TIDEGATE__SERVER__HOST", "TIDEGATE__SERVER__DATA_DIR",
        "UV_COMPILE_BYTECODE", "UV_LINK_MODE", "UV_PROJECT_ENVIRONMENT",
    }  # fmt: skip
    assert not [rest for stage in STAGES for rest in all_of("ARG", stage)]


def run_step(step: str, place: Path) -> subprocess.CompletedProcess[str]:
    """As the engine would, with the folder of the image elsewhere. uv is the one of this environment."""
    environ = {
        **{name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}},
        "PATH": f"{TOOLS}:{os.environ['PATH']}",
        "UV_PROJECT_ENVIRONMENT": str(place / "tidegate"),
        "UV_PYTHON": sys.executable,
    }
    command = step.replace(PREFIX, str(place / "tidegate"))
    return subprocess.run(
        ["sh", "-c", command], cwd=place / "build", env=environ, check=False, capture_output=True, text=True
    )


def lay_context(place: Path) -> None:
    build = place / "build"
    build.mkdir()
    for rest in all_of("COPY", BUILD):
        for name in rest.split()[:-1]:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, build / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, build / name)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the build stage leaves in the folder that the image takes over."""
    place = tmp_path_factory.mktemp("image")
    lay_context(place)
    for step in all_of("RUN", BUILD)[1:]:
        done = run_step(step, place)
        assert done.returncode == 0, done.stderr
    return place / "tidegate"


def test_its_steps_make_a_tidegate_that_runs(installed: Path) -> None:
    shutil.rmtree(installed.parent / "build")

    done = subprocess.run(
        [installed / "bin" / "tidegate", "--version"],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
    )

    assert done.stdout.strip() == f"tidegate {__version__}"


def test_it_holds_what_is_locked_and_no_tools(installed: Path) -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))
    locked = {(package["name"], package["version"]) for package in lock["package"]}

    done = subprocess.run(
        [TOOLS / "uv", "pip", "list", "--format", "json", "--python", installed / "bin" / "python"],
        check=True,
        capture_output=True,
    )
    found = {(package["name"], package["version"]) for package in json.loads(done.stdout)}

    assert found <= locked
    assert {"apsw", "tidegate", "uvicorn", "wreq"} <= {name for name, _ in found}
    assert not {"hatchling", "pip", "pytest", "uv", "xllamacpp"} & {name for name, _ in found}


@pytest.fixture
def probe() -> list[str]:
    """The command of HEALTHCHECK."""
    (rest,) = all_of("HEALTHCHECK", IMAGE)
    command: list[str] = json.loads(rest.partition(" CMD ")[2])
    assert command[0] == "python"
    return [sys.executable, *command[1:]]


@pytest.mark.parametrize(("status", "is_healthy"), [(200, True), (503, False)])
def test_the_health_check_tells_a_sound_gateway_from_another(
    probe: list[str], status: int, *, is_healthy: bool
) -> None:
    class Gateway(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = [part.replace(":8080/", f":{server.server_port}/") for part in probe]
        done = subprocess.run(here, check=False, capture_output=True, env=without_proxies())
        server.shutdown()

    assert (done.returncode == 0) is is_healthy


def without_proxies() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
