"""Virtual keys: made, changed, rotated, deleted, and kept in step with the configuration (contract §5.5)."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from support.fakes import RecordingObserver
from support.stores import SqliteUnderTest
from tidegate.domain.access import KeyId, ProviderGrant, VirtualKey
from tidegate.domain.errors import Conflict, NotFound
from tidegate.domain.secret import Secret
from tidegate.services.key_directory import KeyDirectory
from tidegate.services.manage_keys import ConfiguredKey, KeyChanges, ManageKeys, NewSecret, digest_of

pytestmark = pytest.mark.anyio

CONFIGURATION = "configuration"


class Desk:
    """Where keys are managed, with what was noted there."""

    def __init__(self, store: SqliteUnderTest) -> None:
        self.store = store
        self.observer = RecordingObserver()
        self.directory = KeyDirectory(store.keys, store.clock)
        self.manage = ManageKeys(store.keys, self.directory, store.clock, store.rng, self.observer)

    @property
    def noted(self) -> list[tuple[str, str, str]]:
        """What happened to which key by whom, since the last look."""
        notes = [(action, key.name, actor) for action, key, actor in self.observer.keys]
        self.observer.keys.clear()
        return notes

    async def configure(self, *entries: ConfiguredKey) -> None:
        self.store.later(seconds=1)
        await self.manage.apply_configuration(entries)

    async def by_secret(self, secret: str) -> VirtualKey | None:
        return await self.directory.find(digest_of(Secret(secret)))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = SqliteUnderTest(tmp_path / "data" / "tidegate.db")
    store.open()
    yield Desk(store)
    await store.store.close()
    assert store.fatal == []


def entry(name: str, secret: str, key_id: str | None = None, **changes: Any) -> ConfiguredKey:
    return ConfiguredKey(
        KeyId(key_id) if key_id is not None else None, Secret(secret), KeyChanges(name=name, **changes)
    )


class TestConfiguration:
    async def test_an_entry_becomes_a_key(self, desk: Desk) -> None:
        grants = (ProviderGrant("openai", ("*",)),)

        await desk.configure(entry("a", "sk-bf-secret-of-a-long-key", "id-a", grants=grants, weight=2.0))

        key = await desk.by_secret("sk-bf-secret-of-a-long-key")
        assert key is not None
        assert (key.id, key.name, key.grants, key.weight) == ("id-a", "a", grants, 2.0)
        assert key.from_config
        assert key.value_hint == "sk-bf-…-key"
        assert desk.noted == [("created", "a", CONFIGURATION)]

    async def test_an_unchanged_entry_changes_nothing(self, desk: Desk) -> None:
        await desk.configure(entry("a", "secret", "id-a"), entry("b", "other"))
        before = await desk.manage.page(limit=10, offset=0, name_prefix="")
        assert len(desk.noted) == 2

        await desk.configure(entry("a", "secret", "id-a"), entry("b", "other"))

        assert await desk.manage.page(limit=10, offset=0, name_prefix="") == before
        assert desk.noted == []

    @pytest.mark.parametrize("key_id", ["id-a", None])
    async def test_a_changed_value_is_a_rotation(self, desk: Desk, key_id: str | None) -> None:
        await desk.configure(entry("a", "old secret", key_id))
        first = await desk.by_secret("old secret")

        await desk.configure(entry("a", "new secret", key_id))

        second = await desk.by_secret("new secret")
        assert first is not None
        assert second is not None
        assert second.id == first.id
        assert second.created_at == first.created_at
        assert second.updated_at > first.updated_at
        assert await desk.by_secret("old secret") is None
        assert [note[0] for note in desk.noted] == ["created", "updated"]

    async def test_changed_members_are_an_update(self, desk: Desk) -> None:
        await desk.configure(entry("a", "secret", "id-a", weight=1.0, priority_ceiling=1))

        await desk.configure(entry("a", "secret", "id-a", weight=3.0, priority_ceiling=2, is_active=False))

        key = await desk.manage.get(KeyId("id-a"))
        assert (key.weight, key.priority_ceiling, key.is_active) == (3.0, 2, False)

    async def test_an_id_is_kept_by_name(self, desk: Desk) -> None:
        await desk.configure(entry("a", "secret a"), entry("b", "secret b"))
        first = await desk.by_secret("secret a")

        await desk.configure(entry("b", "secret b"), entry("a", "another secret"))

        second = await desk.by_secret("another secret")
        assert first is not None
        assert second is not None
        assert second.id == first.id

    async def test_with_an_id_the_name_may_change(self, desk: Desk) -> None:
        await desk.configure(entry("old name", "secret", "id-a"))

        await desk.configure(entry("new name", "secret", "id-a"))

        assert (await desk.manage.get(KeyId("id-a"))).name == "new name"
        assert (await desk.manage.page(limit=10, offset=0, name_prefix=""))[1] == 1

    async def test_a_removed_entry_is_deactivated_and_stays(self, desk: Desk) -> None:
        await desk.configure(entry("a", "secret a", "id-a"), entry("b", "secret b"))
        assert len(desk.noted) == 2

        await desk.configure(entry("a", "secret a", "id-a"))

        removed = await desk.by_secret("secret b")
        assert removed is not None
        assert not removed.is_active
        assert removed.from_config
        assert (await desk.manage.get(KeyId("id-a"))).is_active
        assert desk.noted == [("deactivated", "b", CONFIGURATION)]
        await desk.configure(entry("a", "secret a", "id-a"))
        assert desk.noted == []

    async def test_an_entry_that_comes_back_is_active_again_under_its_old_id(self, desk: Desk) -> None:
        await desk.configure(entry("a", "secret"))
        first = await desk.by_secret("secret")
        await desk.configure()

        await desk.configure(entry("a", "secret", is_active=True))

        second = await desk.by_secret("secret")
        assert first is not None
        assert second is not None
        assert second.id == first.id
        assert second.is_active

    async def test_keys_made_over_http_are_left_alone(self, desk: Desk) -> None:
        made = await desk.manage.create(KeyChanges(name="made"), "root")

        await desk.configure(entry("a", "secret"))

        assert await desk.manage.get(made.key.id) == made.key

    async def test_an_entry_does_not_take_over_a_key_for_its_name(self, desk: Desk) -> None:
        """The jobs of the one would go to the client of the other."""
        made = await desk.manage.create(KeyChanges(name="taken"), "root")

        with pytest.raises(Conflict) as caught:
            await desk.configure(entry("taken", "secret"))

        assert caught.value.message == 'a virtual key named "taken" exists'
        assert await desk.by_secret(made.secret.reveal()) == made.key

    async def test_more_keys_than_one_page_are_all_seen(self, desk: Desk) -> None:
        many = [entry(f"key {number:03}", f"secret {number}") for number in range(205)]
        await desk.configure(*many)

        await desk.configure(many[0])

        keys, total = await desk.manage.page(limit=300, offset=0, name_prefix="")
        assert total == 205
        assert [key.name for key in keys if key.is_active] == ["key 000"]

    async def test_times_are_kept_in_utc(self, desk: Desk) -> None:
        local = datetime(2030, 1, 31, 2, tzinfo=timezone(timedelta(hours=2)))

        await desk.configure(entry("a", "secret", "id-a", expires_at=local))

        expires_at = (await desk.manage.get(KeyId("id-a"))).expires_at
        assert expires_at is not None
        assert (expires_at.tzinfo, expires_at.hour) == (UTC, 0)

    async def test_the_file_alone_changes_its_keys(self, desk: Desk) -> None:
        await desk.configure(entry("a", "secret", "id-a"))
        key_id = KeyId("id-a")

        for attempt in (
            desk.manage.update(key_id, KeyChanges(name="x"), "root"),
            desk.manage.rotate(key_id, "root"),
            desk.manage.delete(key_id, "root", cancels_jobs=False),
        ):
            with pytest.raises(Conflict) as caught:
                await attempt
            assert (caught.value.code, caught.value.message) == (
                "managed_by_config",
                '"a" is defined in the configuration',
            )


class TestOverHttp:
    @staticmethod
    async def made(desk: Desk, **changes: Any) -> NewSecret:
        return await desk.manage.create(KeyChanges(**({"name": "made"} | changes)), "root")

    async def test_a_new_key_has_43_random_characters_of_which_only_a_digest_is_kept(
        self, desk: Desk
    ) -> None:
        made = await self.made(desk)

        secret = made.secret.reveal()
        assert secret.startswith("sk-bf-")
        assert len(secret) == len("sk-bf-") + 43
        assert made.key.value_hint == f"sk-bf-…{secret[-4:]}"
        assert await desk.by_secret(secret) == made.key
        assert desk.noted == [("created", "made", "root")]
        await desk.store.store.close()
        stored = b"".join(file.read_bytes() for file in desk.store.path.parent.iterdir())
        assert secret.encode() not in stored
        desk.store.open()

    async def test_a_name_is_given_once(self, desk: Desk) -> None:
        await self.made(desk)

        with pytest.raises(Conflict) as caught:
            await self.made(desk)

        assert (caught.value.code, caught.value.param) == ("already_exists", "name")
        assert [note[0] for note in desk.noted] == ["created"]

    async def test_an_update_changes_what_it_names(self, desk: Desk) -> None:
        made = await self.made(desk, description="old", weight=2.0)
        desk.store.later(seconds=5)

        key = await desk.manage.update(made.key.id, KeyChanges(description="new"), "root")

        assert (key.description, key.weight, key.name) == ("new", 2.0, "made")
        assert key.updated_at - made.key.updated_at == timedelta(seconds=5)
        assert await desk.by_secret(made.secret.reveal()) == key

    async def test_a_change_is_seen_at_once(self, desk: Desk) -> None:
        made = await self.made(desk)
        secret = made.secret.reveal()
        await desk.by_secret(secret)

        await desk.manage.update(made.key.id, KeyChanges(is_active=False), "root")

        found = await desk.by_secret(secret)
        assert found is not None
        assert not found.is_active

    async def test_rotation_replaces_the_secret_only(self, desk: Desk) -> None:
        made = await self.made(desk, weight=2.0)

        rotated = await desk.manage.rotate(made.key.id, "root")

        assert rotated.key.id == made.key.id
        assert rotated.key.weight == 2.0
        assert await desk.by_secret(made.secret.reveal()) is None
        assert await desk.by_secret(rotated.secret.reveal()) == rotated.key
        assert desk.noted[-1] == ("rotated", "made", "root")

    async def test_a_deleted_key_is_gone(self, desk: Desk) -> None:
        made = await self.made(desk)
        assert await desk.manage.has_any()

        await desk.manage.delete(made.key.id, "root", cancels_jobs=False)

        assert await desk.by_secret(made.secret.reveal()) is None
        assert not await desk.manage.has_any()
        assert desk.noted[-1] == ("deleted", "made", "root")

    async def test_what_is_not_there_cannot_be_changed(self, desk: Desk) -> None:
        nobody = KeyId("nobody")

        for attempt in (
            desk.manage.get(nobody),
            desk.manage.update(nobody, KeyChanges(), "root"),
            desk.manage.rotate(nobody, "root"),
            desk.manage.delete(nobody, "root", cancels_jobs=True),
        ):
            with pytest.raises(NotFound) as caught:
                await attempt
            assert caught.value.code == "not_found"
        assert desk.noted == []
