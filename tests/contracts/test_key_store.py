"""What every key store must do."""

from datetime import timedelta

import pytest

from support.stores import StoreUnderTest
from tidegate.domain.access import KeyId, ProviderGrant, owner_of_key
from tidegate.domain.errors import Conflict, ErrorCode

pytestmark = pytest.mark.anyio

DIGEST = b"d" * 32
OTHER_DIGEST = b"e" * 32


async def test_a_key_is_found_by_the_digest_of_its_secret_by_id_and_by_name(store: StoreUnderTest) -> None:
    key = store.key(
        description="searches",
        expires_at=store.clock.now() + timedelta(days=1),
        grants=(ProviderGrant("openai", ("*",), weight=0.5, key_ids=("main",)),),
        weight=2.5,
        priority_ceiling=2,
        result_ttl_max=60,
    )
    await store.keys.create(key, DIGEST)

    assert await store.keys.find(DIGEST) == key
    assert await store.keys.get(key.id) == key
    assert await store.keys.get_by_name("a") == key
    assert await store.keys.find(OTHER_DIGEST) is None


async def test_a_key_survives_a_crash(store: StoreUnderTest) -> None:
    key = store.key()
    await store.keys.create(key, DIGEST)

    await store.restart_after_crash()

    assert await store.keys.get(key.id) == key


async def test_names_and_secrets_are_unique(store: StoreUnderTest) -> None:
    await store.keys.create(store.key("a"), DIGEST)

    with pytest.raises(Conflict) as same_name:
        await store.keys.create(store.key("a", id=KeyId("other")), OTHER_DIGEST)
    with pytest.raises(Conflict) as same_secret:
        await store.keys.create(store.key("b"), DIGEST)

    assert same_name.value.code is same_secret.value.code is ErrorCode.ALREADY_EXISTS


async def test_a_new_secret_replaces_the_old_one(store: StoreUnderTest) -> None:
    key = store.key()
    await store.keys.create(key, DIGEST)

    assert await store.keys.update(key, OTHER_DIGEST)

    assert await store.keys.find(DIGEST) is None
    assert await store.keys.find(OTHER_DIGEST) == key


async def test_a_change_without_a_secret_keeps_the_secret(store: StoreUnderTest) -> None:
    await store.keys.create(store.key(), DIGEST)
    changed = store.key(is_active=False)

    assert await store.keys.update(changed)

    assert await store.keys.find(DIGEST) == changed


async def test_a_key_that_is_not_there_cannot_be_changed(store: StoreUnderTest) -> None:
    assert not await store.keys.update(store.key())
    assert not await store.keys.delete(KeyId("nobody"), cancels_jobs=False)


async def test_pages_by_name_with_a_prefix(store: StoreUnderTest) -> None:
    for index, name in enumerate(("team-b", "team-a", "other", "Team-c", "team-%")):
        await store.keys.create(store.key(name), bytes([index]) * 32)

    page, total = await store.keys.list(limit=2, offset=1, name_prefix="team-")
    everything, count = await store.keys.list(limit=50, offset=0, name_prefix="")

    assert ([key.name for key in page], total) == (["team-a", "team-b"], 3)
    assert (len(everything), count) == (5, 5)


async def test_a_deleted_key_leaves_its_jobs_to_end_at_dispatch(store: StoreUnderTest) -> None:
    key = store.key()
    await store.keys.create(key, DIGEST)
    job_id = await store.accept(owner=owner_of_key(key.id))

    assert await store.keys.delete(key.id, cancels_jobs=False)

    assert await store.keys.find(DIGEST) is None
    assert [claimed.id for claimed in await store.claim()] == [job_id]


async def test_a_key_can_take_its_unfinished_jobs_with_it(store: StoreUnderTest) -> None:
    key = store.key()
    await store.keys.create(key, DIGEST)
    owner = owner_of_key(key.id)
    running = await store.accept(owner=owner)
    claimed = await store.claim_one()
    waiting = await store.accept(owner=owner)
    others = await store.accept()

    assert await store.keys.delete(key.id, cancels_jobs=True)

    for job_id in (running, waiting):
        found = await store.state(job_id, owner)
        assert found is not None
        assert found.status_code == 499
    assert not await store.complete(claimed)
    assert [job.id for job in await store.claim()] == [others]
