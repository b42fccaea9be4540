"""The wire as shipped: what is no HTTP, which path is meant, and what is too much (security.md §6, §8)."""

import asyncio

import pytest

from api.line import HEALTH, SUBMIT, Line
from api.raw import exchange, parse, request
from api.refusals import assert_refused
from api.world import bearer
from support.gateway import CHAT, KEY, RunningGateway

pytestmark = pytest.mark.anyio


def chunked(body: bytes, extra: bytes = b"") -> bytes:
    return SUBMIT + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + extra + body


# What is no HTTP


NO_HTTP = {
    "both lengths": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a signed length": b"Content-Length: +2\r\n\r\n{}",
    "a hexadecimal length": b"Content-Length: 0x2\r\n\r\n{}",
    "a list of lengths": b"Content-Length: 2, 2\r\n\r\n{}",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "an endless length": b"Content-Length: 99999999999999999999999\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: cow\r\n\r\n",
    "chunked and more": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a folded line": b"X-A: b\r\n c\r\n\r\n",
    "a space before the colon": b"X-A : b\r\n\r\n",
    "a space before the name": b" X-A: b\r\n\r\n",
    "a line without a colon": b"X-A\r\n\r\n",
    "a name with a space": b"X A: b\r\n\r\n",
    "a name with a NUL": b"X\0A: b\r\n\r\n",
    "a value with a NUL": b"X-A: b\0c\r\n\r\n",
    "a bare carriage return": b"X-A: b\rc\r\n\r\n",
    "a bare line feed": b"X-A: b\nX-B: c\r\n\r\n",
    "an empty name": b": b\r\n\r\n",
    "a chunk size that is none": b"Transfer-Encoding: chunked\r\n\r\nx\r\n{}\r\n0\r\n\r\n",
    "a signed chunk size": b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
    "a negative chunk size": b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "an endless chunk size": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "a chunk longer than said": b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
    "a chunk with a bare line feed": b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
}


@pytest.mark.parametrize("headers", NO_HTTP.values(), ids=NO_HTTP.keys())
async def test_8_a_message_that_can_be_read_in_two_ways_is_refused(
    gateway: RunningGateway, headers: bytes
) -> None:
    """And nothing behind it is taken for a request."""
    line = await Line.to(gateway, SUBMIT + headers + HEALTH)

    answers = await line.rest()

    assert answers.startswith(b"HTTP/1.1 400 ")
    assert answers.count(b"HTTP/1.1 ") == 1


NO_REQUEST_LINE = {
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\nHost: localhost\r\n\r\n",
    "an unknown method": b"GETT /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a method in lower case": b"get /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tab": b"GET\t/healthz\tHTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a space in the target": b"GET /health z HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    "noise": bytes(range(256)),
}


@pytest.mark.parametrize("sent", NO_REQUEST_LINE.values(), ids=NO_REQUEST_LINE.keys())
async def test_8_what_is_no_request_is_refused(gateway: RunningGateway, sent: bytes) -> None:
    answers = await (await Line.to(gateway, sent)).rest()

    assert answers.startswith(b"HTTP/1.1 400 ")


async def test_8_what_stands_before_the_noise_is_answered(gateway: RunningGateway) -> None:
    answers = await (await Line.to(gateway, HEALTH + HEALTH + b"\0noise")).rest()

    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.count(b"HTTP/1.1 ") == 2


# Which path is meant


WRONG_PATHS = (
    "//healthz", "/healthz/", "/healthz//", "/./healthz", "/x/../healthz", "/../healthz", "/%68ealthz",
    "/healthz%00", "/healthz%20", "/healthz;x", "/healthz;x=1", "/HEALTHZ", "/Healthz", "/healthz.", "/healthz\\",
    "\\healthz", "/healthz%2f", "/%2e/healthz", "/%2e%2e/healthz", "/..%2fhealthz", "/healthz#x", "*", "healthz",
    "http://localhost/healthz", "http://localhost:1/healthz", "https://localhost/healthz", "HTTP://localhost/healthz",
    "http://evil.example/healthz", "//localhost/healthz", "/v1//async/jobs", "/v1/async/jobs/", "/v1/async/./jobs",
    "/v1/async/jobs/x/../..", "/v1/async/jobs%2fx", "/v1%2fasync/jobs", "/v1/async/jobs/..%2f..%2fmetrics",
    "/V1/async/jobs", "/v1/async/jobs;a=b", "/v1/async/x/../jobs", "/v1/async/%6aobs",
    "/api/governance/virtual-keys/", "/api/governance/../governance/virtual-keys", "/metrics/", "/metrics%2f",
)  # fmt: skip


@pytest.mark.parametrize("target", WRONG_PATHS)
async def test_7_another_spelling_is_another_path(gateway: RunningGateway, target: str) -> None:
    """Neither an open route nor a guarded one: with every credential there is, nothing is found."""
    headers = [f"{name}: {value}" for name, value in bearer().items()]

    response = await exchange(gateway.url, request(target, *headers))

    assert response.status_code in {400, 404}
    if response.status_code == 404:
        assert response.json()["error"]["code"] in {"route_not_found", "job_not_found"}


@pytest.mark.parametrize("target", ["localhost:80", "/healthz"])
async def test_7_connect_leads_nowhere(gateway: RunningGateway, target: str) -> None:
    response = await exchange(gateway.url, request(target, method="CONNECT"))

    assert response.status_code in {400, 404, 405}
    assert response.headers["connection"] == "close"


HOSTS = {
    "none": b"",
    "two": b"Host: localhost\r\nHost: localhost\r\n",
    "another": b"Host: evil.example\r\n",
    "empty": b"Host:\r\n",
    "with user info": b"Host: x@localhost\r\n",
    "with a path": b"Host: localhost/x\r\n",
    "a list": b"Host: localhost, evil.example\r\n",
    "decimal": b"Host: 2130706433\r\n",
    "a suffix": b"Host: localhost.evil.example\r\n",
}


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS.keys())
async def test_7_exactly_one_host_that_is_ours(gateway: RunningGateway, host: bytes) -> None:
    sent = b"GET /healthz HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n"

    assert_refused(parse(await (await Line.to(gateway, sent)).rest()), "host_not_allowed")


# What is too much


async def test_6_a_url_of_8_kib_is_looked_up_and_a_longer_one_is_414(gateway: RunningGateway) -> None:
    fits = await exchange(gateway.url, request("/" + "a" * (8 * 1024 - 1)))
    too_long = await exchange(gateway.url, request("/" + "a" * 8 * 1024))

    assert (fits.status_code, too_long.status_code) == (404, 414)
    assert too_long.headers["connection"] == "close"


TOO_MUCH = {
    "a line over 16 KiB": [f"X-A: {'a' * 16 * 1024}"],
    "a name over 16 KiB": [f"{'X' * 16 * 1024}: a"],
    "over 32 KiB in all": [f"X-{number}: {'a' * 8000}" for number in range(5)],
    "over 100": [f"X-{number}: a" for number in range(100)],
    "10,000": [f"X-{number}: a" for number in range(10_000)],
}


@pytest.mark.parametrize("lines", TOO_MUCH.values(), ids=TOO_MUCH.keys())
async def test_6_too_many_or_too_large_headers_are_431(gateway: RunningGateway, lines: list[str]) -> None:
    response = await exchange(gateway.url, request("/healthz", *lines))

    assert response.status_code == 431
    assert response.headers["connection"] == "close"


async def test_6_headers_within_the_limits_are_taken(gateway: RunningGateway) -> None:
    lines = [f"X-A: {'a' * 16_000}", *(f"X-{number}: a" for number in range(97))]

    assert (await exchange(gateway.url, request("/healthz", *lines))).status_code == 200


@pytest.mark.parametrize(
    "trailers",
    [b"X-A: b\r\n" * 10_000, b"X-A: " + b"a" * 100_000 + b"\r\n", b"X-A: " + b"a" * 40_000 + b"\r\n"],
    ids=["10,000", "a long one", "one over 32 KiB"],
)
async def test_8_trailers_are_bounded(gateway: RunningGateway, trailers: bytes) -> None:
    answers = await (await Line.to(gateway, chunked(b"2\r\n{}\r\n0\r\n" + trailers + b"\r\n"))).rest()

    assert answers.count(b"HTTP/1.1 ") <= 1
    assert not answers.startswith(b"HTTP/1.1 2")


async def test_8_a_trailer_is_no_header(gateway: RunningGateway) -> None:
    """Neither a credential nor an option can follow the body."""
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    sent = head.encode() + b"2\r\n{}\r\n0\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n\r\n"

    response = parse(await (await Line.to(gateway, sent)).rest())

    assert_refused(response, "virtual_key_required")


async def test_32_a_body_of_200_000_chunks_is_a_body(gateway: RunningGateway) -> None:
    body = b'{"model": "openai/echo", "messages": [{"role": "user", "content": "%b"}]}' % (b"a" * 199_000)
    sent = chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")

    response = parse(await (await Line.to(gateway, sent)).rest())

    assert response.status_code == 202, response.text


async def test_6_bodies_in_transit_share_a_room(gateway: RunningGateway) -> None:
    """512 MiB in all: then 503, before the body is read, while small requests go on."""
    announced = SUBMIT + b"Content-Length: %d\r\n\r\n{" % (32 * 2**20)
    lines = [await Line.to(gateway, announced) for _ in range(16)]
    async with asyncio.timeout(10):
        while gateway.gateway.app._room.free > 0:
            await asyncio.sleep(0.01)

    one_more = await Line.to(gateway, announced)
    refused = parse(await one_more.answer())
    small = await gateway.submit()
    for line in (*lines, one_more):
        line.writer.close()
    async with asyncio.timeout(10):
        while gateway.gateway.app._room.free < 512 * 2**20:
            await asyncio.sleep(0.01)

    assert_refused(refused, "store_busy")
    assert small.status_code == 202


async def test_6_whoever_still_sends_hears_why_it_was_refused(gateway: RunningGateway) -> None:
    """Closing at once would reset the connection, and the answer be lost with it."""
    for head in (SUBMIT + b"Content-Length: %d\r\n\r\n" % 2**30, SUBMIT + b"X-A: " + b"a" * 40_000):
        line = await Line.to(gateway, head)
        for _ in range(64):
            line.writer.write(b"a" * 2**16)
            await asyncio.sleep(0.001)

        assert (await line.answer()).startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 431 "))
        line.writer.close()


# What goes on working


async def test_8_requests_may_come_in_a_row(gateway: RunningGateway) -> None:
    last = HEALTH[:-2] + b"Connection: close\r\n\r\n"

    answers = await (await Line.to(gateway, HEALTH * 20 + last)).rest()

    assert answers.count(b"HTTP/1.1 200 OK") == 21


async def test_8_http_1_0_is_answered_and_closed(gateway: RunningGateway) -> None:
    answer = await (await Line.to(gateway, b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")).rest()

    assert answer.startswith(b"HTTP/1.1 200 OK")


async def test_8_a_client_may_close_its_half(gateway: RunningGateway) -> None:
    line = await Line.to(gateway, HEALTH[:-2] + b"Connection: close\r\n\r\n")
    line.writer.write_eof()

    assert b"200 OK" in await line.rest()


async def test_8_whoever_asks_first_is_told_to_go_on(gateway: RunningGateway) -> None:
    body = b'{"model": "openai/echo", "messages": [{"role": "user", "content": "x"}]}'
    head = SUBMIT + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    line = await Line.to(gateway, head)

    async with asyncio.timeout(10):
        assert await line.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.writer.write(body)

    assert b"202 Accepted" in await line.rest()


async def test_8_an_offered_protocol_is_declined_with_an_answer(gateway: RunningGateway) -> None:
    body = b'{"model": "openai/echo", "messages": [{"role": "user", "content": "x"}]}'
    head = SUBMIT + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: %d\r\n\r\n" % len(body)

    answers = await (await Line.to(gateway, head + body + HEALTH[:-2] + b"Connection: close\r\n\r\n")).rest()

    assert answers.startswith(b"HTTP/1.1 202 Accepted")
    assert b"HTTP/1.1 200 OK" in answers
