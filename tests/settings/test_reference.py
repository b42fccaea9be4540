"""The table of settings, and what is derived from it, agree."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from msgspec import json
from msgspec.structs import replace

from tidegate.settings import Settings, json_schema, reference, show

Load = Callable[..., Settings]

FULL: Final = {
    "auth": {"jwt": {"issuers": [{"iss": "i", "aud": "a", "algorithms": ["HS256"], "key": "env.SECRET"}]}},
    "governance": {
        "virtual_keys": [{"name": "a", "value": "env.SECRET", "provider_configs": [{"provider": "openai"}]}]
    },
    "providers": {
        "acme": {
            "keys": [{"name": "a", "value": "env.SECRET"}],
            "network_config": {"base_url": "http://127.0.0.1:1"},
            "custom_provider_config": {"base_provider_type": "openai"},
        }
    },
}
ENVIRON: Final = {"SECRET": "s" * 32}


def shown_names(shown: Any, prefix: str = "") -> Iterator[str]:
    """Names as the reference writes them; ``acme`` is the only provider."""
    if set(shown) == {"value", "origin"} and isinstance(shown["origin"], str):
        yield prefix
        return
    for name, value in shown.items():
        step = "<name>" if prefix == "providers" else name
        here = f"{prefix}.{step}" if prefix else step
        if isinstance(value, list):
            for item in value:
                yield from shown_names(item, f"{here}[]")
        else:
            yield from shown_names(value, here)


def schema_names(schema: Any, prefix: str = "") -> Iterator[str]:
    if "properties" not in schema:
        yield prefix
        return
    for name, value in schema["properties"].items():
        here = f"{prefix}.{name}" if prefix else name
        if value.get("deprecated"):
            continue
        if isinstance(value.get("additionalProperties"), dict):
            yield from schema_names(value["additionalProperties"], f"{here}.<name>")
        elif "properties" in value.get("items", {}):
            yield from schema_names(value["items"], f"{here}[]")
        else:
            yield from schema_names(value, here)


def test_reference_schema_and_view_name_the_same_settings(load_document: Load) -> None:
    settings = load_document(FULL, ENVIRON)

    names = [row.name for row in reference()]
    aliases = {f"{row.name.rpartition('.')[0]}.{alias}" for row in reference() for alias in row.aliases}
    assert list(shown_names(show(settings, settings.origins))) == names
    assert set(schema_names(json_schema())) == {*names, *aliases, "$schema"}
    assert [name.replace("[0]", "[]").replace(".acme", ".<name>") for name in settings.origins] == names


def test_the_documented_defaults_are_the_real_ones(load_document: Load) -> None:
    settings = load_document(FULL, ENVIRON)

    shown = show(settings, settings.origins)
    for row in reference():
        value: Any = shown
        for step in row.name.replace("[]", ".0").replace("<name>", "acme").split("."):
            value = value[int(step)] if isinstance(value, list) else value[step]
        if value["origin"] == "default" and row.name not in {"server.data_dir", "store.url"}:
            assert value["value"] == row.default, row.name


def test_every_setting_says_what_it_is_for() -> None:
    for row in reference():
        assert row.help.endswith("."), row.name
        assert row.allowed, row.name


def test_the_settings_of_the_documentation_exist() -> None:
    defaults = {row.name: row.default for row in reference()}

    expected = {
        "server.host": "127.0.0.1",
        "server.port": 8080,
        "server.data_dir": "./tidegate-data",
        "server.drain_timeout": 25,
        "store.url": "sqlite:///<data_dir>/tidegate.db",
        "store.commit_wait": 0,
        "store.min_free_bytes": 256 << 20,
        "store.wipe": False,
        "client.async_job_result_ttl": 3600,
        "client.async_job_result_ttl_max": 2_592_000,
        "client.max_request_body_size_mb": 32,
        "async.timeout_max_seconds": 604_800,
        "async.worker_loss_budget": 3,
        "async.retry_after_inline_max_seconds": 30,
        "auth.required": True,
        "auth.local_issuer": True,
        "auth.jwt.max_lifetime_seconds": 86_400,
        "auth.jwt.issuers[].kinds": ["virtual_key"],
        "auth.jwt.claims.admin_value": "admin",
        "providers.<name>.network_config.max_retries": 2,
        "providers.<name>.network_config.retry_backoff_initial": 500,
        "providers.<name>.network_config.retry_backoff_max": 5000,
        "providers.<name>.network_config.default_request_timeout_in_seconds": 600,
        "providers.<name>.concurrency_and_buffer_size.concurrency": 256,
        "security.strict_secrets": False,
        "metrics.public": False,
    }
    assert {name: defaults[name] for name in expected} == expected


def test_what_is_shown_loads_as_the_same_settings(load_document: Load) -> None:
    settings = load_document(FULL, ENVIRON)

    def plain(shown: Any) -> Any:
        if isinstance(shown, list):
            return [plain(item) for item in shown]
        if set(shown) == {"value", "origin"}:
            return "env.SECRET" if shown["value"] == "***" else shown["value"]
        return {name: plain(value) for name, value in shown.items()}

    document = plain(show(settings, settings.origins))
    document["providers"]["acme"]["network_config"]["proxy_url"] = None
    again = load_document(document, ENVIRON)

    assert replace(again, origins={}) == replace(settings, origins={})


def test_the_schema_is_json_and_closed() -> None:
    schema = json.decode(json.encode(json_schema()))

    def objects(node: Any) -> Iterator[Any]:
        if isinstance(node, dict):
            if "properties" in node:
                yield node
            for value in node.values():
                yield from objects(value)

    assert all(section["additionalProperties"] is False for section in objects(schema))
    assert schema["properties"]["server"]["properties"]["port"] == {
        "type": "integer",
        "minimum": 0,
        "maximum": 65535,
        "description": "Port to listen on; 0 takes a free one.",
        "default": 8080,
    }
    assert schema["properties"]["encryption_key"]["deprecated"] is True
    issuer = schema["properties"]["auth"]["properties"]["jwt"]["properties"]["issuers"]["items"]
    assert issuer["required"] == ["iss", "aud", "algorithms"]
    assert issuer["properties"]["algorithms"]["minItems"] == 1


def test_importing_the_settings_imports_nothing_of_ours_but_the_domain() -> None:
    import subprocess
    import sys

    code = "import sys, tidegate.settings; print(*sorted(m for m in sys.modules if m.startswith('tidegate')))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )

    assert all(
        name.startswith(("tidegate.settings", "tidegate.domain")) or name == "tidegate"
        for name in loaded.stdout.split()
    )
