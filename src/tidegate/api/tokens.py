"""JWTs: a strict reading of our own first, then a library for the signature (contract §5.3, security §3).

Sources: RFC 7519 (JWT), RFC 8725 (best current practices).
"""

import asyncio
import hashlib
import importlib
import json
import re
import warnings
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, final

import msgspec
from msgspec import Struct

from tidegate.domain.errors import ErrorCode, Unauthenticated
from tidegate.domain.secret import Secret
from tidegate.ports import Clock, TokenClaims

LONGEST_TOKEN: Final = 8 * 1024
LONGEST_KEY_ID: Final = 128
LONGEST_SUBJECT: Final = 255
SHORTEST_HMAC_KEY: Final = 32
LEEWAY: Final = 30.0
_MOST_REMEMBERED: Final = 10_000
_LARGEST_TIME: Final = 2**53
_THREE_PARTS: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# Each of these would let the token say by which key or rules it is to be checked.
_REFUSED_HEADERS: Final = frozenset({"crit", "jku", "x5u", "jwk", "x5c", "zip", "b64"})


class ClaimNames(Struct, frozen=True):
    """What the claims are called; many identity providers allow namespaced names only."""

    virtual_key: str = "virtual_key"
    role: str = "role"
    admin_value: str = "admin"


class KeySource(Protocol):
    """Where an issuer's verification keys come from."""

    async def keys(self, key_id: str | None, algorithm: str) -> Sequence[Any]:
        """Library keys that may have made the signature; empty when there is none."""


class Issuer(Struct, frozen=True):
    """One configured issuer."""

    iss: str
    aud: str
    algorithms: tuple[str, ...]
    kinds: tuple[str, ...]
    keys: KeySource
    typ: str | None = None


@final
class StaticKey:
    """One key from the configuration: a shared secret, or a public key as PEM or JWK."""

    def __init__(self, material: Secret) -> None:
        self._material = material
        self._imported: dict[str, list[Any]] = {}

    async def keys(self, key_id: str | None, algorithm: str) -> Sequence[Any]:
        if algorithm not in self._imported:
            self._imported[algorithm] = self._import(algorithm)
        return self._imported[algorithm]

    def _import(self, algorithm: str) -> list[Any]:
        """Nothing where the issuer allows several algorithms and the key is made for another one."""
        try:
            return [import_key(self._material.reveal(), algorithm)]
        except ValueError:
            return []


def import_key(material: str | dict[str, Any], algorithm: str) -> Any:
    """A key of the library. Raises ``ValueError`` when it is none, or none for the algorithm."""
    if algorithm == "HS256" and (not isinstance(material, str) or len(material.encode()) < SHORTEST_HMAC_KEY):
        raise ValueError(f"an HS256 key has at least {SHORTEST_HMAC_KEY} bytes")
    kinds = {"HS256": "OctKey", "RS256": "RSAKey", "ES256": "ECKey", "EdDSA": "OKPKey"}
    kind = getattr(importlib.import_module("joserfc.jwk"), kinds[algorithm])
    errors = importlib.import_module("joserfc.errors")
    if isinstance(material, str) and material.lstrip().startswith("{") and algorithm != "HS256":
        material = json.loads(material)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of keys that are short, or shaped like another kind: both were looked at
            return kind.import_key(material)
    except (errors.JoseError, KeyError, TypeError) as exc:
        raise ValueError(f"not a key for {algorithm}") from exc


@final
class TokenVerification:
    """Implements ``TokenVerifier``. Verified tokens are remembered until they expire."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        claims: ClaimNames,
        clock: Clock,
        *,
        max_lifetime: int,
        note: Callable[[str], None],
    ) -> None:
        self._issuers = {issuer.iss: issuer for issuer in issuers}
        self._names = claims
        self._clock = clock
        self._max_lifetime = max_lifetime
        self._note = note
        """Hears why a token was rejected: callers are not told."""
        self._verified: dict[bytes, tuple[float, TokenClaims]] = {}

    async def verify(self, token: str) -> TokenClaims:
        """Raises ``Unauthenticated``: ``token_expired`` if that is all that is wrong, else ``invalid_token``."""
        digest = hashlib.sha256(token.encode("latin-1")).digest()
        known = self._verified.get(digest)
        if known is not None and self._now() < known[0]:
            return known[1]
        try:
            expires_at, claims = await self._check(token)
        except _Rejected as rejected:
            self._note(rejected.reason)
            raise _unauthenticated(is_expired=rejected.is_expired) from rejected
        if len(self._verified) >= _MOST_REMEMBERED:
            self._verified.clear()
        self._verified[digest] = (expires_at, claims)
        return claims

    async def _check(self, token: str) -> tuple[float, TokenClaims]:
        header, payload = read_unverified(token)
        issuer = self._issuer_of(payload)
        algorithm = _check_header(header, issuer)
        keys = await issuer.keys.keys(header.get("kid"), algorithm)
        if not any(_signature_holds(token, key, algorithm) for key in keys):
            raise _Rejected("no key of the issuer made this signature")
        return self._check_claims(payload, issuer)

    def _issuer_of(self, payload: Mapping[str, Any]) -> Issuer:
        iss = payload.get("iss")
        issuer = self._issuers.get(iss) if isinstance(iss, str) else None
        if issuer is None:
            raise _Rejected("unknown issuer")
        return issuer

    def _check_claims(self, payload: Mapping[str, Any], issuer: Issuer) -> tuple[float, TokenClaims]:
        now = self._now()
        expires_at = _time_claim(payload, "exp")
        if expires_at is None:
            raise _Rejected("exp is required")
        for name in ("nbf", "iat"):
            begins_at = _time_claim(payload, name)
            if begins_at is not None and begins_at > now + LEEWAY:
                raise _Rejected(f"{name} is in the future")
        if expires_at > now + self._max_lifetime + LEEWAY:
            raise _Rejected("exp is too far ahead")
        _check_audience(payload.get("aud"), issuer.aud)
        subject = payload.get("sub")
        if not isinstance(subject, str) or not 1 <= len(subject) <= LONGEST_SUBJECT:
            raise _Rejected("sub must be a string of 1 to 255 characters")
        claims = TokenClaims(issuer.iss, subject, self._virtual_key_of(payload, issuer))
        if expires_at <= now - LEEWAY:
            raise _Rejected("expired", is_expired=True)
        return expires_at, claims

    def _virtual_key_of(self, payload: Mapping[str, Any], issuer: Issuer) -> str | None:
        """The key the token stands for; ``None`` for an admin. It must be exactly one of the two."""
        key = payload.get(self._names.virtual_key)
        is_admin = payload.get(self._names.role) == self._names.admin_value
        if is_admin == (key is not None):
            raise _Rejected("either a virtual key or the admin role is required, not both")
        if key is not None and (not isinstance(key, str) or not key):
            raise _Rejected("the virtual key claim must be a string")
        kind = "admin" if is_admin else "virtual_key"
        if kind not in issuer.kinds:
            raise _Rejected(f"the issuer may not mint {kind} tokens")
        return key

    def _now(self) -> float:
        return self._clock.now().timestamp()


class _Rejected(Exception):
    def __init__(self, reason: str, *, is_expired: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_expired = is_expired


def read_unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and payload, strictly read; nothing of it is trusted yet."""
    if len(token) > LONGEST_TOKEN:
        raise _Rejected("longer than 8 KiB")
    if _THREE_PARTS.fullmatch(token) is None:
        raise _Rejected("not three base64url parts")
    header, payload, _ = token.split(".")
    return _object(header, "header"), _object(payload, "payload")


def _object(part: str, name: str) -> dict[str, Any]:
    try:
        text = urlsafe_b64decode(part + "=" * (-len(part) % 4))
        msgspec.json.decode(text)  # the strict reader: no NaN, no half characters, nothing but UTF-8
        value = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as exc:
        raise _Rejected(f"the {name} is not JSON without duplicate members") from exc
    if not isinstance(value, dict):
        raise _Rejected(f"the {name} is not an object")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate members")
    return found


def _check_header(header: Mapping[str, Any], issuer: Issuer) -> str:
    if _REFUSED_HEADERS & header.keys():
        raise _Rejected("a header member is refused")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
        raise _Rejected("alg is not one of the issuer's")
    key_id = header.get("kid", "")
    if not isinstance(key_id, str) or len(key_id) > LONGEST_KEY_ID:
        raise _Rejected("kid must be a string of at most 128 characters")
    if issuer.typ is not None and header.get("typ") != issuer.typ:
        raise _Rejected("typ is not the issuer's")
    return algorithm


def _signature_holds(token: str, key: Any, algorithm: str) -> bool:
    jws = importlib.import_module("joserfc.jws")
    errors = importlib.import_module("joserfc.errors")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # EdDSA was renamed by RFC 9864; issuers still use the name
            jws.deserialize_compact(token.encode(), key, algorithms=[algorithm])
    except (errors.JoseError, ValueError):
        return False
    return True


def _time_claim(payload: Mapping[str, Any], name: str) -> float | None:
    if name not in payload:
        return None
    value = payload[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Rejected(f"{name} must be a number")
    if not 0 <= value < _LARGEST_TIME:
        raise _Rejected(f"{name} is out of range")
    return float(value)


def _check_audience(audience: Any, ours: str) -> None:
    audiences = audience if isinstance(audience, list) else [audience]
    if not all(isinstance(entry, str) for entry in audiences) or ours not in audiences:
        raise _Rejected("aud does not name this gateway")


def _unauthenticated(*, is_expired: bool) -> Unauthenticated:
    if is_expired:
        return Unauthenticated(ErrorCode.TOKEN_EXPIRED, "token has expired", credential_was_sent=True)
    return Unauthenticated(ErrorCode.INVALID_TOKEN, "token was rejected", credential_was_sent=True)


async def warm_up() -> None:
    """Load the token library on a thread, so that the first token does not stop the loop for it."""
    await asyncio.to_thread(importlib.import_module, "joserfc.jwt")
