"""Configuration files of the gateways that are measured: the shipped defaults, and what a scenario needs."""

import json
from pathlib import Path
from typing import Any, Final

from benchmarks.load.requests import HOST, KEY

JWT_SECRET: Final = "a secret of the benchmarks, longer than thirty-two bytes"
ISSUER: Final = "https://bench.example"
AUDIENCE: Final = "tidegate"


def write_configuration(
    directory: Path, port: int, vendor_url: str, *, concurrency: int | None, store: str | None = None
) -> Path:
    """One virtual key, one provider ``openai`` at the mock vendor. ``None`` leaves the default."""
    provider: dict[str, Any] = {
        "keys": [{"name": "main", "value": "sk-vendor-main"}],
        "network_config": {"base_url": vendor_url},
    }
    if concurrency is not None:
        provider["concurrency_and_buffer_size"] = {"concurrency": concurrency}
    issuer = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "algorithms": ["HS256"],
        "key": JWT_SECRET,
        "kinds": ["virtual_key", "admin"],
    }
    config: dict[str, Any] = {
        "server": {"host": HOST, "port": port, "data_dir": str(directory / "data")},
        "auth": {"jwt": {"issuers": [issuer]}},
        "governance": {"virtual_keys": [{"name": "bench", "id": "bench", "value": KEY}]},
        "metrics": {"public": True},
        "providers": {"openai": provider},
    }
    if store is not None:
        config["store"] = {"url": store}
    path = directory / "tidegate.json"
    path.write_text(json.dumps(config, indent=2), "utf-8")
    path.chmod(0o600)
    return path
