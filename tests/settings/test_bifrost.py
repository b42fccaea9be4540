"""An existing ``config.json`` of Bifrost loads, and says what it no longer does."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from tidegate.domain.secret import Secret
from tidegate.settings import Code, Problem, Settings
from tidegate.settings.bifrost import IGNORED
from tidegate.settings.table import reference
from tidegate.settings.unsupported import UNSUPPORTED

Load = Callable[..., Settings]
Problems = Callable[..., tuple[Problem, ...]]

SAMPLE: Final = Path(__file__).with_name("bifrost_config.json")
ENVIRON: Final = {
    name: f"{name.lower()}-secret"
    for name in ("OPENAI_API_KEY", "OPENAI_API_KEY_US", "GROQ_API_KEY", "INHOUSE_KEY", "VK_BATCH")
}


def test_what_has_a_counterpart_is_taken_over(load_document: Load) -> None:
    settings = load_document(SAMPLE.read_text(), ENVIRON)

    assert settings.client.async_job_result_ttl == timedelta(hours=2)
    assert settings.client.max_request_body_size == 64 << 20
    assert settings.client.allowed_origins == ("https://app.example",)
    assert settings.client.required_headers == ("x-team",)
    assert list(settings.providers) == ["openai", "groq", "ollama", "inhouse"]
    openai = settings.providers["openai"]
    assert [(key.name, key.models, key.weight) for key in openai.keys] == [
        ("openai-eu", ("gpt-4o", "gpt-4o-mini"), 0.7),
        ("openai-us", ("*",), 0.3),
    ]
    assert openai.keys[1].value == Secret("openai_api_key_us-secret")
    assert openai.network_config.retry_backoff_max == timedelta(seconds=10)
    assert settings.providers["ollama"].network_config.base_url == "http://ollama:11434"
    assert settings.providers["ollama"].keys[0].value is None
    assert settings.providers["inhouse"].vendor == "openai"
    (key,) = settings.governance.virtual_keys
    assert (key.id, key.name, key.value) == ("vk-batch", "batch", Secret("vk_batch-secret"))
    assert key.provider_configs is not None
    assert [(one.provider, one.weight, one.key_ids) for one in key.provider_configs] == [
        ("openai", 0.5, None),
        ("groq", None, None),
    ]


def test_what_has_none_is_listed_once_with_its_consequence(load_document: Load) -> None:
    settings = load_document(SAMPLE.read_text(), ENVIRON)

    assert set(settings.ignored) == {
        'client.allowed_origins "*": only origins named one by one are allowed',
        "client.allow_direct_keys",
        "client.disable_content_logging",
        "client.drop_excess_requests",
        "client.enable_logging",
        "client.enforce_auth_on_inference: auth.required decides",
        "client.initial_pool_size",
        "client.log_retention_days",
        "client.prometheus_labels",
        "config_store",
        "encryption_key: stored requests and results are not encrypted",
        "framework",
        "governance.budgets: budgets and rate limits are not enforced by this version",
        "governance.rate_limits: budgets and rate limits are not enforced by this version",
        "governance.routing_rules: a request goes where its model and fallbacks say",
        "governance.teams: limits and rights of groups do not apply to their keys",
        "governance.virtual_keys[].mcp_configs",
        "governance.virtual_keys[].provider_configs[].blacklisted_models: the models it blocks are allowed",
        "governance.virtual_keys[].provider_configs[].id",
        "governance.virtual_keys[].rate_limit_id: budgets and rate limits are not enforced by this version",
        "governance.virtual_keys[].team_id: limits and rights of groups do not apply to their keys",
        "logs_store",
        "mcp",
        "plugins",
        "providers.<name>.concurrency_and_buffer_size.buffer_size: not enforced by this version",
        "providers.<name>.custom_provider_config.allowed_requests: every request type of this version is allowed",
        "providers.<name>.keys[].aliases: model names are sent as they come",
        "providers.<name>.keys[].ollama_key_config: only an address is taken over, as base_url",
        "providers.<name>.keys[].use_for_batch_api",
        "providers.<name>.network_config.allow_private_network: private addresses are always allowed",
        "providers.<name>.network_config.extra_headers: they are not sent",
        "providers.<name>.network_config.stream_idle_timeout_in_seconds",
        "providers.<name>.proxy_config: calls go out directly; set network_config.proxy_url",
        "providers.<name>.send_back_raw_response",
        "server.read_buffer_size",
        'version: an empty list always denies; ["*"] allows all',
        "vector_store",
        "webhooks: this version delivers no webhooks",
    }
    assert len(settings.ignored) == len(set(settings.ignored))


def test_what_would_silently_widen_rights_or_drop_a_protection_is_a_warning(load_document: Load) -> None:
    settings = load_document(SAMPLE.read_text(), ENVIRON)

    at_fault = [warning.split(" has no effect: ")[0].split(": ")[1] for warning in settings.warnings]
    assert at_fault == [
        "encryption_key",
        "providers.openai.proxy_config",
        "providers.inhouse.custom_provider_config.allowed_requests",
        "governance.budgets",
        "governance.rate_limits",
        "governance.teams",
        "governance.virtual_keys[0].team_id",
        "governance.virtual_keys[0].rate_limit_id",
        "governance.virtual_keys[0].provider_configs[0].blacklisted_models",
        "webhooks",
    ]
    assert settings.warnings[0].startswith("tidegate.json:4:3: encryption_key has no effect: ")


def test_many_occurrences_are_one_entry(load_document: Load) -> None:
    keys = [{"name": str(n), "value": "env.GROQ_API_KEY", "aliases": {}} for n in range(5)]

    settings = load_document({"providers": {"groq": {"keys": keys}}}, ENVIRON)

    assert settings.ignored == ("providers.<name>.keys[].aliases: model names are sent as they come",)


def test_a_provider_that_is_not_built_yet_stops_the_start(problems_of: Problems) -> None:
    (problem,) = problems_of({"providers": {"vertex": {"keys": [{"name": "a"}]}}})

    assert (problem.code, problem.path) == (Code.UNSUPPORTED, "providers.vertex")


def test_keys_at_different_servers_leave_the_address_open(problems_of: Problems) -> None:
    keys: list[dict[str, Any]] = [
        {"name": name, "ollama_key_config": {"url": f"http://{name}:1"}} for name in "ab"
    ]

    (problem,) = problems_of({"providers": {"ollama": {"keys": keys}}})

    assert problem.path == "providers.ollama.network_config.base_url"


def test_an_address_in_a_key_is_checked_like_any_other(problems_of: Problems) -> None:
    keys = [{"name": "a", "ollama_key_config": {"url": "http://h:1/v1"}}]

    (problem,) = problems_of({"providers": {"ollama": {"keys": keys}}})

    assert problem.allowed == "Write http://h:1."


def test_a_name_is_either_a_setting_or_ignored_or_unsupported() -> None:
    settings = {row.name for row in reference()} | {alias for row in reference() for alias in row.aliases}

    assert not settings & set(IGNORED)
    assert not settings & UNSUPPORTED
    assert not UNSUPPORTED & set(IGNORED)
