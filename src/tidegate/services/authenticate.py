"""Authenticate: from the credentials of a request to its caller (contract §5.1, §5.2)."""

from typing import Final, final

from msgspec import Struct

from tidegate.domain.access import (
    AdminCaller,
    AnonymousCaller,
    Caller,
    KeyCaller,
    VirtualKey,
    idempotency_scope,
)
from tidegate.domain.errors import ErrorCode, Forbidden, Unauthenticated
from tidegate.ports import Clock, TokenVerifier
from tidegate.services.key_directory import KeyDirectory


class Credentials(Struct, frozen=True):
    """What a request brought. Secrets are digests from here on."""

    key_digests: tuple[bytes, ...] = ()
    tokens: tuple[str, ...] = ()
    has_filler: bool = False
    """A bearer value that is neither key nor token: SDKs always send one."""


NO_CREDENTIALS: Final = Credentials()


@final
class Authenticate:
    """Says who calls; raises ``Unauthenticated`` or ``Forbidden`` otherwise."""

    def __init__(self, keys: KeyDirectory, tokens: TokenVerifier, clock: Clock, *, is_required: bool) -> None:
        self._keys = keys
        self._tokens = tokens
        self._clock = clock
        self._is_required = is_required

    async def caller(self, credentials: Credentials) -> Caller:
        callers = [await self._by_secret(digest) for digest in credentials.key_digests]
        callers += [await self._by_token(token) for token in credentials.tokens]
        if not callers:
            return self._nobody(credentials)
        if len(callers) > 1 and len({idempotency_scope(caller) for caller in callers}) > 1:
            raise _refused(ErrorCode.CONFLICTING_CREDENTIALS, "credentials name different callers")
        return callers[0]

    def _nobody(self, credentials: Credentials) -> Caller:
        if not self._is_required:
            return AnonymousCaller()
        if credentials.has_filler:
            raise _refused(ErrorCode.INVALID_CREDENTIALS, "credential is neither a virtual key nor a JWT")
        raise Unauthenticated(
            ErrorCode.VIRTUAL_KEY_REQUIRED,
            "authentication is required: send a virtual key or a JWT",
            credential_was_sent=False,
        )

    async def _by_secret(self, digest: bytes) -> Caller:
        return KeyCaller(self._usable(await self._keys.find(digest)))

    async def _by_token(self, token: str) -> Caller:
        claims = await self._tokens.verify(token)
        if claims.virtual_key is None:
            return AdminCaller(issuer=claims.issuer, subject=claims.subject)
        key = await self._keys.named_in_token(claims.virtual_key)
        return KeyCaller(self._usable(key), subject=claims.subject)

    def _usable(self, key: VirtualKey | None) -> VirtualKey:
        if key is None:
            raise _refused(ErrorCode.VIRTUAL_KEY_NOT_FOUND, "virtual key not found")
        if not key.is_active:
            # 403 on polls too: deactivation is what one does with a leaked key.
            raise Forbidden(ErrorCode.VIRTUAL_KEY_BLOCKED, "virtual key is inactive")
        # Most keys never expire, and the time costs as much as the look-up.
        if key.expires_at is not None and key.is_expired(self._clock.now()):
            raise _refused(ErrorCode.VIRTUAL_KEY_EXPIRED, "virtual key has expired")
        return key


def _refused(code: ErrorCode, message: str) -> Unauthenticated:
    return Unauthenticated(code, message, credential_was_sent=True)
