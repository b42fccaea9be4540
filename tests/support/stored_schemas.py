"""Databases as some version left them when it was killed, with jobs in every state: how they are stored and brought back.

``make schemas`` stores those of the version at hand, for the tests of the versions to come.
"""

import asyncio
import io
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import apsw
import apsw.shell
import asyncpg

from api.minting import admin_token
from benchmarks.machine.postgres import PostgresServer, postgres_server
from support.fleet import fleet
from support.gateway import CHAT, chat, configuration, provider
from support.processes import GatewayProcess, gateway_process
from support.wire import Answer, Connection
from tidegate.mock_vendor import MockVendor
from tidegate.store.migrate import migrations

FOLDER: Final = Path(__file__).resolve().parents[1] / "fixtures" / "schemas"
IDEMPOTENCY_KEY: Final = "once"
REPEATED: Final = json.dumps(chat(text="only once")).encode()
_SCRIPT: Final = {
    "rules": [
        {"model": "refused", "status": 400},
        {"model": "broken", "status": 500},
        {"model": "hang", "hang": "before_headers"},
        {"model": "echo"},
    ]
}
_AGE: Final = 8.0
"""So long ago everything happened: nobody has to wait much longer for what was to come, and whoever was alive still is."""
_DEAD_AFTER: Final = 14.0
"""A lease, and a little more."""
_NEWEST: Final = "SELECT max(created_at) FROM jobs"
_KEYS: Final = "/api/governance/virtual-keys"


class _Client:
    """Of a virtual key that no configuration knows; it remembers which job is to be found in which state."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.facts: dict[str, Any] = {"key": "", "completed": [], "failed": [], "unfinished": []}

    async def mint(self) -> None:
        answer = await self.ask("POST", _KEYS, b'{"name":"minted"}', authorization=f"Bearer {admin_token()}")
        self.facts["key"] = answer.json()["virtual_key"]["value"]

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        usual = {"authorization": f"Bearer {self.facts['key']}", "content-type": "application/json"}
        named = usual | {name.replace("_", "-"): value for name, value in headers.items()}
        async with Connection("127.0.0.1", self._port) as connection:
            answer = await connection.request(method, path, named, body)
        assert answer.status < 300, answer.body
        return answer

    async def submit(self, state: str, body: bytes, **headers: str) -> str:
        job: str = (await self.ask("POST", CHAT, body, **headers)).json()["id"]
        self.facts[state].append(job)
        return job

    async def end_some(self) -> None:
        await self.submit("completed", REPEATED, idempotency_key=IDEMPOTENCY_KEY, prefer="wait=20")
        await self.submit("failed", _body("refused"), prefer="wait=20")

    async def begin_one(self) -> None:
        await self._until(await self.submit("unfinished", _body("hang")), "status", "processing")

    async def postpone_one(self) -> None:
        await self._until(await self.submit("unfinished", _body("broken")), "attempt", 1, "status", "pending")

    async def leave_some(self) -> None:
        await self.submit("unfinished", _body("echo"))
        await self.submit("unfinished", _body("echo", metadata={"order": "17"}), x_bf_async_priority="1")

    async def _until(self, job: str, *wanted: Any) -> None:
        async with asyncio.timeout(20):
            while True:
                view = (await self.ask("GET", f"/v1/async/jobs/{job}")).json()
                if all(view[name] == value for name, value in zip(wanted[::2], wanted[1::2], strict=True)):
                    return
                await asyncio.sleep(0.05)


def _body(model: str, **members: Any) -> bytes:
    return json.dumps(chat(model=f"openai/{model}", **members)).encode()


async def _live_on_postgres(directory: Path, url: str, vendor: MockVendor) -> dict[str, Any]:
    """One worker is long dead when all is over, one has just been killed; each had a job."""
    with fleet(directory, url, vendor.url, gateways=1, workers=2) as three:
        (gateway,), (first, second) = three.gateways, three.workers
        client = _Client(gateway.port)
        await three.start_again(gateway)
        await three.start_again(first)
        await client.mint()
        await client.end_some()
        await client.begin_one()
        first.kill()
        gateway.kill()
        await asyncio.sleep(_DEAD_AFTER)
        await three.start_again(gateway)
        await three.start_again(second)
        await client.begin_one()
        await client.postpone_one()
        second.kill()
        await client.leave_some()
        gateway.kill()
    return client.facts


async def _live_on_sqlite(gateway: GatewayProcess) -> dict[str, Any]:
    client = _Client(gateway.port)
    await gateway.start()
    await client.mint()
    await client.end_some()
    await client.postpone_one()
    await client.begin_one()
    await client.leave_some()
    gateway.kill()
    return client.facts


async def _store_postgres(directory: Path) -> tuple[dict[str, Any], list[str]]:
    with postgres_server() as server:
        url = server.url("stored")
        server.create("stored")
        async with MockVendor.serve(script=_SCRIPT) as vendor:
            facts = await _live_on_postgres(directory, url, vendor)
        connection = await asyncpg.connect(url)
        await connection.execute("UPDATE workers SET host = 'some-host'")
        await connection.execute("ALTER DATABASE stored SET bytea_output = 'escape'")
        await connection.close()
        return facts, _dump(server, url)


def _dump(server: PostgresServer, url: str) -> list[str]:
    file = server.home / "stored.sql"
    server.run("pg_dump", "--inserts", "--no-owner", "-f", str(file), url, at_home=False)
    return file.read_text("utf-8").splitlines()


async def _store_sqlite(directory: Path) -> tuple[dict[str, Any], list[str]]:
    async with MockVendor.serve(script=_SCRIPT) as vendor:
        one_at_a_time = provider(vendor.url, concurrency_and_buffer_size={"concurrency": 1})
        config = configuration(directory, vendor.url, providers={"openai": one_at_a_time})
        with gateway_process(directory, config) as gateway:
            facts = await _live_on_sqlite(gateway)
    out = io.StringIO()
    shell = apsw.shell.Shell(args=[str(directory / "tidegate.db")], stdout=out)
    shell.process_command(".dump")  # type: ignore[no-untyped-call]
    shell.db.close()
    return facts, out.getvalue().splitlines()


async def store(folder: Path) -> None:
    """Schemas that are there already stay as they are."""
    for dialect, make in (("postgres", _store_postgres), ("sqlite", _store_sqlite)):
        file = folder / f"{dialect}-{migrations(dialect)[-1].number:04}.sql"
        if not file.exists():
            with tempfile.TemporaryDirectory() as directory:
                facts, lines = await make(Path(directory))
            kept = [line for line in lines if line.strip() and not line.startswith(("--", "\\"))]
            file.write_text("\n".join([f"-- {json.dumps(facts)}", *kept, ""]), "utf-8")


def _sql(stored: Path) -> str:
    return stored.read_text("utf-8")


def facts_of(stored: Path) -> dict[str, Any]:
    """The secret of a virtual key, and ids of jobs by what has become of them."""
    first, _, _ = _sql(stored).partition("\n")
    facts: dict[str, Any] = json.loads(first.removeprefix("-- "))
    return facts


async def load_postgres(stored: Path, url: str) -> None:
    """As if its newest job had just been accepted."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_sql(stored))
        await connection.execute("SET search_path TO public")
        columns = await connection.fetch(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND data_type = 'bigint'"
        )
        later = _lag(await connection.fetchval(_NEWEST))
        for command in _put_off(columns, later):
            await connection.execute(command)
    finally:
        await connection.close()


def load_sqlite(stored: Path, file: Path) -> None:
    """As if its newest job had just been accepted."""
    connection = apsw.Connection(str(file))
    connection.execute(_sql(stored))
    columns = connection.execute(
        "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'"
    ).fetchall()
    newest: Any = connection.execute(_NEWEST).get
    for command in _put_off(columns, _lag(newest)):
        connection.execute(command)
    connection.close()


def _lag(newest: int) -> int:
    return round((time.time() - _AGE) * 1000) - newest


def _put_off(columns: Sequence[Any], later: int) -> list[str]:
    """Statements: each time in the database is ``later`` by so many milliseconds."""
    times = [
        (table, column) for table, column in columns if column.rpartition("_")[2] in {"at", "until", "since"}
    ]
    return [f"UPDATE {table} SET {column} = {column} + {later}" for table, column in times]  # noqa: S608 – names of ours


if __name__ == "__main__":
    asyncio.run(store(FOLDER))
