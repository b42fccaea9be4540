"""The table that chose the token library (security.md §3, docs/decisions/0004): two libraries alone, and ours.

"Alone" is a library with everything it offers to check turned on, as its documentation shows it. At an upgrade
the table decides again: a token that a library has come to judge differently fails its row.
"""

import json
import warnings
from base64 import urlsafe_b64decode
from typing import Any, Final

import jwt as pyjwt
import pytest
from joserfc import jwk
from joserfc import jwt as joserfc_jwt
from joserfc.errors import JoseError

from api.forged import FORGED, HARMLESS, RSA_KEY, admin, with_header
from api.minting import claims, pem, signed
from support.gateway import JWT_SECRET
from tidegate.api.tokens import ClaimNames, Issuer, StaticKey, TokenVerification, import_key
from tidegate.clock import SystemClock
from tidegate.domain.errors import Unauthenticated
from tidegate.domain.secret import Secret

pytestmark = pytest.mark.anyio

# Issuer → what it may sign with, and its key.
ISSUERS: Final[dict[str, tuple[list[str], str]]] = {
    "https://id.example": (["HS256"], JWT_SECRET),
    "https://rs.example": (["RS256"], pem(RSA_KEY)),
    "https://mixed.example": (["RS256", "ES256", "EdDSA"], pem(RSA_KEY)),
    "https://typ.example": (["HS256"], JWT_SECRET),
}
TOKENS: Final = FORGED | {
    # No server of ours lets so long a header through; a library may be asked all the same.
    "kid of 100,000 characters": with_header(kid="k" * 100_000),
    "100,000 characters": admin(padding="x" * 100_000),
}
BOTH_ACCEPT: Final = {
    "jwk", "jku", "x5u", "x5c", "kid of 129 characters", "foreign typ where one is configured",
    "duplicate alg", "duplicate exp", "duplicate iss", "duplicate role",
    "more than 8 KiB", "payload with a BOM", "half a character",
    "exp of 400 digits", "exp of 10^18", "exp of 2^53", "exp more than a day ahead", "sub of 256 characters",
}  # fmt: skip
ONLY_PYJWT_ACCEPTS: Final = {
    "zip", "kid of 5,000 characters", "kid of 100,000 characters", "100,000 characters",
    "padding on the signature", "exp a string", "nbf a string", "nbf true", "sub empty",
}  # fmt: skip
# No library can know what these claims mean here.
ONLY_OURS_TO_JUDGE: Final = {
    "key and admin at once", "neither key nor admin", "another role", "role in upper case", "role a list",
    "role true", "key a number", "key empty", "key a list", "an administrator from an issuer of keys",
}  # fmt: skip


def issuer_of(token: str) -> str:
    """Whose rules apply; a token that does not say it is tried with those of the first."""
    try:
        payload = token.split(".")[1]
        named = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["iss"]
        return named if named in ISSUERS else next(iter(ISSUERS))
    except (ValueError, IndexError, KeyError, TypeError, RecursionError):
        return next(iter(ISSUERS))


def pyjwt_accepts(token: str) -> bool:
    issuer = issuer_of(token)
    algorithms, key = ISSUERS[issuer]
    try:
        pyjwt.decode(
            token,
            key,
            algorithms=algorithms,
            audience="tidegate",
            issuer=issuer,
            leeway=30,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except pyjwt.PyJWTError:
        return False
    return True


def joserfc_accepts(token: str) -> bool:
    issuer = issuer_of(token)
    algorithms, key = ISSUERS[issuer]
    importer: Any = jwk.OctKey if algorithms == ["HS256"] else jwk.RSAKey
    rules = joserfc_jwt.JWTClaimsRegistry(
        leeway=30,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": "tidegate"},
        exp={"essential": True},
        sub={"essential": True},
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # EdDSA was renamed by RFC 9864; issuers still use the name
            rules.validate(joserfc_jwt.decode(token, importer.import_key(key), algorithms=algorithms).claims)
    except JoseError:
        return False
    return True


async def ours_accepts(token: str) -> bool:
    issuers = [
        Issuer(
            iss=name,
            aud="tidegate",
            algorithms=tuple(algorithms),
            kinds=("virtual_key",) if name == "https://rs.example" else ("virtual_key", "admin"),
            keys=StaticKey(Secret(key)),
            typ="at+jwt" if name == "https://typ.example" else None,
        )
        for name, (algorithms, key) in ISSUERS.items()
    ]
    verification = TokenVerification(
        issuers, ClaimNames(), SystemClock(), max_lifetime=86_400, note=lambda _reason: None
    )
    try:
        await verification.verify(token)
    except Unauthenticated:
        return False
    return True


@pytest.mark.parametrize("name", TOKENS)
async def test_a_forged_token_is_judged_as_the_table_says(name: str) -> None:
    token = TOKENS[name]
    # With a signature that holds, and nothing that a library looks at.
    passes_both = name in BOTH_ACCEPT | ONLY_OURS_TO_JUDGE

    assert not await ours_accepts(token)
    assert joserfc_accepts(token) is passes_both
    assert pyjwt_accepts(token) is (passes_both or name in ONLY_PYJWT_ACCEPTS)


@pytest.mark.parametrize("name", HARMLESS)
async def test_a_harmless_token_is_accepted_by_all_three(name: str) -> None:
    token = HARMLESS[name]

    assert await ours_accepts(token)
    assert joserfc_accepts(token)
    assert pyjwt_accepts(token)


def test_the_exceptions_name_tokens_of_the_table() -> None:
    named = [*BOTH_ACCEPT, *ONLY_PYJWT_ACCEPTS, *ONLY_OURS_TO_JUDGE]

    assert set(named) < set(TOKENS)
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("length", [1, 5, 31])
async def test_a_secret_that_can_be_guessed_is_a_key_to_the_libraries_and_none_to_us(length: int) -> None:
    secret = "s" * length
    token = signed(claims(role="admin"), secret=secret)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both only warn
        assert pyjwt.decode(token, secret, algorithms=["HS256"], audience="tidegate")
        assert joserfc_jwt.decode(token, jwk.OctKey.import_key(secret), algorithms=["HS256"]).claims
    with pytest.raises(ValueError, match=r"at least 32 bytes"):
        import_key(secret, "HS256")
    assert not await StaticKey(Secret(secret)).keys(None, "HS256")


def test_a_secret_of_32_bytes_is_a_key() -> None:
    assert import_key("s" * 32, "HS256")
