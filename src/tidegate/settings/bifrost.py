"""What we know of Bifrost's ``config.json``: names that load without effect here, and what follows from that.

Field names after transports/config.schema.json of https://github.com/maximhq/bifrost.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct

from tidegate.settings.document import Document


class Ignored(Struct, frozen=True):
    """A known name without a counterpart."""

    consequence: str = ""
    is_warned: bool = False
    """Whether something the file asks for – a limit, a protection, a delivery – will silently not happen."""


_QUIET: Final = Ignored()
_LIMIT: Final = Ignored("budgets and rate limits are not enforced by this version", is_warned=True)
_GROUP: Final = Ignored("limits and rights of groups do not apply to their keys", is_warned=True)
_NARROWER: Final = Ignored("the models it blocks are allowed", is_warned=True)
_ADMIN: Final = Ignored("administrators come with a JWT: auth.jwt")
_KEY_CONFIG: Final = Ignored("only an address is taken over, as base_url")
_ADDRESSES: Final = MappingProxyType(
    {
        "azure_key_config": "endpoint",
        "ollama_key_config": "url",
        "sgl_key_config": "url",
        "vllm_key_config": "url",
    }
)
"""Where Bifrost keeps the address of a server of the operator's own: in its keys."""

_PROVIDERS: Final = """
    anthropic azure bedrock bedrock_mantle cerebras cohere deepgram deepseek elevenlabs fireworks gemini groq
    huggingface mistral nebius ollama openai opencode-go opencode-zen openrouter parasail perplexity replicate
    runware runway sarvam sgl vertex vllm xai
"""
PROVIDERS: Final = frozenset(_PROVIDERS.split())


def _under(prefix: str, fields: Mapping[str, Ignored] | str) -> dict[str, Ignored]:
    named = dict.fromkeys(fields.split(), _QUIET) if isinstance(fields, str) else fields
    return {f"{prefix}{name}": ignored for name, ignored in named.items()}


_KEY: Final = "governance.virtual_keys[]."
_GRANT: Final = "governance.virtual_keys[].provider_configs[]."
_PROVIDER: Final = "providers.<name>."
_PROVIDER_KEY: Final = "providers.<name>.keys[]."
_NETWORK: Final = "providers.<name>.network_config."
_CUSTOM: Final = "providers.<name>.custom_provider_config."

IGNORED: Final[Mapping[str, Ignored]] = MappingProxyType(
    _under(
        "",
        "alerting audit_logs circuit_breaker_config cluster_config config_store env_label feature_flags "
        "framework large_payload_optimization load_balancer_config logs_store mcp plugins scim_config "
        "skills_registry source_of_truth vector_store websocket",
    )
    | _under(
        "",
        {
            "version": Ignored('an empty list always denies; ["*"] allows all'),
            "auth_config": _ADMIN,
            "encryption_key": Ignored("stored requests and results are not encrypted", is_warned=True),
            "webhooks": Ignored("this version delivers no webhooks", is_warned=True),
            "guardrails_config": Ignored("no guardrail is applied", is_warned=True),
            "access_profiles": _GROUP,
        },
    )
    | _under("server.", "read_buffer_size")
    | _under(
        "client.",
        "allow_direct_keys allow_per_request_content_storage_override allow_per_request_raw_override "
        "allowed_headers compat disable_content_logging disable_db_pings_in_health drop_excess_requests "
        "dual_credential_conflict_behavior dump_errors_in_console_logs enable_governance enable_logging "
        "header_filter_config hide_deleted_virtual_keys_in_filters initial_pool_size log_retention_days "
        "logging_headers mcp_agent_depth mcp_code_mode_binding_level mcp_disable_auto_tool_inject "
        "mcp_enable_temp_token_auth mcp_external_client_url mcp_server_auth_mode mcp_tool_execution_timeout "
        "mcp_tool_sync_interval oauth2_server_config prometheus_labels routing_chain_max_depth "
        "webhook_config whitelisted_routes",
    )
    | _under(
        "client.",
        dict.fromkeys(
            ("enforce_auth_on_inference", "enforce_governance_header", "enforce_scim_auth"),
            Ignored("auth.required decides"),
        ),
    )
    | _under("governance.", "complexity_analyzer_config pricing_overrides roles")
    | _under(
        "governance.",
        {
            "auth_config": _ADMIN,
            "routing_rules": Ignored("a request goes where its model and fallbacks say"),
            "budgets": _LIMIT,
            "rate_limits": _LIMIT,
            "model_configs": _LIMIT,
            "providers": _LIMIT,
            "business_units": _GROUP,
            "customers": _GROUP,
            "teams": _GROUP,
        },
    )
    | _under(_KEY, "calendar_aligned mcp_configs")
    | _under(_KEY, dict.fromkeys(("team_id", "customer_id", "access_profile_id"), _GROUP))
    | _under(_KEY, dict.fromkeys(("rate_limit_id", "budget_id"), _LIMIT))
    | _under(_GRANT, "id virtual_key_id")
    | _under(_GRANT, dict.fromkeys(("rate_limit_id", "budget_id"), _LIMIT))
    | _under(_GRANT, {"blacklisted_models": _NARROWER})
    | _under(
        _PROVIDER, "openai_config send_back_raw_request send_back_raw_response store_raw_request_response"
    )
    | _under(
        _PROVIDER,
        {"proxy_config": Ignored("calls go out directly; set network_config.proxy_url", is_warned=True)},
    )
    | _under(
        _PROVIDER_KEY,
        "bedrock_key_config bedrock_mantle_key_config replicate_key_config use_for_batch_api vertex_key_config",
    )
    | _under(
        _PROVIDER_KEY,
        {
            "aliases": Ignored("model names are sent as they come"),
            "blacklisted_models": _NARROWER,
            **dict.fromkeys(_ADDRESSES, _KEY_CONFIG),
        },
    )
    | _under(
        _NETWORK,
        "beta_header_overrides enforce_http2 keep_alive_timeout_in_seconds max_conns_per_host "
        "stream_idle_timeout_in_seconds",
    )
    | _under(
        _NETWORK,
        {
            "allow_private_network": Ignored("private addresses are always allowed"),
            "ca_cert_pem": Ignored("name a file in ca_cert"),
            "extra_headers": Ignored("they are not sent"),
            "insecure_skip_verify": Ignored("certificates are always verified"),
        },
    )
    | _under(
        _CUSTOM,
        {
            "allowed_requests": Ignored("every request type of this version is allowed", is_warned=True),
            "request_path_overrides": Ignored("the vendor's own path is used"),
        },
    )
)


def adopt(document: Document) -> Mapping[str, str]:
    """Take over what Bifrost says in another way; returns what had to be left out, with the consequence."""
    left_out: dict[str, str] = {}
    client = document.values.get("client")
    client = client if isinstance(client, dict) else {}
    origins = client.get("allowed_origins")
    if isinstance(origins, list) and "*" in origins:
        trail = ("client", "allowed_origins")
        place = document.place(trail)
        document.put(client, trail, [origin for origin in origins if origin != "*"], place)
        left_out['client.allowed_origins "*"'] = "only origins named one by one are allowed"
    providers = document.values.get("providers")
    for name, provider in (providers if isinstance(providers, dict) else {}).items():
        if isinstance(provider, dict):
            _adopt_address(document, name, provider)
    return left_out


def _adopt_address(document: Document, name: str, provider: dict[str, Any]) -> None:
    """Taken over when all keys of a provider name the same address."""
    keys, network = provider.get("keys"), provider.get("network_config", {})
    if not isinstance(keys, list) or not isinstance(network, dict) or "base_url" in network:
        return
    configs = [
        (key.get(name), field) for key in keys if isinstance(key, dict) for name, field in _ADDRESSES.items()
    ]
    urls = [config.get(field) for config, field in configs if isinstance(config, dict)]
    if urls and isinstance(urls[0], str) and all(url == urls[0] for url in urls):
        provider["network_config"] = network | {"base_url": urls[0]}
        trail = ("providers", name, "network_config", "base_url")
        document.places[trail] = document.place(("providers", name, "keys", 0))
