"""From credentials to the caller (contract §5.1, §5.2); over HTTP the same rows stand in tests/api."""

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from support.fakes import RecordingObserver
from support.stores import SqliteUnderTest
from tidegate.domain.access import AdminCaller, AnonymousCaller, Caller, KeyCaller, KeyId
from tidegate.domain.errors import ErrorCode, Forbidden, GatewayError, StorageUnavailable, Unauthenticated
from tidegate.domain.secret import Secret
from tidegate.ports import TokenClaims
from tidegate.services.authenticate import NO_CREDENTIALS, Authenticate, Credentials
from tidegate.services.key_directory import KeyDirectory
from tidegate.services.manage_keys import ConfiguredKey, KeyChanges, ManageKeys

pytestmark = pytest.mark.anyio

TOKENS = {
    "for a": TokenClaims("issuer", "alice", "a"),
    "for b": TokenClaims("issuer", "bob", "b"),
    "for a by name": TokenClaims("issuer", "alice", "key a"),
    "for made": TokenClaims("issuer", "alice", "made"),
    "admin": TokenClaims("issuer", "root", None),
    "admin of another issuer": TokenClaims("other", "root", None),
}


class Verifier:
    async def verify(self, token: str) -> TokenClaims:
        if token not in TOKENS:
            raise Unauthenticated(ErrorCode.INVALID_TOKEN, "token was rejected", credential_was_sent=True)
        return TOKENS[token]


class World:
    """Two configured keys, one made over HTTP, and somebody who asks who calls."""

    def __init__(self, store: SqliteUnderTest) -> None:
        self.store = store
        self.directory = KeyDirectory(store.keys, store.clock)
        self.manage = ManageKeys(store.keys, self.directory, store.clock, store.rng, RecordingObserver())

    async def fill(self) -> None:
        await self.manage.apply_configuration(
            [
                ConfiguredKey(KeyId("a"), Secret("secret a"), KeyChanges(name="key a")),
                ConfiguredKey(KeyId("b"), Secret("secret b"), KeyChanges(name="key b")),
            ]
        )
        await self.manage.create(KeyChanges(name="made"), "root")

    async def ask(self, credentials: Credentials, *, is_required: bool = True) -> Caller:
        authenticate = Authenticate(self.directory, Verifier(), self.store.clock, is_required=is_required)
        return await authenticate.caller(credentials)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = SqliteUnderTest(tmp_path / "data" / "tidegate.db")
    store.open()
    world = World(store)
    await world.fill()
    yield world
    await store.store.close()


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def sent(*secrets: str, tokens: tuple[str, ...] = (), filler: bool = False) -> Credentials:
    return Credentials(tuple(digest(secret) for secret in secrets), tokens, filler)


@pytest.mark.parametrize(
    ("credentials", "key_id", "subject"),
    [
        (sent("secret a"), "a", None),
        (sent("secret a", "secret a"), "a", None),
        (sent(tokens=("for a",)), "a", "alice"),
        (sent(tokens=("for a by name",)), "a", "alice"),
        (sent("secret a", tokens=("for a", "for a by name")), "a", None),
        (sent("secret b", filler=True), "b", None),
    ],
)
async def test_52_a_virtual_key(
    world: World, credentials: Credentials, key_id: str, subject: str | None
) -> None:
    for is_required in (True, False):
        caller = await world.ask(credentials, is_required=is_required)

        assert isinstance(caller, KeyCaller)
        assert (caller.key.id, caller.subject) == (key_id, subject)


async def test_52_an_admin(world: World) -> None:
    assert await world.ask(sent(tokens=("admin",))) == AdminCaller("issuer", "root")


@pytest.mark.parametrize("credentials", [NO_CREDENTIALS, sent(filler=True)])
async def test_52_nobody_where_anybody_may_call(world: World, credentials: Credentials) -> None:
    assert await world.ask(credentials, is_required=False) == AnonymousCaller()


@pytest.mark.parametrize(
    ("credentials", "code", "was_sent"),
    [(NO_CREDENTIALS, "virtual_key_required", False), (sent(filler=True), "invalid_credentials", True)],
)
async def test_52_nobody_where_a_credential_is_needed(
    world: World, credentials: Credentials, code: str, *, was_sent: bool
) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await world.ask(credentials)

    assert (caught.value.code, caught.value.credential_was_sent) == (code, was_sent)


@pytest.mark.parametrize(
    ("credentials", "code"),
    [
        (sent("unknown"), "virtual_key_not_found"),
        (sent("secret a", "unknown"), "virtual_key_not_found"),
        (sent("SECRET A"), "virtual_key_not_found"),
        (sent(tokens=("for made",)), "virtual_key_not_found"),
        (sent(tokens=("forged",)), "invalid_token"),
        (sent("secret a", tokens=("forged",)), "invalid_token"),
        (sent("secret a", "secret b"), "conflicting_credentials"),
        (sent("secret a", tokens=("for b",)), "conflicting_credentials"),
        (sent("secret a", tokens=("admin",)), "conflicting_credentials"),
        (sent(tokens=("admin", "admin of another issuer")), "conflicting_credentials"),
    ],
)
async def test_52_what_is_refused_whether_needed_or_not(
    world: World, credentials: Credentials, code: str
) -> None:
    for is_required in (True, False):
        with pytest.raises(GatewayError) as caught:
            await world.ask(credentials, is_required=is_required)
        assert caught.value.code == code


async def test_52_a_key_that_is_inactive_or_expired(world: World) -> None:
    made = await world.manage.create(KeyChanges(name="short"), "root")
    credentials = sent(made.secret.reveal())
    later = world.store.clock.now() + timedelta(minutes=1)

    await world.manage.update(made.key.id, KeyChanges(expires_at=later), "root")
    assert isinstance(await world.ask(credentials), KeyCaller)
    world.store.later(minutes=1)
    with pytest.raises(Unauthenticated) as expired:
        await world.ask(credentials)
    await world.manage.update(made.key.id, KeyChanges(is_active=False), "root")
    with pytest.raises(Forbidden) as inactive:
        await world.ask(credentials)

    assert expired.value.code == "virtual_key_expired"
    # Deactivation outweighs expiry: it is what one does with a leaked key.
    assert inactive.value.code == "virtual_key_blocked"


async def test_trouble_of_the_store_is_not_a_missing_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(digest: bytes) -> None:
        raise StorageUnavailable

    monkeypatch.setattr(world.store.keys, "find", fail)

    with pytest.raises(StorageUnavailable):
        await world.ask(sent("secret a"))
