"""Manage virtual keys: create, change, rotate, delete, and keep those of the configuration in step with it."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tidegate.domain.access import KeyId, ProviderGrant, VirtualKey
from tidegate.domain.errors import Conflict, ErrorCode, NotFound
from tidegate.domain.ids import uuid7
from tidegate.domain.secret import Secret
from tidegate.ports import Clock, KeyStore, Observer, Rng
from tidegate.services.key_directory import KeyDirectory

PREFIX: Final = "sk-bf-"


class KeyChanges(Struct, frozen=True):
    """Members to set; the others stay as they are."""

    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    expires_at: datetime | UnsetType | None = UNSET
    grants: tuple[ProviderGrant, ...] | UnsetType | None = UNSET
    weight: float | UnsetType = UNSET
    priority_ceiling: int | UnsetType = UNSET
    result_ttl_max: int | UnsetType | None = UNSET


class ConfiguredKey(Struct, frozen=True):
    """A virtual key as the configuration file defines it."""

    id: KeyId | None
    value: Secret
    changes: KeyChanges


class NewSecret(Struct, frozen=True):
    """A key and its secret, at the one moment both are known."""

    key: VirtualKey
    secret: Secret


@final
class ManageKeys:
    def __init__(
        self, store: KeyStore, directory: KeyDirectory, clock: Clock, rng: Rng, observer: Observer
    ) -> None:
        self._store = store
        self._directory = directory
        self._clock = clock
        self._rng = rng
        self._observer = observer

    async def create(self, changes: KeyChanges, actor: str) -> NewSecret:
        """Raises ``Conflict`` when the name is taken."""
        secret = Secret(PREFIX + base64.urlsafe_b64encode(self._rng.secret_bytes(32)).rstrip(b"=").decode())
        key = _changed(self._blank(), changes, value_hint=secret.hint())
        await self._store.create(key, digest_of(secret))
        self._note("created", key, actor)
        return NewSecret(key, secret)

    async def get(self, key_id: KeyId) -> VirtualKey:
        key = await self._store.get(key_id)
        if key is None:
            raise _no_such_key()
        return key

    async def page(self, *, limit: int, offset: int, name_prefix: str) -> tuple[Sequence[VirtualKey], int]:
        return await self._store.list(limit=limit, offset=offset, name_prefix=name_prefix)

    async def update(self, key_id: KeyId, changes: KeyChanges, actor: str) -> VirtualKey:
        """Change only the members sent. Raises ``NotFound`` or ``Conflict``."""
        key = _changed(await self._own(key_id), changes, updated_at=self._clock.now())
        if not await self._store.update(key):
            raise _no_such_key()
        self._note("updated", key, actor)
        return key

    async def rotate(self, key_id: KeyId, actor: str) -> NewSecret:
        """A new secret; id, name, limits and jobs stay."""
        secret = Secret(PREFIX + base64.urlsafe_b64encode(self._rng.secret_bytes(32)).rstrip(b"=").decode())
        key = msgspec.structs.replace(
            await self._own(key_id), value_hint=secret.hint(), updated_at=self._clock.now()
        )
        if not await self._store.update(key, digest_of(secret)):
            raise _no_such_key()
        self._note("rotated", key, actor)
        return NewSecret(key, secret)

    async def delete(self, key_id: KeyId, actor: str, *, cancels_jobs: bool) -> VirtualKey:
        key = await self._own(key_id)
        if not await self._store.delete(key_id, cancels_jobs=cancels_jobs):
            raise _no_such_key()
        self._note("deleted", key, actor)
        return key

    async def has_any(self) -> bool:
        _, total = await self._store.list(limit=1, offset=0, name_prefix="")
        return total > 0

    async def apply_configuration(self, configured: Sequence[ConfiguredKey]) -> None:
        """Make the store agree with the file: a changed value is a rotation, a removed entry a deactivation."""
        kept: set[KeyId] = set()
        for entry in configured:
            kept.add(await self._apply(entry))
        for key in await self._all():
            if key.from_config and key.id not in kept and key.is_active:
                await self._store.update(
                    msgspec.structs.replace(key, is_active=False, updated_at=self._clock.now())
                )
                self._note("deactivated", key, "configuration")
        self._directory.forget()

    async def _apply(self, entry: ConfiguredKey) -> KeyId:
        try:
            return await self._agree(entry)
        except Conflict:
            # Another process on the same store may have been quicker with the same file.
            if await self._known(entry) is None:
                raise
            return await self._agree(entry)

    async def _agree(self, entry: ConfiguredKey) -> KeyId:
        known = await self._known(entry)
        digest = digest_of(entry.value)
        if known is None:
            blank = msgspec.structs.replace(self._blank(), id=entry.id) if entry.id else self._blank()
            key = _changed(blank, entry.changes, value_hint=entry.value.hint(), from_config=True)
            await self._store.create(key, digest)
            self._note("created", key, "configuration")
            return key.id
        key = _changed(known, entry.changes, value_hint=entry.value.hint(), from_config=True)
        found = await self._store.find(digest)
        if key != known or found is None or found.id != key.id:
            key = msgspec.structs.replace(key, updated_at=self._clock.now())
            await self._store.update(key, digest)
            self._note("updated", key, "configuration")
        return key.id

    async def _known(self, entry: ConfiguredKey) -> VirtualKey | None:
        if entry.id is not None:
            return await self._store.get(entry.id)
        name = entry.changes.name
        known = await self._store.get_by_name(name) if isinstance(name, str) else None
        # One made over HTTP is not taken over for its name: its jobs would go to another client.
        return known if known is not None and known.from_config else None

    async def _all(self) -> list[VirtualKey]:
        keys: list[VirtualKey] = []
        while True:
            page, total = await self._store.list(limit=200, offset=len(keys), name_prefix="")
            keys += page
            if not page or len(keys) >= total:
                return keys

    async def _own(self, key_id: KeyId) -> VirtualKey:
        key = await self.get(key_id)
        if key.from_config:
            raise Conflict(ErrorCode.MANAGED_BY_CONFIG, f'"{key.name}" is defined in the configuration')
        return key

    def _blank(self) -> VirtualKey:
        now = self._clock.now()
        return VirtualKey(
            id=KeyId(uuid7(now, self._rng.secret_bytes(10))),
            name="",
            created_at=now,
            updated_at=now,
            value_hint="",
        )

    def _note(self, action: str, key: VirtualKey, actor: str) -> None:
        self._directory.forget()
        self._observer.key_changed(action, key, actor)


def digest_of(secret: Secret) -> bytes:
    """SHA-256: enough for a secret of 256 random bits, and the only form that is stored."""
    return hashlib.sha256(secret.reveal().encode()).digest()


def _changed(key: VirtualKey, changes: KeyChanges, **also: object) -> VirtualKey:
    wanted = {
        name: value for name in changes.__struct_fields__ if (value := getattr(changes, name)) is not UNSET
    }
    changed = msgspec.structs.replace(key, **wanted, **also)
    if changed.expires_at is None:
        return changed
    # The configuration writes times with any offset; everything we store and show is UTC.
    return msgspec.structs.replace(changed, expires_at=changed.expires_at.astimezone(UTC))


def _no_such_key() -> NotFound:
    return NotFound(ErrorCode.NOT_FOUND, "no such virtual key")
