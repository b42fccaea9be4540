"""Forged and confused tokens (contract §5.3, security.md §3). None may pass, none may break the gateway."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.forged import FORGED, HARMLESS, RSA_KEY, admin
from api.minting import pem
from api.refusals import assert_refused
from api.world import bearer, config_of
from support.gateway import JWT_SECRET, RunningGateway, running
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

ADMIN_ROUTE = "/api/governance/virtual-keys?limit=1"


@pytest.fixture(scope="module")
async def guarded(
    vendor: MockVendor, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    directory = tmp_path_factory.mktemp("guarded")
    config = config_of(directory, vendor)
    config["auth"]["jwt"]["issuers"] += [
        issuer("https://rs.example", ["RS256"], key=pem(RSA_KEY)),
        issuer("https://mixed.example", ["RS256", "ES256", "EdDSA"], key=pem(RSA_KEY), kinds=["admin"]),
        issuer("https://typ.example", ["HS256"], key=JWT_SECRET, kinds=["admin"], typ="at+jwt"),
    ]
    async with running(directory, config) as gateway:
        yield gateway


def issuer(iss: str, algorithms: list[str], **members: Any) -> dict[str, Any]:
    return {"iss": iss, "aud": "tidegate", "algorithms": algorithms, **members}


def test_53_the_table_has_at_least_forty_tokens() -> None:
    assert len(FORGED) >= 40
    assert len(set(FORGED.values())) == len(FORGED)


@pytest.mark.parametrize("token", FORGED.values(), ids=list(FORGED))
async def test_53_a_forged_token_is_rejected(guarded: RunningGateway, token: str) -> None:
    response = await guarded.client.get(ADMIN_ROUTE, headers=bearer(token))

    assert_refused(response, "invalid_token", "token was rejected")
    assert response.headers["www-authenticate"].endswith('error="invalid_token"')


@pytest.mark.parametrize("token", HARMLESS.values(), ids=list(HARMLESS))
async def test_53_what_is_harmless_is_accepted(guarded: RunningGateway, token: str) -> None:
    response = await guarded.client.get(ADMIN_ROUTE, headers=bearer(token))

    assert response.status_code == 200, response.text


async def test_53_an_expired_token_with_a_good_signature_says_so(guarded: RunningGateway) -> None:
    response = await guarded.client.get(ADMIN_ROUTE, headers=bearer(admin(exp=time.time() - 31)))

    assert_refused(response, "token_expired", "token has expired")
