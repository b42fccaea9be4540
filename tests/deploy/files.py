"""The files of ``deploy/``, read as what they are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
CHART: Final = DEPLOY / "helm" / "tidegate"

COMPOSE_FILES: Final = ("compose.sqlite.yaml", "compose.postgres.yaml")


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def services_of(compose_file: str) -> Mapping[str, Mapping[str, Any]]:
    services = read_yaml(DEPLOY / compose_file)["services"]
    assert isinstance(services, dict)
    return services
