"""The sockets of a process, as the kernel lists them: who could reach it, and how many connections it holds where."""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

_LISTENS: Final = "0A"
_WORD: Final = 4


class Socket(Struct, frozen=True):
    """One line of ``/proc/net/tcp`` or ``tcp6``."""

    address: str
    is_open_to_others: bool
    """It takes connections from beyond this machine."""
    remote_port: int
    inode: str


def open_to_others(pids: Sequence[int]) -> list[str]:
    """Addresses beyond loopback on which these processes take connections."""
    return [one.address for one in _sockets_of(pids) if one.is_open_to_others]


def connections_to(port: int, pids: Sequence[int]) -> int:
    """Connections of these processes to a port."""
    return sum(one.remote_port == port for one in _sockets_of(pids))


def read(lines: Iterable[str]) -> Iterator[Socket]:
    for line in lines:
        _, local, remote, state, _, _, _, _, _, inode, *_ = line.split()
        address = _address(local.partition(":")[0])
        yield Socket(
            address=str(address),
            is_open_to_others=state == _LISTENS and not _is_loopback(address),
            remote_port=int(remote.partition(":")[2], 16),
            inode=inode,
        )


def _sockets_of(pids: Sequence[int]) -> list[Socket]:
    inodes = {inode for pid in pids for inode in _inodes_of(pid)}
    tables = (Path(f"/proc/net/{name}") for name in ("tcp", "tcp6"))
    return [
        one
        for table in tables
        if table.exists()
        for one in read(table.read_text("ascii").splitlines()[1:])
        if one.inode in inodes
    ]


def _inodes_of(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue  # closed since it was listed
        if target.startswith("socket:["):
            yield target[len("socket:[") : -1]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The kernel prints words of four bytes as this machine keeps them: the least significant byte first."""
    raw = bytes.fromhex(text)
    turned = b"".join(raw[at : at + _WORD][::-1] for at in range(0, len(raw), _WORD))
    return ipaddress.ip_address(turned)


def _is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
