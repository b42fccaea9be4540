"""Settings in the words of the parts that work with them."""

from collections.abc import Mapping

import msgspec

from tidegate.domain.access import KeyId, ProviderGrant
from tidegate.domain.inference import ProviderKey, RequestType
from tidegate.domain.models import Catalog, ProviderSetup
from tidegate.domain.retry import RetryPolicy
from tidegate.ports import Provider
from tidegate.providers import VENDORS, provider_for
from tidegate.services.manage_keys import ConfiguredKey, KeyChanges
from tidegate.services.submit_job import OptionLimits
from tidegate.settings import ProviderSettings, Settings, VirtualKeySettings
from tidegate.transport import Egress, authorities, check_destination


class ConfigurationRefused(Exception):
    """A setting that is well formed and cannot work here; the message names it."""


def catalog_of(settings: Settings) -> Catalog:
    """What the configured providers can do."""
    return Catalog(
        providers={name: _setup(settings, name, entry) for name, entry in settings.providers.items()},
        known=frozenset(VENDORS),
    )


def _setup(settings: Settings, name: str, entry: ProviderSettings) -> ProviderSetup:
    vendor = VENDORS[entry.vendor]
    network = entry.network_config
    return ProviderSetup(
        name=name,
        dialect=vendor.name,
        base_url=network.base_url or vendor.origin,
        keys=tuple(
            ProviderKey(
                id=key.id or key.name,
                name=key.name,
                value=key.value,
                models=key.models,
                weight=key.weight,
                is_enabled=key.enabled,
            )
            for key in entry.keys
        ),
        operations=frozenset({RequestType.CHAT_COMPLETION}),
        retry=RetryPolicy(
            max_retries=network.max_retries,
            backoff_initial=network.retry_backoff_initial,
            backoff_max=network.retry_backoff_max,
            retry_after_inline_max=settings.async_.retry_after_inline_max,
        ),
        call_timeout=network.default_request_timeout,
        concurrency=entry.concurrency_and_buffer_size.concurrency,
        requests_per_minute=entry.concurrency_and_buffer_size.requests_per_minute,
        tokens_per_minute=entry.concurrency_and_buffer_size.tokens_per_minute,
        needs_key=entry.needs_key,
    )


def dialects_of(settings: Settings) -> Mapping[str, Provider]:
    return {
        name: provider_for(msgspec.structs.replace(VENDORS[entry.vendor], name=name))
        for name, entry in settings.providers.items()
    }


def check_ways_out(settings: Settings) -> None:
    for name, entry in settings.providers.items():
        network = entry.network_config
        url = network.base_url or VENDORS[entry.vendor].origin
        try:
            check_destination(url, allow_link_local=network.allow_link_local)
            authorities(network.ca_cert)
        except (ValueError, OSError) as exc:
            raise ConfigurationRefused(f"providers.{name}.network_config: {exc}") from exc
    for issuer in settings.auth.jwt.issuers:
        if issuer.jwks_url is not None:
            try:
                check_destination(issuer.jwks_url, allow_link_local=False)
            except ValueError as exc:
                raise ConfigurationRefused(f"auth.jwt.issuers: jwks_url of {issuer.iss}: {exc}") from exc


def egress_of(settings: Settings) -> Mapping[str, Egress]:
    return {
        name: Egress(
            proxy_url=entry.network_config.proxy_url,
            ca_cert=entry.network_config.ca_cert,
            allow_link_local=entry.network_config.allow_link_local,
            pool_size=entry.concurrency_and_buffer_size.concurrency,
        )
        for name, entry in settings.providers.items()
    }


def option_limits_of(settings: Settings) -> OptionLimits:
    return OptionLimits(
        result_ttl=int(settings.client.async_job_result_ttl.total_seconds()),
        result_ttl_max=int(settings.client.async_job_result_ttl_max.total_seconds()),
        timeout_max=int(settings.async_.timeout_max.total_seconds()),
    )


def configured_key(entry: VirtualKeySettings) -> ConfiguredKey:
    grants = None
    if entry.provider_configs is not None:
        grants = tuple(
            ProviderGrant(
                provider=grant.provider,
                allowed_models=grant.allowed_models,
                weight=grant.weight,
                key_ids=grant.key_ids,
            )
            for grant in entry.provider_configs
        )
    longest = entry.async_.result_ttl_max
    return ConfiguredKey(
        id=KeyId(entry.id) if entry.id is not None else None,
        value=entry.value,
        changes=KeyChanges(
            name=entry.name,
            description=entry.description,
            is_active=entry.is_active,
            expires_at=entry.expires_at,
            grants=grants,
            weight=entry.async_.weight,
            priority_ceiling=entry.async_.priority_ceiling,
            result_ttl_max=int(longest.total_seconds()) if longest is not None else None,
        ),
    )
