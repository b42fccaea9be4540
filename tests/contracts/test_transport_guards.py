"""What the transport refuses to send at all (security T1, T3, T18 and §4 rule 7)."""

import pytest

from support.forward_proxy import proxying
from support.transports import LONG, a_call, bearer, opened, replied, saying
from support.upstream_server import head, serving
from tidegate.domain.inference import Credential
from tidegate.domain.secret import Secret
from tidegate.transport import Egress
from tidegate.transport.guards import checked_headers, is_link_local, origin_of

pytestmark = pytest.mark.anyio

HERE = "https://api.example"


@pytest.mark.parametrize(
    "origin",
    [
        "https://api.example.evil.test",
        "https://evil.test",
        "http://api.example",
        "https://api.example:8443",
        "https://api.example.",
    ],
)
async def test_a_credential_does_not_travel_to_another_origin(origin: str) -> None:
    call = a_call(f"{HERE}/v1", credential=bearer(origin))

    with pytest.raises(ValueError, match=r"must not travel to another origin") as refused:
        checked_headers(call, allow_link_local=False)

    assert "very-secret" not in str(refused.value)


async def test_a_credential_for_a_foreign_origin_opens_no_connection() -> None:
    async with serving(saying(head())) as upstream, opened() as transport:
        call = a_call(upstream.url(), credential=bearer(HERE))
        with pytest.raises(ValueError, match=r"another origin"):
            await transport.send(call, time_limit=LONG)

        assert upstream.connections == 0


@pytest.mark.parametrize("origin", ["https://API.example", "https://api.example:443", "HTTPS://api.example/"])
async def test_the_same_origin_may_be_written_differently(origin: str) -> None:
    headers = checked_headers(a_call(f"{HERE}/v1", credential=bearer(origin)), allow_link_local=False)

    assert headers["authorization"].startswith("Bearer ")


@pytest.mark.parametrize(
    "url",
    [
        "https://user:word@api.example/v1",
        "https://api.example\\@evil.test/v1",
        "https://api.example@evil.test/v1",
        "https://api.example#@evil.test/v1",
        "https://api.example/v1\r\nhost: evil.test",
        "https://api.example/a b",
        "https://api.exämple/v1",
        "https://%61pi.example/v1",
        "https:///v1",
        "//api.example/v1",
        "ftp://api.example/v1",
        "file:///etc/passwd",
        "https://api.example:0/",
        "https://api.example:65536/",
        "https://[::::]/",
        "https://[fe80::1%25eth0]/",
        "",
    ],
)
async def test_a_url_that_two_parsers_could_read_differently_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        checked_headers(a_call(url), allow_link_local=True)


async def test_an_origin_is_read_from_any_url_of_it() -> None:
    assert origin_of("https://my_host:8443/v1?x=%2f") == origin_of("HTTPS://MY_HOST:8443?y")
    assert origin_of("http://[::1]/") == origin_of("http://[0:0::1]:80")
    assert origin_of("http://api.example") != origin_of("https://api.example:80")


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\r\nevil: 1", "a\x00b", "a\x7f", "ä"])
@pytest.mark.parametrize("place", ["header", "credential"])
async def test_a_header_value_stays_on_its_line(value: str, place: str) -> None:
    call = a_call(HERE, headers=(("x-note", value),))
    if place == "credential":
        call = a_call(HERE, credential=Credential(HERE, "authorization", Secret(value)))

    with pytest.raises(ValueError, match=r"is not plain printable text") as refused:
        checked_headers(call, allow_link_local=False)

    assert value not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    ["Host", "content-length", "Transfer-Encoding", "connection", "x:y", "x y", "", "x\r\nevil", "ä"],
)
async def test_a_header_that_would_frame_or_break_the_request_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"must not set the header"):
        checked_headers(a_call(HERE, headers=((name, "1"),)), allow_link_local=False)


async def test_a_header_is_not_repeated() -> None:
    with pytest.raises(ValueError, match=r"repeats a header"):
        checked_headers(a_call(HERE, headers=(("x-a", "1"), ("X-A", "2"))), allow_link_local=False)


async def test_the_credential_wins_over_a_header_of_the_same_name() -> None:
    credential = Credential(HERE, "Authorization", Secret("ours"))
    call = a_call(HERE, headers=(("authorization", "theirs"),), credential=credential)

    assert checked_headers(call, allow_link_local=False) == {"authorization": "ours"}


LINK_LOCAL = [
    "169.254.0.0",
    "169.254.169.254",
    "169.254.255.255",
    "169.254.169.254.",
    "169.254.43518",
    "0xa9fea9fe",
    "0xa9.254.0xa9.254",
    "2852039166",
    "0251.0376.0251.0376",
    "[fe80::1]",
    "[febf:ffff::1]",
    "[fd00:ec2::254]",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
]
ELSEWHERE = [
    "169.253.255.255",
    "169.255.0.0",
    "127.0.0.1",
    "127.1",
    "10.0.0.1",
    "192.168.1.1",
    "[::1]",
    "[fec0::1]",
    "[fd00:ec2::253]",
    "[fd00::1]",
    "[::ffff:10.0.0.1]",
    "[64:ff9b::a00:1]",
    "localhost",
    "metadata.example",
    "my_host",
]


@pytest.mark.parametrize("host", LINK_LOCAL)
async def test_a_link_local_host_is_refused_in_any_notation(host: str) -> None:
    assert is_link_local(host)
    with pytest.raises(ValueError, match=r"network_config.allow_link_local"):
        checked_headers(a_call(f"http://{host}/latest/meta-data"), allow_link_local=False)


@pytest.mark.parametrize("host", ELSEWHERE)
async def test_other_private_hosts_are_the_operators_business(host: str) -> None:
    assert not is_link_local(host)
    checked_headers(a_call(f"http://{host}/v1"), allow_link_local=False)


async def test_link_local_is_permitted_per_provider() -> None:
    """Through a proxy that takes every host for this machine."""
    async with proxying() as proxy, serving(saying(head("content-length: 0"))) as upstream:
        url = upstream.url(host="169.254.169.254")
        proxy_url = Secret(f"http://127.0.0.1:{proxy.port}")
        egress = {
            "acme": Egress(proxy_url=proxy_url, allow_link_local=True),
            "other": Egress(proxy_url=proxy_url),
        }
        async with opened(egress=egress) as transport:
            await replied(transport.send(a_call(url), time_limit=LONG))
            with pytest.raises(ValueError, match=r"link-local"):
                await transport.send(a_call(url, provider="other"), time_limit=LONG)

        assert len(upstream.requests) == 1
