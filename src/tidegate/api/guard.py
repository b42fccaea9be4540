"""The front guard: which Host a request may name, and whose pages may change something (contract §2.6)."""

import ipaddress
from typing import Final, final

from tidegate.api.cors import Cors
from tidegate.api.inbound import Inbound
from tidegate.domain.access import AnonymousCaller, Caller
from tidegate.domain.errors import ErrorCode, Forbidden, InvalidRequest

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@final
class FrontGuard:
    """Checks that come before the route is looked up, or right after the caller is known."""

    def __init__(self, *, host: str, allowed_hosts: tuple[str, ...] | None, origins: tuple[str, ...]) -> None:
        self._allowed: frozenset[str] | None = None
        if allowed_hosts is not None:
            self._allowed = frozenset(name.lower() for name in allowed_hosts)
        elif is_loopback(host):
            # A page on the internet must not reach a local gateway under a name of its own (DNS rebinding).
            self._allowed = frozenset((*LOOPBACK_NAMES, host))
        self.cors = Cors(origins)

    def check_host(self, inbound: Inbound) -> None:
        """Exactly one Host, and one that is allowed where there is a list. Raises ``InvalidRequest``."""
        value = inbound.headers.get(b"host")
        if value is None or b"host" in inbound.repeated:
            raise _host_not_allowed()
        if self._allowed is not None and _name_of(value.decode("latin-1")) not in self._allowed:
            raise _host_not_allowed()

    def check_origin(self, inbound: Inbound, caller: Caller) -> None:
        """Without a credential, a browser could be made to submit by any page. Raises ``Forbidden``."""
        if not isinstance(caller, AnonymousCaller) or self.cors.lists(inbound):
            return
        origin = inbound.headers.get(b"origin")
        is_foreign = origin is not None and not _is_ours(origin, inbound)
        if is_foreign or inbound.headers.get(b"sec-fetch-site") == b"cross-site":
            raise Forbidden(ErrorCode.ORIGIN_NOT_ALLOWED, "requests from this origin are not allowed")


def _is_ours(origin: bytes, inbound: Inbound) -> bool:
    host = inbound.headers[b"host"]
    return origin in {b"http://" + host, b"https://" + host}


def _name_of(host: str) -> str:
    """The Host header without its port, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _host_not_allowed() -> InvalidRequest:
    return InvalidRequest(ErrorCode.HOST_NOT_ALLOWED, "host is not allowed")
