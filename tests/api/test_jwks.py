"""Issuers whose keys stand at a URL (contract §5.3, security.md §3)."""

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from api.minting import claims, jwk, signed_with
from api.refusals import assert_refused
from api.world import bearer, config_of
from support.fakes import FakeClock
from support.gateway import RunningGateway, running
from support.transports import opened
from support.upstream_server import Peer, Request, Upstream, serving, unused_port
from tidegate.api.jwks import RemoteKeys
from tidegate.mock_vendor import MockVendor
from tidegate.transport import Egress

pytestmark = pytest.mark.anyio

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
EDWARDS_KEY = ed25519.Ed25519PrivateKey.generate()
KEYS: list[tuple[str, Any]] = [("RS256", RSA_KEY), ("ES256", EC_KEY), ("EdDSA", EDWARDS_KEY)]
JSON = "content-type: application/json"


class KeySet:
    """What the URL answers."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.body = encoded(*keys)
        self.status = 200
        self.headers = (JSON,)

    async def __call__(self, peer: Peer, request: Request) -> None:
        await peer.reply(self.body, *self.headers, status=self.status)


def encoded(*keys: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"keys": list(keys)})


def usual() -> list[dict[str, Any]]:
    return [jwk(key, kid=algorithm, alg=algorithm, use="sig") for algorithm, key in KEYS]


@asynccontextmanager
async def remote(
    answer: KeySet, clock: FakeClock | None = None
) -> AsyncIterator[tuple[RemoteKeys, Upstream]]:
    async with serving(answer) as upstream, opened() as transport:
        yield RemoteKeys(upstream.url("/keys"), transport, clock or FakeClock()), upstream


@pytest.fixture(scope="module")
async def issuing(
    vendor: MockVendor, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    directory = tmp_path_factory.mktemp("issuing")
    config = config_of(directory, vendor)
    broken = [{"kty": "RSA", "kid": "RS256"}, {"kty": "EC", "kid": "ES256", "crv": "x", "x": "", "y": ""}, {}]
    async with serving(KeySet(*broken, *usual())) as upstream:
        config["auth"]["jwt"]["issuers"].append(
            {
                "iss": "https://sets.example",
                "aud": "tidegate",
                "algorithms": [algorithm for algorithm, _ in KEYS],
                "jwks_url": upstream.url("/keys"),
                "kinds": ["admin"],
            }
        )
        async with running(directory, config) as gateway:
            yield gateway


@pytest.mark.parametrize(("algorithm", "key"), KEYS, ids=[algorithm for algorithm, _ in KEYS])
@pytest.mark.parametrize("with_kid", [True, False], ids=["kid", "no kid"])
async def test_53_a_key_of_the_set_verifies(
    issuing: RunningGateway, algorithm: str, key: Any, *, with_kid: bool
) -> None:
    """Broken entries of the set are passed over."""
    header = {"alg": algorithm} | ({"kid": algorithm} if with_kid else {})
    token = signed_with(key, claims(iss="https://sets.example", role="admin"), header)

    response = await issuing.client.get("/v1/async/jobs", headers=bearer(token))

    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "RS256", "kid": "unknown"},
        {"alg": "RS256", "kid": "ES256"},
        {"alg": "ES256", "kid": "RS256"},
        {"alg": "RS256", "kid": "../RS256"},
    ],
    ids=str,
)
async def test_53_a_kid_is_a_look_up_value_and_nothing_more(
    issuing: RunningGateway, header: dict[str, str]
) -> None:
    token = signed_with(RSA_KEY, claims(iss="https://sets.example", role="admin"), header)

    assert_refused(await issuing.client.get("/v1/async/jobs", headers=bearer(token)), "invalid_token")


async def test_53_a_foreign_key_does_not_verify(issuing: RunningGateway) -> None:
    stranger = rsa.generate_private_key(65537, 2048)
    token = signed_with(stranger, claims(iss="https://sets.example", role="admin"), {"alg": "RS256"})

    assert_refused(await issuing.client.get("/v1/async/jobs", headers=bearer(token)), "invalid_token")


async def test_53_the_set_comes_over_verified_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    trusted = {"issuer keys": Egress(ca_cert=tmp_path / "ca.pem")}
    async with serving(KeySet(*usual()), tls) as upstream:
        url = upstream.url("/keys", scheme="https")
        async with opened(egress=trusted) as transport:
            believed = await RemoteKeys(url, transport, FakeClock()).keys("RS256", "RS256")
        async with opened() as transport:
            doubted = await RemoteKeys(url, transport, FakeClock()).keys("RS256", "RS256")

    assert len(believed) == 1
    assert doubted == []


async def test_53_a_known_kid_asks_the_url_once() -> None:
    async with remote(KeySet(*usual())) as (keys, upstream):
        for _ in range(3):
            assert len(await keys.keys("RS256", "RS256")) == 1

    assert [request.method for request in upstream.requests] == ["GET"]


async def test_53_an_unknown_kid_asks_again_at_most_once_a_minute() -> None:
    clock, answer = FakeClock(), KeySet()
    async with remote(answer, clock) as (keys, upstream):
        assert await keys.keys("RS256", "RS256") == []
        answer.body = encoded(*usual())
        clock.advance(timedelta(seconds=59))
        assert await keys.keys("RS256", "RS256") == []
        clock.advance(timedelta(seconds=1))
        assert len(await keys.keys("RS256", "RS256")) == 1

    assert len(upstream.requests) == 2


async def test_53_a_set_is_fetched_afresh_after_an_hour() -> None:
    """A key that the issuer took out of its set must not be believed for ever."""
    clock, answer = FakeClock(), KeySet(*usual())
    async with remote(answer, clock) as (keys, _):
        await keys.keys("RS256", "RS256")
        answer.body = encoded()
        clock.advance(timedelta(hours=1))

        assert await keys.keys("RS256", "RS256") == []


@pytest.mark.parametrize("trouble", ["status", "junk", "too many", "too large", "redirect", "not a set"])
async def test_53_the_last_good_set_serves_while_the_url_fails(trouble: str) -> None:
    clock, answer = FakeClock(), KeySet(*usual())
    async with remote(answer, clock) as (keys, upstream):
        await keys.keys("RS256", "RS256")
        match trouble:
            case "status":
                answer.status, answer.body = 500, encoded()
            case "junk":
                answer.body = b"<html>"
            case "too many":
                answer.body = encoded(*usual() * 34)
            case "too large":
                answer.body = encoded({"x": "y" * 256 * 1024})
            case "redirect":
                answer.status, answer.headers = 302, (f"location: {upstream.url('/elsewhere')}",)
                answer.body = encoded()
            case _:
                answer.body = b"[]"
        clock.advance(timedelta(hours=2))

        assert len(await keys.keys("RS256", "RS256")) == 1
    assert [request.target for request in upstream.requests] == ["/keys", "/keys"]


async def test_53_a_url_that_nobody_serves_gives_no_key() -> None:
    async with opened() as transport:
        keys = RemoteKeys(f"http://127.0.0.1:{unused_port()}/keys", transport, FakeClock())

        assert await keys.keys(None, "RS256") == []


@pytest.mark.parametrize(
    "unfit",
    [
        [jwk(RSA_KEY, use="enc")],
        [jwk(RSA_KEY, alg="RS512")],
        [jwk(RSA_KEY, alg="ES256")],
        [jwk(EC_KEY)],
        [{"kty": "oct", "k": "c2VjcmV0"}],
        [{"kty": "RSA", "n": 5, "e": "AQAB"}],
        [{"kty": "RSA", "n": "", "e": ""}],
        [{"kty": "RSA", "n": "!", "e": "!"}],
    ],
    ids=[
        "for encryption",
        "another RSA algorithm",
        "an EC algorithm",
        "an EC key",
        "a secret",
        "a number",
        "nothing",
        "no base64",
    ],
)
async def test_53_only_keys_made_for_the_algorithm_are_used(unfit: Sequence[dict[str, Any]]) -> None:
    async with remote(KeySet(*unfit)) as (keys, _):
        assert await keys.keys(None, "RS256") == []
