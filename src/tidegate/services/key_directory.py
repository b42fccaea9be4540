"""Virtual keys at hand: looked up in the store once a second at most, and afresh after every change here."""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar, final

from tidegate.domain.access import KeyId, VirtualKey
from tidegate.ports import Clock, KeyStore

_FRESH_FOR: Final = 1.0
_MOST_REMEMBERED: Final = 10_000

K = TypeVar("K", bound=Hashable)


@final
class _Remembered(Generic[K]):
    """Answers, ``None`` included, with the time they were given."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: dict[K, tuple[float, VirtualKey | None]] = {}

    def get(self, name: K) -> tuple[bool, VirtualKey | None]:
        found = self._answers.get(name)
        if found is None or self._clock.monotonic() - found[0] >= _FRESH_FOR:
            return False, None
        return True, found[1]

    def put(self, name: K, key: VirtualKey | None) -> None:
        if len(self._answers) >= _MOST_REMEMBERED:
            self._answers.clear()
        self._answers[name] = (self._clock.monotonic(), key)

    def forget(self) -> None:
        self._answers.clear()


@final
class KeyDirectory:
    """Reads of virtual keys on the hot paths."""

    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self._store = store
        self._by_digest: _Remembered[bytes] = _Remembered(clock)
        self._by_id: _Remembered[KeyId] = _Remembered(clock)

    async def find(self, digest: bytes) -> VirtualKey | None:
        """The key whose secret has this SHA-256 digest."""
        is_known, key = self._by_digest.get(digest)
        if not is_known:
            key = await self._store.find(digest)
            self._by_digest.put(digest, key)
        return key

    async def get(self, key_id: KeyId) -> VirtualKey | None:
        is_known, key = self._by_id.get(key_id)
        if not is_known:
            key = await self._store.get(key_id)
            self._by_id.put(key_id, key)
        return key

    async def named_in_token(self, reference: str) -> VirtualKey | None:
        """A key by its id; by its name only if the configuration defines it: a freed name would move rights."""
        key = await self.get(KeyId(reference))
        if key is not None:
            return key
        named = await self._store.get_by_name(reference)
        return named if named is not None and named.from_config else None

    def forget(self) -> None:
        """A key has changed."""
        self._by_digest.forget()
        self._by_id.forget()
