"""Who may call: token issuers and virtual keys."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from tidegate.domain.secret import Secret
from tidegate.settings.bifrost import PROVIDERS
from tidegate.settings.check_providers import is_loopback, split
from tidegate.settings.problems import Code, Trail, did_you_mean, dotted, quoted
from tidegate.settings.report import Report
from tidegate.settings.schema import (
    AuthSettings,
    ClaimSettings,
    IssuerSettings,
    JwtSettings,
    ProviderConfigSettings,
    VirtualKeySettings,
)

_SHORTEST_HMAC_KEY: Final = 32
_JWT: Final[Trail] = ("auth", "jwt")
_KEYS: Final[Trail] = ("governance", "virtual_keys")


def check_jwt(jwt: JwtSettings, report: Report) -> None:
    _check_claims(jwt.claims, report)
    seen: set[str] = set()
    for index, issuer in enumerate(jwt.issuers):
        trail = (*_JWT, "issuers", index)
        _check_key_source(issuer, trail, report)
        _check_algorithms(issuer, trail, report)
        _check_jwks_url(issuer, trail, report)
        if not report.is_usable(*trail, "iss"):
            continue
        if issuer.iss in seen:
            report.problem(
                Code.DUPLICATE,
                (*trail, "iss"),
                f"Another entry is for the issuer {quoted(issuer.iss)}.",
                "Describe each issuer once",
            )
        seen.add(issuer.iss)


def check_local_issuer(auth: AuthSettings, report: Report) -> None:
    key = auth.local_issuer_key
    if key is not None and len(key.reveal().encode()) < _SHORTEST_HMAC_KEY:
        report.problem(
            Code.WEAK_SECRET,
            ("auth", "local_issuer_key"),
            f"The key has {len(key.reveal().encode())} bytes.",
            f"Use at least {_SHORTEST_HMAC_KEY} random bytes",
        )


def _check_claims(claims: ClaimSettings, report: Report) -> None:
    if claims.virtual_key == claims.role:
        report.problem(
            Code.CONFLICT,
            (*_JWT, "claims"),
            f"virtual_key and role are both read from the claim {quoted(claims.role)}.",
            "Name two different claims",
        )


def _check_key_source(issuer: IssuerSettings, trail: Trail, report: Report) -> None:
    if not report.is_usable(*trail, "key") or not report.is_usable(*trail, "jwks_url"):
        return
    if (issuer.key is None) == (issuer.jwks_url is None):
        found = "neither" if issuer.key is None else "both"
        report.problem(
            Code.MISSING_FIELD if issuer.key is None else Code.CONFLICT,
            trail,
            f"The issuer needs a key or a jwks_url, found {found}.",
            "Set exactly one of key and jwks_url",
        )


def _check_algorithms(issuer: IssuerSettings, trail: Trail, report: Report) -> None:
    if not report.is_usable(*trail, "algorithms"):
        return
    if "HS256" not in issuer.algorithms:
        _check_public_key(issuer.key, trail, report)
        return
    if set(issuer.algorithms) != {"HS256"}:
        report.problem(
            Code.CONFLICT,
            (*trail, "algorithms"),
            "HS256 is mixed with others: a public key could be taken for its secret.",
            "Leave HS256 alone, or leave it out",
        )
        return
    if issuer.jwks_url is not None and issuer.key is None:
        report.problem(
            Code.CONFLICT, (*trail, "jwks_url"), "HS256 needs a static key.", "Set key instead of jwks_url"
        )
    _check_hmac_key(issuer.key, trail, report)


def _check_hmac_key(key: Secret | None, trail: Trail, report: Report) -> None:
    if key is None:
        return
    length = len(key.reveal().encode())
    if length < _SHORTEST_HMAC_KEY:
        report.problem(
            Code.WEAK_SECRET,
            (*trail, "key"),
            f"The HS256 key has {length} bytes.",
            f"Use at least {_SHORTEST_HMAC_KEY} random bytes",
        )
    elif key.reveal().lstrip().startswith("-----BEGIN"):
        report.problem(
            Code.CONFLICT,
            (*trail, "key"),
            "A key in PEM form cannot be an HS256 secret.",
            "Use RS256, ES256 or EdDSA with it, or a random secret",
        )


def _check_public_key(key: Secret | None, trail: Trail, report: Report) -> None:
    if key is not None and not key.reveal().lstrip().startswith(("-----BEGIN", "{")):
        report.problem(
            Code.INVALID_VALUE,
            (*trail, "key"),
            "Not a public key in PEM or JWK form.",
            "Set the issuer's public key, or HS256 for a shared secret",
        )


def _check_jwks_url(issuer: IssuerSettings, trail: Trail, report: Report) -> None:
    if issuer.jwks_url is None:
        return
    url = split(issuer.jwks_url)
    is_pure = url is not None and url.username is None and url.password is None and not url.fragment
    if (
        is_pure
        and url is not None
        and (url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname or "")))
    ):
        return
    report.problem(
        Code.INVALID_VALUE,
        (*trail, "jwks_url"),
        "Not an https URL.",
        "Write https://…, without user, password and fragment; http is for loopback addresses only",
    )


def with_grants(
    keys: Sequence[VirtualKeySettings], providers: Iterable[str], report: Report
) -> tuple[VirtualKeySettings, ...]:
    """Virtual keys, checked against one another and against the names of providers."""
    _check_unique(keys, report)
    known = {*providers, *PROVIDERS}
    return tuple(_with_grants(key, (*_KEYS, index), known, report) for index, key in enumerate(keys))


def _check_unique(keys: Iterable[VirtualKeySettings], report: Report) -> None:
    """A token names a key by id or by name, so the two share one space of names."""
    owners: dict[str, int] = {}
    secrets: dict[Secret, int] = {}
    for index, key in enumerate(keys):
        for field, name in (("id", key.id), ("name", key.name)):
            trail = (*_KEYS, index, field)
            if name is None or not report.is_usable(*trail):
                continue
            if owners.setdefault(name, index) != index:
                report.problem(
                    Code.DUPLICATE,
                    trail,
                    f"Another virtual key has the name or id {quoted(name)}.",
                    "Give each key a name and an id of its own",
                )
        trail = (*_KEYS, index, "value")
        if report.is_usable(*trail) and secrets.setdefault(key.value, index) != index:
            other = dotted((*_KEYS, secrets[key.value], "value"))
            report.problem(
                Code.DUPLICATE, trail, f"The same secret as {other}.", "Give each key a secret of its own"
            )


def _with_grants(
    key: VirtualKeySettings, trail: Trail, known: Collection[str], report: Report
) -> VirtualKeySettings:
    if key.provider_configs is None:
        return key
    seen: set[str] = set()
    for index, grant in enumerate(key.provider_configs):
        here = (*trail, "provider_configs", index, "provider")
        if not report.is_usable(*here):
            continue
        if grant.provider not in known:
            report.problem(
                Code.UNKNOWN_PROVIDER,
                here,
                f"Unknown provider {quoted(grant.provider)}.",
                "Name a provider of this configuration",
                did_you_mean(grant.provider, known),
            )
        if grant.provider in seen:
            report.problem(
                Code.DUPLICATE,
                here,
                f"The key has another entry for {quoted(grant.provider)}.",
                "Describe each provider once",
            )
        seen.add(grant.provider)
    return replace(key, provider_configs=tuple(_with_all_keys(grant) for grant in key.provider_configs))


def _with_all_keys(grant: ProviderConfigSettings) -> ProviderConfigSettings:
    is_any = grant.key_ids is not None and "*" in grant.key_ids
    return replace(grant, key_ids=None) if is_any else grant
