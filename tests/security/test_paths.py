"""No text of a client becomes the name of a file, and no id is read but as an id (security.md T23, T30)."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_from_bytes

import apsw
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.admin import KEYS
from api.minting import admin_token
from api.world import bearer
from support.gateway import CHAT, OTHER_KEY, RunningGateway, chat
from tidegate.domain.ids import NIL

pytestmark = pytest.mark.anyio

ADMIN: Final = bearer(admin_token())
ABSENT: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
ESCAPED: Final = st.binary(min_size=1, max_size=60).map(lambda data: quote_from_bytes(data, safe=""))
STEPS: Final = st.lists(
    st.sampled_from(
        [
            "..",
            ".",
            "%2e%2e",
            "%2f",
            "%5c",
            "%00",
            "etc",
            "passwd",
            "tidegate.db",
            "local-issuer.key",
            "~",
            ":",
            "-",
        ]
    ),
    min_size=1,
    max_size=8,
).map("".join)
IDS: Final = st.one_of(ESCAPED, STEPS, st.text("0123456789abcdefABCDEF-", min_size=30, max_size=40))


class Opened:
    """Paths that this process opens while it is watched."""

    def __init__(self) -> None:
        self.is_watching = False
        self.paths: list[str] = []

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.is_watching and event in {
            "open",
            "os.listdir",
            "os.scandir",
            "os.mkdir",
            "os.remove",
            "os.rename",
        }:
            self.paths.append(str(args[0]))


OPENED: Final = Opened()
sys.addaudithook(OPENED)


@contextmanager
def watched() -> Iterator[list[str]]:
    """What is opened meanwhile; hooks stay for good, so there is one that can be told to look away."""
    OPENED.paths.clear()
    OPENED.is_watching = True
    try:
        yield OPENED.paths
    finally:
        OPENED.is_watching = False


def test_the_watch_sees_a_file_that_is_opened(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")

    with watched() as opened:
        (tmp_path / "there").read_text()

    assert str(tmp_path / "there") in opened


def files_beside(gateway: RunningGateway) -> set[str]:
    return {file.name for file in gateway.gateway.settings.store.path.parent.rglob("*")}


@settings(max_examples=150, deadline=None)
@given(id_=IDS)
@example(id_="..%2f..%2f..%2f..%2fetc%2fpasswd")
@example(id_="%2e%2e%2flocal-issuer.key")
@example(id_="....//")
async def test_an_id_is_an_id_or_nothing(gateway: RunningGateway, id_: str) -> None:
    before = files_beside(gateway)

    with watched() as opened:
        for method, path in (
            ("GET", f"{CHAT}/{id_}"),
            ("GET", f"/v1/async/jobs/{id_}"),
            ("POST", f"/v1/async/jobs/{id_}/cancel"),
            ("GET", f"{KEYS}/{id_}"),
            ("GET", f"/docs/{id_}"),
        ):
            response = await gateway.client.request(method, path, headers=ADMIN)
            # ``a/..`` and the like are resolved by the client before they are sent: a place like any other.
            assert response.status_code in {404, 405} or response.url.path in SHOWN, (method, path)

    # Modules may still be loaded for the first time.
    assert [path for path in opened if not path.startswith((sys.prefix, sys.base_prefix))] == []
    assert files_beside(gateway) == before


SHOWN: Final = {"/v1/async/jobs", KEYS, "/docs", "/docs/"}


# What is not there is looked for like what is there


class Spy:
    """Every statement that the look-up connection of the store executes, with what it was asked."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def __call__(self, _cursor: apsw.Cursor, statement: str, _bindings: Any) -> bool:
        self.statements.append(" ".join(statement.split()))
        return True


@pytest.fixture
def spy(gateway: RunningGateway) -> Iterator[Spy]:
    readers: Any = gateway.sqlite._readers
    spy = Spy()
    readers._looker.exec_trace = spy
    yield spy
    readers._looker.exec_trace = None


def _is_about_jobs(statement: str) -> bool:
    return "virtual_keys" not in statement and statement not in {"BEGIN", "ROLLBACK"}


REASONS: Final = ("foreign", "absent", "nil", "malformed", "escaped", "long", "upper case", "another version")


@pytest.mark.parametrize("path", [f"{CHAT}/%s", "/v1/async/jobs/%s"])
async def test_whatever_is_missing_costs_the_same_queries(
    gateway: RunningGateway, spy: Spy, path: str
) -> None:
    """Neither fewer for an id that cannot be one, nor more for one that is somebody else's."""
    foreign = await gateway.accepted(chat("moody/echo"))
    await gateway.ended(foreign)
    targets = (
        foreign,
        ABSENT,
        NIL,
        "malformed",
        "%2e%2e",
        "a" * 500,
        foreign.upper(),
        foreign.replace("-7", "-4"),
    )
    await gateway.client.get(path % ABSENT, headers=bearer(OTHER_KEY))  # the key is at hand from here on
    asked: dict[str, list[str]] = {}

    for reason, target in zip(REASONS, targets, strict=True):
        spy.statements.clear()
        response = await gateway.client.get(path % target, headers=bearer(OTHER_KEY))
        assert response.status_code == 404
        asked[reason] = [text for text in spy.statements if _is_about_jobs(text)]

    assert len(asked["absent"]) >= 1
    assert all(statements == asked["absent"] for statements in asked.values()), asked
    assert all("owner" in statement for statement in asked["absent"])


async def test_the_owner_is_part_of_the_one_query(gateway: RunningGateway, spy: Spy) -> None:
    """The control: for its owner the same look-up finds the job."""
    job = await gateway.accepted(chat("moody/echo"), key=OTHER_KEY)
    await gateway.ended(job, key=OTHER_KEY)
    spy.statements.clear()

    response = await gateway.poll(job, key=OTHER_KEY)

    assert response.status_code == 200
    assert [text for text in spy.statements if "FROM jobs" in text]
