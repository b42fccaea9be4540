"""Sends calls to vendors through wreq, and holds them to the limits."""

from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final, final

from wreq import Client, DnsOptions, Method, Proxy, Response, Runtime, TlsVersion
from wreq.redirect import Policy

from tidegate import __version__
from tidegate.domain.failures import Failure
from tidegate.domain.inference import HttpCall, HttpReply
from tidegate.ports import Clock
from tidegate.transport import echo
from tidegate.transport.egress import Egress, Limits
from tidegate.transport.guards import checked_headers, origin_of
from tidegate.transport.patience import Patience, Watchman
from tidegate.transport.trouble import TROUBLE, failure_of, no_answer, too_large
from tidegate.transport.trust import authorities

_DIRECT: Final = Egress()
_DEFAULT_LIMITS: Final = Limits()
_METHODS: Final = {name: getattr(Method, name) for name in ("DELETE", "GET", "PATCH", "POST", "PUT")}
_IDLE_CONNECTION_LIVES: Final = timedelta(seconds=30)
_NAMES_RESOLVED_AT_ONCE: Final = 16
# A body announced to be no longer than this is awaited as one piece, which saves a fifth of the call's CPU.
_ONE_PIECE: Final = 64 * 1024


@final
class UpstreamTransport:
    """Follows no redirect, uses no environment proxy, verifies TLS, never sends a request twice.

    Raises ``ValueError`` for a call that must not be made (see ``guards``).
    """

    def __init__(self, clock: Clock, egress: Mapping[str, Egress], limits: Limits = _DEFAULT_LIMITS) -> None:
        self._clock = clock
        self._egress = dict(egress)
        self._limits = limits
        self._clients: dict[Egress, Client] = {}
        self._authorities = cache(authorities)
        self._watchman = Watchman()
        self._is_closed = False
        # All network work is done by one thread, however many cores there are: that is the least CPU.
        self._runtime = Runtime(
            workers=1,
            work_steal=False,
            thread_name="upstream",
            max_blocking_threads=_NAMES_RESOLVED_AT_ONCE,
        )

    async def send(
        self,
        call: HttpCall,
        *,
        time_limit: timedelta,
        pinned: IPv4Address | IPv6Address | None = None,
    ) -> HttpReply | Failure:
        """As the port says. ``pinned`` is connected to instead of what the host resolves to.

        Host header and SNI stay as they are; behind a proxy it is the proxy that resolves, and must pin.
        """
        if self._is_closed:
            raise RuntimeError("the transport is closed")
        egress = self._egress.get(call.provider, _DIRECT)
        headers = checked_headers(call, allow_link_local=egress.allow_link_local)
        client = self._shared_client(egress) if pinned is None else self._pinned(egress, call.url, pinned)
        return await self._exchange(client, call, headers, time_limit)

    async def close(self) -> None:
        """Idle connections are closed. Running calls go on to their end, new ones are refused."""
        self._is_closed = True
        self._clients.clear()

    async def _exchange(
        self, client: Client, call: HttpCall, headers: dict[str, str], time_limit: timedelta
    ) -> HttpReply | Failure:
        patience = Patience(self._watchman, time_limit, self._limits.idle_timeout)
        response: Response | None = None
        try:
            with patience:
                response = await client.request(
                    _METHODS[call.method], call.url, headers=headers, body=call.body
                )
                body = await self._read(response, patience)
        except TimeoutError:
            failure = no_answer(call.provider, patience, _status(response))
        except TROUBLE as error:
            failure = failure_of(error, call.provider, _status(response))
        else:
            if body is not None:
                return self._reply(response, body, call)
            failure = too_large(call.provider, self._limits.max_response_bytes, _status(response))
        if response is None or response.status.is_success():
            return failure
        # A refusal says what it has to say with its status; the body that got lost would only explain it.
        return self._reply(response, b"", call)

    async def _read(self, response: Response, patience: Patience) -> bytes | None:
        """The whole body; ``None`` if it is larger than the limit."""
        limit = self._limits.max_response_bytes
        announced = response.content_length  # None for a chunked or compressed body
        if announced is not None and announced > limit:
            return None
        patience.heard()
        if announced is not None and announced <= _ONE_PIECE:
            return bytes(await response.bytes())
        # Copied, not collected: a part may be one byte that keeps a whole network buffer alive.
        body = bytearray()
        async with response.stream() as parts:
            async for part in parts:
                if isinstance(part, memoryview):  # else trailers
                    body += part
                if len(body) > limit:
                    return None
                patience.heard()
        return bytes(body)

    def _reply(self, response: Response, body: bytes, call: HttpCall) -> HttpReply:
        headers: Mapping[str, str] = {
            str(name, "latin-1"): str(value, "latin-1") for name, value in response.headers
        }
        key = echo.key_of(call.credential)
        if key is not None:
            headers, body = echo.headers_without(key, headers), echo.body_without(key, body)
        return HttpReply(response.status.as_int(), headers, body, self._clock.now())

    def _shared_client(self, egress: Egress) -> Client:
        client = self._clients.get(egress)
        if client is None:
            client = self._clients[egress] = self._build(egress, DnsOptions(system_dns=True))
        return client

    def _pinned(self, egress: Egress, url: str, address: IPv4Address | IPv6Address) -> Client:
        """A client for one call: it costs less than the handshake, and no address outlives its check."""
        dns = DnsOptions(system_dns=True)
        dns.add_resolve(origin_of(url).host, [address])
        return self._build(egress, dns)

    def _build(self, egress: Egress, dns: DnsOptions) -> Client:
        proxy = egress.proxy_url
        return Client(
            runtime=self._runtime,
            user_agent=f"tidegate/{__version__}",
            redirect=Policy.none(),
            no_proxy=proxy is None,
            proxies=[] if proxy is None else [Proxy.all(proxy.reveal())],
            dns_options=dns,
            connect_timeout=self._limits.connect_timeout,
            pool_idle_timeout=_IDLE_CONNECTION_LIVES,
            pool_max_idle_per_host=egress.pool_size,
            # One call, one connection: cancelling the call then ends everything the vendor does for it.
            http1_only=True,
            tls_min_version=TlsVersion.TLS_1_2,
            tls_verify=self._authorities(egress.ca_cert) or True,
        )


def _status(response: Response | None) -> int | None:
    return None if response is None else response.status.as_int()
