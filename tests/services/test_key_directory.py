"""Virtual keys are looked up once a second at most, and afresh after a change."""

from datetime import UTC, datetime, timedelta

import pytest

from support.fakes import FakeClock
from tidegate.domain.access import KeyId, VirtualKey
from tidegate.services.key_directory import KeyDirectory

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 3, 2, tzinfo=UTC)
DIGEST = b"d" * 32


def a_key(name: str, *, from_config: bool = False) -> VirtualKey:
    return VirtualKey(
        id=KeyId(f"id of {name}"),
        name=name,
        created_at=NOW,
        updated_at=NOW,
        value_hint="***",
        from_config=from_config,
    )


class CountingKeys:
    """A store of keys that notes what it was asked."""

    def __init__(self, *keys: VirtualKey) -> None:
        self.keys = {key.name: key for key in keys}
        self.asked: list[str] = []

    async def find(self, digest: bytes) -> VirtualKey | None:
        self.asked.append("find")
        return self.keys.get("a") if digest == DIGEST else None

    async def get(self, key_id: KeyId) -> VirtualKey | None:
        self.asked.append("get")
        return next((key for key in self.keys.values() if key.id == key_id), None)

    async def get_by_name(self, name: str) -> VirtualKey | None:
        self.asked.append("get_by_name")
        return self.keys.get(name)


def directory_of(keys: CountingKeys, clock: FakeClock) -> KeyDirectory:
    return KeyDirectory(keys, clock)  # type: ignore[arg-type]


async def test_an_answer_is_remembered_for_a_second() -> None:
    keys, clock = CountingKeys(a_key("a")), FakeClock()
    directory = directory_of(keys, clock)

    for seconds in (0, 0.5, 0.49):
        clock.advance(timedelta(seconds=seconds))
        assert await directory.find(DIGEST) == keys.keys["a"]
        assert await directory.get(KeyId("id of a")) == keys.keys["a"]
    assert keys.asked == ["find", "get"]

    clock.advance(timedelta(seconds=0.01))
    await directory.find(DIGEST)
    await directory.get(KeyId("id of a"))
    assert keys.asked == ["find", "get"] * 2


async def test_so_is_that_there_is_no_such_key() -> None:
    """A wrong secret, sent again and again, must not become a load on the store."""
    keys = CountingKeys()
    directory = directory_of(keys, FakeClock())

    for _ in range(5):
        assert await directory.find(b"x" * 32) is None

    assert keys.asked == ["find"]


async def test_a_change_is_seen_at_once() -> None:
    keys = CountingKeys(a_key("a"))
    directory = directory_of(keys, FakeClock())
    await directory.find(DIGEST)
    await directory.get(KeyId("id of a"))

    keys.keys.clear()
    directory.forget()

    assert await directory.find(DIGEST) is None
    assert await directory.get(KeyId("id of a")) is None


async def test_a_step_of_the_wall_clock_changes_nothing() -> None:
    keys, clock = CountingKeys(a_key("a")), FakeClock()
    directory = directory_of(keys, clock)
    await directory.find(DIGEST)

    clock.step_wall_clock(timedelta(hours=-5))
    await directory.find(DIGEST)

    assert keys.asked == ["find"]


async def test_what_is_remembered_is_bounded() -> None:
    """Random secrets must not fill the memory."""
    directory = directory_of(CountingKeys(), FakeClock())

    for number in range(10_500):
        await directory.find(number.to_bytes(32, "big"))

    assert len(directory._by_digest._answers) <= 10_000


@pytest.mark.parametrize(
    ("reference", "found"),
    [("id of a", "a"), ("id of made", "made"), ("a", "a"), ("made", None), ("none", None), ("", None)],
)
async def test_53_a_token_names_a_key_by_its_id_or_a_configured_one_by_name(
    reference: str, found: str | None
) -> None:
    keys = CountingKeys(a_key("a", from_config=True), a_key("made"))

    key = await directory_of(keys, FakeClock()).named_in_token(reference)

    assert (key.name if key is not None else None) == found
