"""Providers: which vendor, at which address, with which keys."""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from msgspec.structs import replace

from tidegate.settings.bifrost import PROVIDERS
from tidegate.settings.check_server import in_order
from tidegate.settings.problems import Code, Refused, Trail, did_you_mean, quoted
from tidegate.settings.provider_schema import NetworkSettings, ProviderKeySettings, ProviderSettings
from tidegate.settings.report import Report
from tidegate.settings.sources import MOCK, VendorFacts

_CHAT: Final = "/chat/completions"
_VERSION: Final = re.compile(r"/v\d+[a-z0-9]*(?=/|$)")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_HTTP: Final = frozenset({"http", "https"})


def with_vendors(
    providers: Mapping[str, ProviderSettings], vendors: Mapping[str, VendorFacts], report: Report
) -> Mapping[str, ProviderSettings]:
    """Each provider joined with what is known of its vendor."""
    _check_ids(providers, report)
    return {
        name: _Provider(name, provider, vendors, report).checked() for name, provider in providers.items()
    }


class _Provider:
    """One provider under examination."""

    def __init__(
        self, name: str, given: ProviderSettings, vendors: Mapping[str, VendorFacts], report: Report
    ) -> None:
        self._name = name
        self._given = given
        self._vendors = vendors
        self._report = report
        self._trail: Trail = ("providers", name)

    def checked(self) -> ProviderSettings:
        network = self._network_in_order()
        vendor_name = self._vendor_name()
        if vendor_name is None:
            return self._given
        vendor = self._vendors[vendor_name]
        custom = self._given.custom_provider_config
        needs_key = vendor.needs_key and not (custom is not None and custom.is_key_less)
        return replace(
            self._given,
            vendor=vendor_name,
            needs_key=needs_key,
            keys=self._keys(vendor, needs_key=needs_key),
            network_config=replace(network, base_url=self._base_url(vendor_name, vendor)),
        )

    def _vendor_name(self) -> str | None:
        custom, here = self._given.custom_provider_config, (*self._trail, "custom_provider_config")
        if not _NAME.fullmatch(self._name):
            self._problem(
                Code.INVALID_VALUE,
                self._trail,
                "Not a name for a provider.",
                "Use letters, digits, . _ and -",
            )
            return None
        if custom is None:
            if not self._report.is_usable(*here):
                return None
            return self._name if self._is_known(self._name, self._trail) else None
        base, trail = custom.base_provider_type, (*here, "base_provider_type")
        if not self._report.is_usable(*trail) or not self._is_known(base, trail):
            return None
        if self._name in self._vendors and self._name != base:
            self._problem(
                Code.CONFLICT,
                trail,
                f"{self._name} is a vendor of its own and cannot speak the dialect of {base}.",
                "Choose another name for the provider, or remove custom_provider_config",
            )
            return None
        return base

    def _is_known(self, name: str, trail: Trail) -> bool:
        if name in self._vendors:
            return True
        known = ", ".join(sorted(self._vendors))
        hint = did_you_mean(name, self._vendors)
        if name in PROVIDERS:
            message = f"Provider {quoted(name)} is not available in this version."
            self._problem(Code.UNSUPPORTED, trail, message, f"Available: {known}", hint)
            return False
        self._problem(
            Code.UNKNOWN_PROVIDER,
            trail,
            f"Unknown provider {quoted(name)}.",
            f"Available: {known}; a provider of another name needs custom_provider_config.base_provider_type",
            hint,
        )
        return False

    def _network_in_order(self) -> NetworkSettings:
        network = self._given.network_config
        initial, longest = in_order(
            self._report,
            (*self._trail, "network_config"),
            ("retry_backoff_initial", "retry_backoff_max"),
            (network.retry_backoff_initial, network.retry_backoff_max),
        )
        self._check_files(network)
        return replace(network, retry_backoff_initial=initial, retry_backoff_max=longest)

    def _check_files(self, network: NetworkSettings) -> None:
        here = (*self._trail, "network_config")
        if network.ca_cert is not None and not network.ca_cert.is_file():
            self._problem(
                Code.UNREADABLE,
                (*here, "ca_cert"),
                f"{quoted(str(network.ca_cert), longest=1000)} is not a file.",
                "Name a PEM file; a relative path counts from the working directory",
            )
        if network.proxy_url is not None:
            url = split(network.proxy_url.reveal())
            if url is None or url.scheme not in _HTTP or url.path not in {"", "/"} or url.query:
                self._problem(
                    Code.INVALID_VALUE,
                    (*here, "proxy_url"),
                    "Not the URL of a proxy.",
                    "Allowed: http://host:port, with user:password@ before the host if needed",
                )

    def _base_url(self, vendor_name: str, vendor: VendorFacts) -> str | None:
        trail = (*self._trail, "network_config", "base_url")
        base_url = self._given.network_config.base_url
        if base_url is not None:
            try:
                return _checked_base_url(base_url, vendor)
            except Refused as reason:
                self._report.refused(trail, reason)
                return None
        # The mock runs inside the gateway, which alone knows its port.
        if not vendor.origin and vendor_name != MOCK and self._report.is_usable(*trail):
            self._problem(
                Code.MISSING_FIELD,
                trail,
                f"base_url is missing: only you know where {self._name} listens.",
                "Set the server's origin, such as http://127.0.0.1:8000",
            )
        return None

    def _keys(self, vendor: VendorFacts, *, needs_key: bool) -> tuple[ProviderKeySettings, ...]:
        trail, keys = (*self._trail, "keys"), self._given.keys
        if not keys and needs_key and self._report.is_usable(*trail):
            self._problem(
                Code.MISSING_FIELD,
                trail,
                f"{self._name} needs a key and has none.",
                "Add one, with name and value",
            )
        if not keys and not needs_key:
            return (ProviderKeySettings("default", models=vendor.default_models),)
        self._check_names(keys)
        return tuple(
            self._key(key, (*trail, index), vendor, needs_key=needs_key) for index, key in enumerate(keys)
        )

    def _key(
        self, key: ProviderKeySettings, trail: Trail, vendor: VendorFacts, *, needs_key: bool
    ) -> ProviderKeySettings:
        if key.value is None and needs_key and self._report.is_usable(*trail, "value"):
            self._problem(
                Code.MISSING_FIELD,
                (*trail, "value"),
                "The key has no value, or an empty one.",
                "Set it, as env.NAME for example, or remove the key",
            )
        if key.value is not None and not key.value.reveal().isascii():
            self._problem(
                Code.INVALID_VALUE,
                (*trail, "value"),
                "The secret holds a character that cannot travel in a header.",
                "Copy it from the vendor again",
            )
        if self._report.document.has((*trail, "models")):
            return key
        return replace(key, models=vendor.default_models)

    def _check_names(self, keys: Iterable[ProviderKeySettings]) -> None:
        seen: set[str] = set()
        for index, key in enumerate(keys):
            trail = (*self._trail, "keys", index, "name")
            if not self._report.is_usable(*trail):
                continue
            if key.name in seen:
                self._problem(
                    Code.DUPLICATE,
                    trail,
                    f"{self._name} has another key named {quoted(key.name)}.",
                    "Give each key of a provider a name of its own",
                )
            seen.add(key.name)

    def _problem(self, code: Code, trail: Trail, message: str, allowed: str, hint: str = "") -> None:
        self._report.problem(code, trail, message, allowed, hint)


def _check_ids(providers: Mapping[str, ProviderSettings], report: Report) -> None:
    """Ids of provider keys are unique in the whole configuration: virtual keys refer to them alone."""
    seen: set[str] = set()
    for name, provider in providers.items():
        for index, key in enumerate(provider.keys):
            if key.id is not None and key.id in seen:
                report.problem(
                    Code.DUPLICATE,
                    ("providers", name, "keys", index, "id"),
                    f"Another provider key has the id {quoted(key.id)}.",
                    "Give each an id of its own, or none",
                )
            if key.id is not None:
                seen.add(key.id)


def split(text: str) -> SplitResult | None:
    """The parts of an absolute URL with a host; ``None`` for anything else."""
    try:
        url = urlsplit(text)
        has_host = bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        return None
    return url if has_host and text.isascii() and not re.search(r"[\s\\]", text) else None


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_base_url(text: str, vendor: VendorFacts) -> str:
    """Without a slash at the end. Raises ``Refused``."""
    url = split(text)
    if url is None or url.scheme not in _HTTP:
        raise Refused(
            Code.INVALID_VALUE,
            "Not an http or https URL.",
            "Write an origin, such as https://llm.example:8443",
        )
    if url.username is not None or url.password is not None:
        raise Refused(
            Code.INVALID_VALUE, "The URL holds a user or a password.", "Put the secret into a key's value"
        )
    if "?" in text or "#" in text:
        raise Refused(Code.INVALID_VALUE, "The URL has a query or a fragment.", "Remove it")
    path = url.path.rstrip("/")
    origin = f"{url.scheme}://{url.netloc}"
    right = _without_version(path, vendor.chat_path)
    if right is not None:
        raise Refused(
            Code.INVALID_VALUE,
            f"The URL ends in {quoted(path[len(right) :])}, which is added to it: found {quoted(origin + path)}.",
            f"Write {origin}{right}",
        )
    return f"{origin}{path}"


def _without_version(path: str, chat_path: str) -> str | None:
    """The path before what the vendor's own chat path begins with; ``None`` when it does not end in that."""
    prefix = chat_path.removesuffix(_CHAT)
    version = _VERSION.search(prefix)
    versions = (prefix[: version.end()], version[0]) if version else ()
    for ending in (chat_path, prefix, *versions):
        if ending and path.endswith(ending):
            return path.removesuffix(ending).rstrip("/")
    return None
