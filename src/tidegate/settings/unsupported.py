"""Settings of the full design that this version does not build: refused by name, never ignored."""

from typing import Final

UNSUPPORTED: Final = frozenset(
    {
        "drop_in",
        "otel",
        "server.public_url",
        "server.trusted_proxies",
        "server.tls",
        "store.keep_request_body",
        "store.encrypt_bodies",
        "async.max_pending",
        "async.max_running",
        "async.max_pending_per_key",
        "governance.virtual_keys[].budget",
        "governance.virtual_keys[].rate_limit",
        "governance.virtual_keys[].provider_configs[].budget",
        "governance.virtual_keys[].provider_configs[].rate_limit",
        "governance.virtual_keys[].async.max_pending",
        "governance.virtual_keys[].async.max_running",
        "security.webhooks_allow_loopback",
        "metrics.bifrost_names",
    }
)
