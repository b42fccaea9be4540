"""The rules for tokens (contract §5.3), told one by one: what the gateway checks at once and refuses in silence.

The gateway's own check stands in ``api/tokens.py`` and stops at the first rule that fails; a test holds the
two together.
"""

import json
import re
import warnings
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from joserfc import jws
from joserfc.errors import JoseError
from msgspec import Struct

from tidegate.api.tokens import LEEWAY, LONGEST_KEY_ID, LONGEST_SUBJECT, LONGEST_TOKEN, import_key
from tidegate.settings import ClaimSettings, IssuerSettings

_THREE_PARTS: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_REFUSED_MEMBERS: Final = ("crit", "jku", "x5u", "jwk", "x5c", "zip", "b64")
_LARGEST_TIME: Final = 2**53

Verdict = Literal["ok", "failed", "unchecked"]


class Finding(Struct, frozen=True):
    """What one rule says about a token."""

    rule: str
    verdict: Verdict
    why: str


def findings(
    token: str,
    issuers: Sequence[IssuerSettings],
    names: ClaimSettings,
    *,
    max_lifetime: timedelta,
    now: datetime,
) -> list[Finding]:
    """Every rule that can be looked at; a token that cannot be read ends the list."""
    if len(token) > LONGEST_TOKEN:
        return [_failed("form", f"{len(token)} characters, at most {LONGEST_TOKEN} are allowed")]
    if _THREE_PARTS.fullmatch(token) is None:
        return [_failed("form", "not three base64url parts with dots between them")]
    header, payload = (_object(part) for part in token.split(".")[:2])
    unreadable = [name for name, part in (("header", header), ("payload", payload)) if part is None]
    if header is None or payload is None:
        return [_failed(name, "not a JSON object without duplicate members") for name in unreadable]
    return list(_rules(token, header, payload, issuers, names, max_lifetime, now.timestamp()))


def _rules(
    token: str,
    header: Mapping[str, Any],
    payload: Mapping[str, Any],
    issuers: Sequence[IssuerSettings],
    names: ClaimSettings,
    max_lifetime: timedelta,
    now: float,
) -> Iterator[Finding]:
    yield _ok("form", "three base64url parts, header and payload are JSON objects")
    yield _header_members(header)
    yield _key_id(header)
    issuer = next((one for one in issuers if one.iss == payload.get("iss")), None)
    if issuer is None:
        known = ", ".join(one.iss for one in issuers) or "none"
        yield _failed("iss", f"{_shown(payload.get('iss'))} is no issuer of this gateway; known: {known}")
    else:
        yield _ok("iss", f"{issuer.iss} is an issuer of this gateway")
        yield from _rules_of_issuer(token, header, payload, issuer)
    yield _expiry(payload, max_lifetime, now)
    for name in ("nbf", "iat"):
        yield _beginning(payload, name, now)
    yield _subject(payload)
    yield _rights(payload, names, issuer)


def _rules_of_issuer(
    token: str, header: Mapping[str, Any], payload: Mapping[str, Any], issuer: IssuerSettings
) -> Iterator[Finding]:
    algorithm = header.get("alg")
    is_listed = isinstance(algorithm, str) and algorithm in issuer.algorithms
    if is_listed:
        yield _ok("alg", f"{algorithm} is one of the issuer's")
    else:
        yield _failed(
            "alg", f"{_shown(algorithm)} is not one of the issuer's: {', '.join(issuer.algorithms)}"
        )
    if issuer.typ is not None and header.get("typ") != issuer.typ:
        yield _failed("typ", f"{_shown(header.get('typ'))} is not {issuer.typ}")
    yield (
        _signature(token, str(algorithm), issuer)
        if is_listed
        else _unchecked("signature", "its algorithm is refused")
    )
    yield _audience(payload.get("aud"), issuer.aud)


def _header_members(header: Mapping[str, Any]) -> Finding:
    found = [name for name in _REFUSED_MEMBERS if name in header]
    if found:
        return _failed("header", f"{', '.join(found)} would let the token choose how it is checked")
    return _ok("header", "none of the members that are refused")


def _key_id(header: Mapping[str, Any]) -> Finding:
    key_id = header.get("kid")
    if key_id is None:
        return _ok("kid", "none: optional")
    if not isinstance(key_id, str) or len(key_id) > LONGEST_KEY_ID:
        return _failed("kid", f"must be a string of at most {LONGEST_KEY_ID} characters")
    return _ok("kid", key_id)


def _signature(token: str, algorithm: str, issuer: IssuerSettings) -> Finding:
    if issuer.key is None:
        place = (
            f"its keys are at {issuer.jwks_url}"
            if issuer.jwks_url
            else "its key is not in the data directory"
        )
        return _unchecked("signature", f"cannot be checked here: {place}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # EdDSA was renamed by RFC 9864; issuers still use the name
            key = import_key(issuer.key.reveal(), algorithm)
            jws.deserialize_compact(token.encode(), key, algorithms=[algorithm])
    except (JoseError, ValueError):
        return _failed("signature", f"not made by the key of {issuer.iss}")
    return _ok("signature", f"made by the key of {issuer.iss}")


def _audience(audience: Any, ours: str) -> Finding:
    named = audience if isinstance(audience, list) else [audience]
    if not all(isinstance(one, str) for one in named) or ours not in named:
        return _failed("aud", f"{_shown(audience)} does not name this gateway, {ours}")
    return _ok("aud", f"names {ours}")


def _expiry(payload: Mapping[str, Any], max_lifetime: timedelta, now: float) -> Finding:
    if "exp" not in payload:
        return _failed("exp", "required")
    expires_at = _time(payload["exp"])
    if expires_at is None:
        return _failed("exp", f"{_shown(payload['exp'])} is not a time")
    if expires_at <= now - LEEWAY:
        return _failed("exp", f"expired at {_moment(expires_at)}")
    if expires_at > now + max_lifetime.total_seconds() + LEEWAY:
        return _failed("exp", f"{_moment(expires_at)} is more than {max_lifetime} ahead")
    return _ok("exp", f"valid until {_moment(expires_at)}")


def _beginning(payload: Mapping[str, Any], name: str, now: float) -> Finding:
    if name not in payload:
        return _ok(name, "none: optional")
    begins_at = _time(payload[name])
    if begins_at is None:
        return _failed(name, f"{_shown(payload[name])} is not a time")
    if begins_at > now + LEEWAY:
        return _failed(name, f"{_moment(begins_at)} is in the future")
    return _ok(name, _moment(begins_at))


def _subject(payload: Mapping[str, Any]) -> Finding:
    subject = payload.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= LONGEST_SUBJECT:
        return _failed("sub", f"must be a string of 1 to {LONGEST_SUBJECT} characters")
    return _ok("sub", subject)


def _rights(payload: Mapping[str, Any], names: ClaimSettings, issuer: IssuerSettings | None) -> Finding:
    key = payload.get(names.virtual_key)
    is_admin = payload.get(names.role) == names.admin_value
    if is_admin == (key is not None):
        both = "both" if is_admin else "neither"
        return _failed(
            "rights", f"{both} of {names.virtual_key} and {names.role}: {names.admin_value}; one is needed"
        )
    if key is not None and (not isinstance(key, str) or not key):
        return _failed("rights", f"{names.virtual_key} must be a string")
    kind = "admin" if is_admin else "virtual_key"
    if issuer is not None and kind not in issuer.kinds:
        return _failed("rights", f"{issuer.iss} may not mint {kind} tokens")
    return _ok("rights", "an administrator" if is_admin else f"the virtual key {key}")


def _object(part: str) -> dict[str, Any] | None:
    try:
        value = json.loads(
            urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode(),
            object_pairs_hook=_without_duplicates,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate members")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _time(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _LARGEST_TIME else None


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError):
        return f"{seconds:.0f} s after 1970"


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)[:80]


def _ok(rule: str, why: str) -> Finding:
    return Finding(rule, "ok", why)


def _failed(rule: str, why: str) -> Finding:
    return Finding(rule, "failed", why)


def _unchecked(rule: str, why: str) -> Finding:
    return Finding(rule, "unchecked", why)
