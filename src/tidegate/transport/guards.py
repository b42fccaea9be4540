"""What never leaves: a key for a foreign origin, a header that breaks out of its line, a call to the cloud's metadata."""

import re
import socket
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from msgspec import Struct

from tidegate.domain.inference import Credential, HttpCall

# Narrower than any URL standard, so that no other parser can see another host in it.
_URL: Final = re.compile(
    r"(https?)://(\[[0-9a-f:.]+\]|[0-9a-z._-]+)(?::([0-9]{1,5}))?(?:[/?][!-~]*)?", re.IGNORECASE
)
_PORTS: Final = {"http": 80, "https": 443}
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
# They frame or route the request: two opinions about either would smuggle one request into another.
_SET_BY_THE_CLIENT: Final = frozenset({"connection", "content-length", "host", "transfer-encoding"})

_EC2_METADATA: Final = IPv6Address("fd00:ec2::254")
_NAT64: Final = IPv6Network("64:ff9b::/96")


class Origin(Struct, frozen=True):
    scheme: str
    host: str
    port: int


def check_destination(url: str, *, allow_link_local: bool) -> None:
    """Raises ``ValueError`` for a URL that no call could be made to: told at start rather than job by job."""
    if not allow_link_local and is_link_local(origin_of(url).host):
        raise ValueError("a link-local address; network_config.allow_link_local permits it")


def checked_headers(call: HttpCall, *, allow_link_local: bool) -> dict[str, str]:
    """The headers to send, the credential among them. Raises ``ValueError`` for a call that must not be made."""
    origin = origin_of(call.url)
    if not allow_link_local and is_link_local(origin.host):
        raise ValueError(
            f'provider "{call.provider}" has a link-local address; network_config.allow_link_local permits it'
        )
    headers = {name.lower(): value for name, value in call.headers}
    if len(headers) != len(call.headers):
        raise ValueError(f'a call to provider "{call.provider}" repeats a header')
    if call.credential is not None:
        headers[call.credential.header.lower()] = _revealed_to(origin, call.credential)
    for name, value in headers.items():
        _check_name(name)
        if not (value.isascii() and value.isprintable()):  # not shown: it may be a secret
            raise ValueError(f"the value of header {name} is not plain printable text")
    return headers


def _revealed_to(origin: Origin, credential: Credential) -> str:
    if origin_of(credential.origin) != origin:
        raise ValueError(f"a credential for {credential.origin} must not travel to another origin")
    return credential.value.reveal()


@lru_cache(maxsize=256)
def _check_name(name: str) -> None:
    if _HEADER_NAME.fullmatch(name) is None or name in _SET_BY_THE_CLIENT:
        raise ValueError(f"a call must not set the header {name!r}")


@lru_cache(maxsize=1024)
def origin_of(url: str) -> Origin:
    """Scheme, host and port, made comparable. Raises ``ValueError`` for what is not plainly an HTTP URL."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("not an absolute http or https URL in plain ASCII without user info")
    scheme, host = match[1].lower(), match[2].lower()
    port = int(match[3]) if match[3] else _PORTS[scheme]
    if not 0 < port < 65536:
        raise ValueError(f"{port} is not a port")
    if host.startswith("["):
        host = f"[{IPv6Address(host[1:-1])}]"
    return Origin(scheme, host, port)


@lru_cache(maxsize=1024)
def is_link_local(host: str) -> bool:
    """Whether ``host`` is literally an address of the local link or of a cloud's metadata service.

    A name that resolves to one is not seen here.
    """
    address = _address(host.strip("[]").rstrip("."))
    if isinstance(address, IPv6Address):
        embedded = _embedded(address)
        if embedded is None:
            return address.is_link_local or address == _EC2_METADATA
        address = embedded
    return address is not None and address.is_link_local


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        # The resolver's notations: 0xa9fea9fe, 2852039166 and 169.254.43518 are all 169.254.169.254.
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if address in _NAT64:
        return IPv4Address(address.packed[12:])
    return address.ipv4_mapped or address.sixtofour
