"""JWTs that are accepted: algorithms, claims, kinds, the local issuer (contract §5.3)."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from api.minting import PrivateKey, admin_token, claims, jwk, key_token, pem, signed, signed_with
from api.refusals import assert_refused
from api.world import bearer, config_of
from support.fakes import FakeClock
from support.gateway import JWT_SECRET, KEY, RunningGateway, chat, running
from tidegate.api import local_issuer
from tidegate.api.tokens import ClaimNames, Issuer, StaticKey, TokenVerification
from tidegate.domain.errors import Unauthenticated
from tidegate.domain.secret import Secret
from tidegate.mock_vendor import MockVendor
from tidegate.ports import TokenClaims

pytestmark = pytest.mark.anyio

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
EDWARDS_KEY = ed25519.Ed25519PrivateKey.generate()
STATIC: list[tuple[str, str, PrivateKey, str]] = [
    ("https://rs.example", "RS256", RSA_KEY, pem(RSA_KEY)),
    ("https://es.example", "ES256", EC_KEY, json.dumps(jwk(EC_KEY))),
    ("https://ed.example", "EdDSA", EDWARDS_KEY, pem(EDWARDS_KEY)),
]
VIEW = "/v1/async/jobs"
ADMIN_ROUTE = "/api/governance/virtual-keys"


@pytest.fixture(scope="module")
async def trusting(
    vendor: MockVendor, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    """A gateway that believes one issuer per algorithm."""
    directory = tmp_path_factory.mktemp("trusting")
    config = config_of(directory, vendor)
    config["auth"]["jwt"]["issuers"] += [
        {
            "iss": iss,
            "aud": "tidegate",
            "algorithms": [algorithm],
            "key": key,
            "kinds": ["admin", "virtual_key"],
        }
        for iss, algorithm, _, key in STATIC
    ] + [{"iss": "https://keys.example", "aud": "other", "algorithms": ["HS256"], "key": JWT_SECRET}]
    async with running(directory, config) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("iss", "algorithm", "key"), [row[:3] for row in STATIC], ids=[row[1] for row in STATIC]
)
async def test_53_static_public_keys(
    trusting: RunningGateway, iss: str, algorithm: str, key: PrivateKey
) -> None:
    admin = signed_with(key, claims(iss=iss, role="admin"), {"alg": algorithm})
    other_key = signed_with(key, claims(iss=iss, virtual_key="key-a"), {"alg": algorithm})

    assert (await trusting.client.get(ADMIN_ROUTE, headers=bearer(admin))).status_code == 200
    assert (await trusting.client.get(VIEW, headers=bearer(other_key))).status_code == 200


async def test_53_a_virtual_key_token_acts_exactly_as_the_key(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted(key=key_token("key-a", sub="alice"))

    by_secret = await gateway.poll(job_id, key=KEY)
    view = await gateway.details(job_id, key=KEY)

    assert by_secret.json()["id"] == job_id
    assert view["virtual_key"] == {"id": "key-a", "name": "a"}


async def test_53_it_has_the_key_s_limits(gateway: RunningGateway) -> None:
    blocked = await gateway.submit(chat("openai/other"), key=key_token("key-limited"))
    modest = await gateway.accepted(headers={"x-bf-async-priority": "1"}, key=key_token("key-modest"))

    assert_refused(blocked, "model_blocked")
    assert (await gateway.details(modest, key=key_token("key-modest")))["options"]["priority"] == 4


async def test_53_a_key_of_the_configuration_may_be_named(gateway: RunningGateway) -> None:
    job_id = await gateway.accepted(key=key_token("a"))

    assert (await gateway.details(job_id, key=KEY))["virtual_key"]["id"] == "key-a"


async def test_53_a_key_made_over_http_is_named_by_its_id_only(
    gateway: RunningGateway, as_admin: dict[str, str]
) -> None:
    """Its name may be given to another key some day, and the rights would move."""
    made = (await gateway.client.post(ADMIN_ROUTE, json={"name": "made"}, headers=as_admin)).json()

    by_id = await gateway.submit(key=key_token(made["virtual_key"]["id"]))
    by_name = await gateway.submit(key=key_token("made"))

    assert by_id.status_code == 202
    assert_refused(by_name, "virtual_key_not_found")


async def test_53_the_subject_is_the_actor_for_admins_only(
    gateway: RunningGateway, as_admin: dict[str, str]
) -> None:
    job_id = await gateway.accepted(key=key_token("key-a", sub="alice@example"))

    for_admin = (await gateway.client.get(f"{VIEW}/{job_id}", headers=as_admin)).json()
    for_key = await gateway.details(job_id)

    assert for_admin["actor"] == "alice@example"
    assert "actor" not in for_key


async def test_53_other_roles_are_ignored_beside_a_key(gateway: RunningGateway) -> None:
    response = await gateway.client.get(VIEW, headers=bearer(key_token("key-a", role="viewer")))

    assert response.status_code == 200


@pytest.mark.parametrize("seconds", [-29, 1, 86_400], ids=["within the leeway", "soon", "a day"])
async def test_53_how_far_exp_may_lie(gateway: RunningGateway, seconds: int) -> None:
    token = admin_token(exp=time.time() + seconds)

    assert (await gateway.client.get(ADMIN_ROUTE, headers=bearer(token))).status_code == 200


async def test_53_an_issuer_mints_keys_only_unless_told(trusting: RunningGateway) -> None:
    def minted(**members: Any) -> dict[str, str]:
        return bearer(signed(claims(iss="https://keys.example", aud="other", **members)))

    assert (await trusting.client.get(VIEW, headers=minted(virtual_key="key-a"))).status_code == 200
    assert_refused(await trusting.client.get(ADMIN_ROUTE, headers=minted(role="admin")), "invalid_token")


async def test_53_the_audience_is_the_issuer_s(trusting: RunningGateway) -> None:
    token = signed(claims(iss="https://keys.example", aud="tidegate", virtual_key="key-a"))

    assert_refused(await trusting.client.get(VIEW, headers=bearer(token)), "invalid_token")


async def test_53_the_names_of_the_claims_are_configurable(vendor: MockVendor, tmp_path: Any) -> None:
    config = config_of(tmp_path, vendor)
    config["auth"]["jwt"]["claims"] = {
        "virtual_key": "https://app.example/key",
        "role": "https://app.example/role",
        "admin_value": "gateway-admin",
    }
    async with running(tmp_path, config) as gateway:

        async def status(path: str, **members: str) -> int:
            return (await gateway.client.get(path, headers=bearer(signed(claims(**members))))).status_code

        assert await status(VIEW, **{"https://app.example/key": "key-a"}) == 200
        assert await status(ADMIN_ROUTE, **{"https://app.example/role": "gateway-admin"}) == 200
        assert await status(ADMIN_ROUTE, **{"https://app.example/role": "admin"}) == 401
        assert await status(ADMIN_ROUTE, role="admin") == 401
        assert await status(VIEW, virtual_key="key-a") == 401


async def test_53_a_shorter_lifetime_may_be_demanded(vendor: MockVendor, tmp_path: Any) -> None:
    config = config_of(tmp_path, vendor)
    config["auth"]["jwt"]["max_lifetime_seconds"] = 600
    async with running(tmp_path, config) as gateway:
        short = await gateway.client.get(VIEW, headers=bearer(admin_token(exp=time.time() + 590)))
        long = await gateway.client.get(VIEW, headers=bearer(admin_token(exp=time.time() + 700)))

    assert short.status_code == 200
    assert_refused(long, "invalid_token")


async def test_53_the_local_issuer_makes_both_kinds(gateway: RunningGateway) -> None:
    key = gateway.gateway.local_key
    assert key is not None

    def minted(virtual_key: str | None) -> dict[str, str]:
        return bearer(
            local_issuer.mint(
                key,
                subject="operator",
                virtual_key=virtual_key,
                now=datetime.now(UTC),
                lifetime=timedelta(minutes=5),
            )
        )

    assert (await gateway.client.get(ADMIN_ROUTE, headers=minted(None))).status_code == 200
    assert (await gateway.client.get(VIEW, headers=minted("key-a"))).status_code == 200
    assert_refused(await gateway.client.get(ADMIN_ROUTE, headers=minted("key-a")), "admin_required")


async def test_53_without_a_local_issuer_its_tokens_are_foreign(vendor: MockVendor, tmp_path: Any) -> None:
    config = config_of(tmp_path, vendor)
    config["auth"]["local_issuer"] = False
    token = signed(claims(iss=local_issuer.ISSUER, aud=local_issuer.AUDIENCE, role="admin"))
    async with running(tmp_path, config) as gateway:
        assert gateway.gateway.local_key is None
        assert_refused(await gateway.client.get(VIEW, headers=bearer(token)), "invalid_token")


class TestVerification:
    """With a clock that can be moved."""

    @staticmethod
    def verification(clock: FakeClock, notes: list[str] | None = None) -> TokenVerification:
        issuer = Issuer(
            iss="https://id.example",
            aud="tidegate",
            algorithms=("HS256",),
            kinds=("admin",),
            keys=CountingKeys(),
        )
        return TokenVerification(
            [issuer],
            ClaimNames(),
            clock,
            max_lifetime=86_400,
            note=(notes if notes is not None else []).append,
        )

    async def test_a_verified_token_is_remembered(self) -> None:
        clock = FakeClock()
        CountingKeys.asked = 0
        verification = self.verification(clock)
        token = admin_token(exp=clock.now().timestamp() + 60)

        first, second = await verification.verify(token), await verification.verify(token)

        assert first == second == TokenClaims("https://id.example", "root", None)
        assert CountingKeys.asked == 1

    async def test_it_is_not_remembered_beyond_its_expiry(self) -> None:
        clock = FakeClock()
        verification = self.verification(clock)
        token = admin_token(exp=clock.now().timestamp() + 60)
        await verification.verify(token)

        clock.advance(timedelta(seconds=89))
        await verification.verify(token)
        clock.advance(timedelta(seconds=1))

        with pytest.raises(Unauthenticated) as caught:
            await verification.verify(token)
        assert caught.value.code == "token_expired"

    async def test_the_reason_goes_to_the_log_only(self) -> None:
        notes: list[str] = []
        clock = FakeClock()

        with pytest.raises(Unauthenticated) as caught:
            await self.verification(clock, notes).verify(
                admin_token(aud="elsewhere", exp=clock.now().timestamp())
            )

        assert notes == ["aud does not name this gateway"]
        assert caught.value.message == "token was rejected"


class CountingKeys:
    """The shared secret, and how often it was asked for."""

    asked = 0

    async def keys(self, key_id: str | None, algorithm: str) -> Sequence[Any]:
        CountingKeys.asked += 1
        return await StaticKey(Secret(JWT_SECRET)).keys(key_id, algorithm)
