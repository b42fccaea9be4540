"""Secrets sent through every path show nowhere: not in logs, files, metrics, answers or command output (security.md T10).

A gateway process at debug level, with defects of its own, meets vendors, proxies and clients that try to make
it talk; afterwards everything it wrote or answered is searched.
"""

import asyncio
import base64
import json
import secrets as chance
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, final

import httpx2
import pytest

from api.minting import claims, signed
from cli.runs import Cli
from security.canaries import PREFIX, forms, leaks
from support.gateway import CHAT, NO_TIME, chat
from support.processes import GatewayProcess, free_port, gateway_process
from support.wire import Connection
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

KEYS: Final = "/api/governance/virtual-keys"
PROMPT: Final = f"a prompt {chance.token_hex(12)}"
"""No secret in the database, and nothing for a log."""


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    """By the name of the variable they come from, where they come from one."""
    return {
        "VIRTUAL_KEY": f"sk-bf-{chance.token_urlsafe(32)}",
        "PROVIDER_KEY": f"sk-proj-{chance.token_urlsafe(32)}",
        "PLAIN_PROVIDER_KEY": chance.token_hex(16),
        "JWT_SECRET": chance.token_urlsafe(48),
        "METRICS_TOKEN": chance.token_urlsafe(32),
        "PROXY_PASSWORD": chance.token_hex(16),
        # Sent by clients, and known to nobody here.
        "unknown key": f"sk-bf-{chance.token_urlsafe(32)}",
        "somebody else's key": f"sk-{chance.token_urlsafe(32)}",
        "a password": chance.token_urlsafe(24),
    }


class Evidence:
    """All that was written, shown or answered, by where it was found."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {}

    def add(self, place: str, what: bytes) -> None:
        self.found[place] = self.found.get(place, b"") + b"\n" + what

    def shows(self, place: str, *words: str) -> list[str]:
        """Which of the words are there; a list, since nobody wants to see a megabyte that holds none."""
        return [word for word in words if word.encode() in self.found[place]]

    def answer(self, response: httpx2.Response) -> None:
        head = "\n".join(f"{name}: {value}" for name, value in response.headers.multi_items())
        self.add("answers", head.encode() + response.content)


def test_the_search_finds_a_secret_in_every_form() -> None:
    secret = f"sk-bf-{chance.token_urlsafe(32)}"
    hidden = [
        secret,
        secret[:PREFIX],
        json.dumps({"key": secret}),
        "".join(f"%{byte:02X}" for byte in secret.encode()),
        secret.encode().hex(),
        *(base64.b64encode(b"x" * lead + secret.encode()).decode() for lead in range(7)),
        *(base64.urlsafe_b64encode(f"user:{'x' * lead}{secret}".encode()).decode() for lead in range(3)),
    ]

    for text in hidden:
        assert leaks({"it": secret}, f"before {text} after".encode()), text
    assert not leaks({"it": secret}, b"nothing here, and a hint: sk-bf-...abcd " + secret[-4:].encode())
    assert all(len(form) >= PREFIX for form in forms(secret))


# The world that tries to make the gateway talk


def talkative(name: str, key: str, other: str) -> list[dict[str, Any]]:
    """How a vendor behind the provider ``name`` repeats the key it was called with, or speaks of another."""
    record = {
        "message": f"Incorrect API key provided: {key} ({key[:6]}****{key[-4:]})",
        "type": key,
        "code": key,
        "param": key,
    }
    message = {"role": "assistant", "content": f"your key is {key}", "refusal": None}
    completion = {
        "id": key, "object": "chat.completion", "model": key, "system_fingerprint": key,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }  # fmt: skip
    shown = {
        "request-id": key,
        "x-ratelimit-remaining-requests": key,
        "openai-organization": key,
        "retry-after": key,
    }
    replies: dict[str, dict[str, Any]] = {
        "401": {"status": 401, "error": {"error": record}},
        "400": {"status": 400, "error": {"error": record}},
        "400-text": {"status": 400, "error": f"no: authorization: Bearer {key}, url https://x/?key={key}"},
        "400-other": {"status": 400, "error": {"error": {"message": f"expected {other}", "code": other}}},
        "400-headers": {"status": 400, "headers": shown},
        "503": {"status": 503, "error": {"error": record}, "headers": shown},
        "302": {"status": 302, "headers": {"location": f"https://elsewhere.example/?key={key}"}},
        "200-headers": {"headers": shown},
        "200-content": {"body": json.dumps(completion)},
        "200-error": {"body": json.dumps({"error": record})},
        "200-garbage": {"body": f"<html>{key}"},
    }
    return [{"model": f"{name}-{what}", **reply} for what, reply in replies.items()]


@asynccontextmanager
async def repeating_proxy() -> AsyncIterator[int]:
    """Refuses everybody, and says what it was sent, password and all."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = json.dumps({"error": {"message": head.decode("latin-1")}}).encode()
        lines = f"HTTP/1.1 407 No\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(lines.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def settings(vendor: MockVendor, directory: Path) -> dict[str, Any]:
    """Everything secret by reference."""

    def entry(key: str, **network: Any) -> dict[str, Any]:
        return {
            "keys": [{"name": "main", "value": f"env.{key}"}],
            "custom_provider_config": {"base_provider_type": "openai"},
            "network_config": {
                "base_url": vendor.url, "max_retries": 1, "retry_backoff_initial": 5, "retry_backoff_max": 20, **network,
            },
        }  # fmt: skip

    issuer = {
        "iss": "https://id.example", "aud": "tidegate", "algorithms": ["HS256"], "key": "env.JWT_SECRET",
        "kinds": ["virtual_key", "admin"],
    }  # fmt: skip
    return {
        "server": {"drain_timeout": "0s"},
        "store": {"url": f"sqlite:///{directory}/data/tidegate.db"},
        "auth": {"jwt": {"issuers": [issuer]}},
        "metrics": {"token": "env.METRICS_TOKEN"},
        "governance": {"virtual_keys": [{"name": "a", "id": "key-a", "value": "env.VIRTUAL_KEY"}]},
        "providers": {
            "one": entry("PROVIDER_KEY"),
            "two": entry("PLAIN_PROVIDER_KEY"),
            "unreachable": entry("PROVIDER_KEY", proxy_url="env.CLOSED_PROXY"),
            "refusing": entry("PROVIDER_KEY", proxy_url="env.REFUSING_PROXY"),
            "tunnel": entry(
                "PROVIDER_KEY", proxy_url="env.REFUSING_PROXY", base_url="https://vendor.example"
            ),
        },
    }


@final
class Story:
    """One run of the process, from its start to its end, with all that was heard of it."""

    def __init__(self, process: GatewayProcess, secrets: Mapping[str, str], evidence: Evidence) -> None:
        self._process = process
        self._secrets = secrets
        self._evidence = evidence
        self._admin = signed(claims(role="admin"), secret=secrets["JWT_SECRET"])

    def client(self) -> httpx2.AsyncClient:
        url = f"http://127.0.0.1:{self._process.port}"
        return httpx2.AsyncClient(base_url=url, timeout=NO_TIME, trust_env=False)

    async def ask(self, method: str, path: str, **request: Any) -> httpx2.Response:
        async with self.client() as client:
            response = await client.request(method, path, **request)
        if response.status_code not in {200, 201} or "value" not in response.text or KEYS not in path:
            self._evidence.answer(response)
        return response

    def bearer(self, secret: str) -> dict[str, str]:
        return {"authorization": f"Bearer {secret}"}

    async def run_jobs(self) -> None:
        """Every success and failure path, each waited for, looked at and listed."""
        key = self.bearer(self._secrets["VIRTUAL_KEY"])
        models = ["one/plain", "unreachable/x", "refusing/x", "tunnel/x", "one/defect"]
        models += [f"{name}/{rule['model']}" for name in ("one", "two") for rule in talkative(name, "", "")]
        wait = key | {"prefer": "wait=30", "x-bf-async-max-attempts": "1"}

        async def run(model: str) -> None:
            made = await self.ask("POST", CHAT, json=chat(model, PROMPT), headers=wait)
            assert made.status_code == 200, made.text
            await self.ask("GET", f"/v1/async/jobs/{made.json()['id']}", headers=key)

        for model in models:
            await run(model)
        held = (await self.ask("POST", CHAT, json=chat("one/hang", PROMPT), headers=key)).json()["id"]
        await self.ask("POST", f"/v1/async/jobs/{held}/cancel", headers=key)
        await self.ask("POST", CHAT, json=chat("one/hang", PROMPT), headers=key)  # to be released at the end
        await self.ask("GET", "/v1/async/jobs?limit=200", headers=key)

    async def fail_to_log_in(self) -> None:
        """Secrets in all the places where clients put them by mistake."""
        strange = [self._secrets[name] for name in ("unknown key", "somebody else's key", "a password")]
        for secret in strange:
            basic = base64.b64encode(f"user:{secret}".encode()).decode()
            for headers in (self.bearer(secret), {"x-bf-vk": secret}, {"authorization": f"Basic {basic}"}):
                await self.ask("GET", "/v1/async/jobs", headers=headers | {"cookie": f"session={secret}"})
            await self.ask("GET", f"{CHAT}/{secret}?wait={secret}", headers={"x-api-key": secret})
            good = self.bearer(self._secrets["VIRTUAL_KEY"]) | {"idempotency-key": secret}
            await self.ask("GET", f"{CHAT}/{secret}", headers=good)
            await self.ask("POST", CHAT, json=chat("one/plain", PROMPT), headers=good)
            await self.ask("GET", f"/v1/async/jobs?status={secret}", headers=good)
            await self.ask("POST", CHAT, content=f'{{"model": "{secret}'.encode(), headers=good)
        for token in (self._admin[:-4], self._admin + "x", f"{self._admin.rpartition('.')[0]}."):
            await self.ask("GET", KEYS, headers=self.bearer(token))
        async with Connection("127.0.0.1", self._process.port) as connection:
            answer = await connection.request(
                f"GET {self._admin}", "/", {"Authorization": f"Bearer {strange[0]}"}
            )
            self._evidence.add("answers", repr(answer).encode())

    async def administer(self) -> dict[str, str]:
        """A key made over HTTP, and a defect. The secret of the new key."""
        admin = self.bearer(self._admin)
        made = (await self.ask("POST", KEYS, json={"name": "made"}, headers=admin)).json()["virtual_key"]
        path = f"{KEYS}/{made['id']}"
        broken = await self.ask("POST", f"{path}/rotate", headers=admin | {"x-bf-vk": ""})
        assert broken.status_code == 500
        await self.ask("PUT", path, json={"value": made["value"], "secret": made["value"]}, headers=admin)
        await self.ask("GET", path, headers=admin)
        await self.ask("GET", KEYS, headers=admin)
        await self.ask("GET", "/v1/async/jobs", headers=self.bearer(made["value"]))
        return {"made key": made["value"]}

    async def read_pages(self) -> None:
        for headers in (self.bearer(self._secrets["METRICS_TOKEN"]), self.bearer(self._admin)):
            async with self.client() as client:
                page = await client.get("/metrics", headers=headers)
            assert page.status_code == 200
            self._evidence.add("metrics", page.content)
        await self.ask("GET", "/metrics", headers=self.bearer(self._secrets["METRICS_TOKEN"][:-1]))
        for path in ("/openapi.json", "/docs", "/docs/rapidoc.js", "/health", "/healthz", "/readyz", "/nope"):
            await self.ask("GET", path)

    async def command(self, cli: Cli) -> None:
        """What the command line shows of the running gateway and its configuration."""
        lines = [
            ("config", "check"), ("config", "show"), ("config", "show", "--json"), ("doctor",), ("doctor", "--json"),
            ("keys", "list"), ("keys", "list", "--json"), ("jobs", "list", "--json"), ("keys", "list", "-v"),
            ("token", "inspect", self._admin), ("token", "inspect", self._admin, "--json"),
            ("token", "inspect", self._admin[:-4]), ("keys", "list", "--key", self._secrets["unknown key"]),
            ("keys", "list", "--key", self._secrets["VIRTUAL_KEY"]),
        ]  # fmt: skip
        for line in lines:
            result = await asyncio.to_thread(cli, *line)
            self._evidence.add("commands", (result.stdout + result.stderr).encode())

    def signature(self) -> str:
        """The part of the token that is a secret."""
        return self._admin.rpartition(".")[2]


@pytest.fixture(scope="module")
async def evidence(secrets: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    directory = tmp_path_factory.mktemp("canaries")
    found = Evidence()
    vendor_keys = (secrets["PROVIDER_KEY"], secrets["PLAIN_PROVIDER_KEY"])
    rules = [
        *talkative("one", *vendor_keys), *talkative("two", *reversed(vendor_keys)),
        {"model": "hang", "hang": "before_headers"},
    ]  # fmt: skip
    async with MockVendor.serve(script={"rules": rules}) as vendor, repeating_proxy() as refusing:
        variables = {name: secret for name, secret in secrets.items() if name.isupper()} | {
            "CLOSED_PROXY": f"http://user:{secrets['PROXY_PASSWORD']}@127.0.0.1:{free_port()}",
            "REFUSING_PROXY": f"http://user:{secrets['PROXY_PASSWORD']}@127.0.0.1:{refusing}",
        }
        with (
            pytest.MonkeyPatch.context() as patch,
            gateway_process(directory, settings(vendor, directory)) as process,
        ):
            for name, value in variables.items():
                patch.setenv(name, value)
            await process.start("security.defective_gateway", "serve", "--log-level", "debug", "--config")
            story = Story(process, secrets, found)
            await story.run_jobs()
            await story.fail_to_log_in()
            secrets |= await story.administer()
            await story.read_pages()
            url = f"http://127.0.0.1:{process.port}"
            cli = Cli(
                directory,
                directory / "bytecode",
                **variables,
                TIDEGATE_CONFIG="tidegate.json",
                TIDEGATE_URL=url,
            )
            await story.command(cli)
            found.add("files while it runs", files(directory / "data"))
            process.terminate()
            assert await process.exit_code() == 0
            found.add("files afterwards", files(directory / "data"))
            found.add("log", process.log.read_bytes())
            secrets["token"] = story.signature()
            secrets["issuer key"] = (directory / "data" / "local-issuer.key").read_text()
    return found


def files(directory: Path) -> bytes:
    """All of it but the file that is there to hold a secret."""
    there = [file for file in directory.rglob("*") if file.is_file()]
    assert {"tidegate.db", "tidegate.lock", "local-issuer.key"} <= {file.name for file in there}
    return b"\n".join(file.read_bytes() for file in there if file.name != "local-issuer.key")


PLACES: Final = ("log", "answers", "metrics", "commands", "files while it runs", "files afterwards")


@pytest.mark.parametrize("place", PLACES)
async def test_no_secret_shows(evidence: Evidence, secrets: dict[str, str], place: str) -> None:
    assert len(evidence.found[place]) > 1000
    assert leaks(secrets, evidence.found[place]) == []


@pytest.mark.parametrize("place", ["log", "metrics", "commands"])
async def test_no_content_of_a_message_shows(evidence: Evidence, place: str) -> None:
    assert evidence.shows(place, PROMPT) == []


async def test_the_search_looked_where_something_is(evidence: Evidence) -> None:
    """The controls: what is no secret was found in each place, and the defects did strike."""
    struck = ["request.broken", "job.broken", "request.refused", "token.rejected", "key.created"]
    struck += ["cannot rotate for", "cannot call with"]

    assert evidence.shows("log", *struck) == struck
    assert evidence.shows("files while it runs", PROMPT)
    assert evidence.shows("answers", PROMPT, "your key is ***") == [PROMPT, "your key is ***"]
    assert evidence.shows("metrics", "tidegate_rejected_total")
    assert evidence.shows("commands", "env.METRICS_TOKEN")


# Configurations that do not load

MALFORMED: Final = (
    '{"metrics": {"token": "SECRET"',
    '{"metrics": {"token": ["SECRET"]}}',
    '{"metrics": {"tokne": "SECRET"}}',
    '{"metrics": "SECRET"}',
    '{"store": {"url": "postgresql://user:SECRET@db/"}}',
    '{"auth": {"jwt": {"issuers": [{"iss": "i", "aud": "a", "algorithms": ["HS256", "ES256"], "key": "SECRET"}]}}}',
    '{"auth": {"jwt": {"issuers": [{"iss": "i", "aud": "a", "algorithms": ["RS256"], "key": "SECRET"}]}}}',
    '{"providers": {"openai": {"keys": [{"name": "a", "value": "SECRET", "weight": -1}]}}}',
    '{"providers": {"openai": {"keys": ["SECRET"], "network_config": {"base_url": "https://u:SECRET@h"}}}}',
    '{"providers": {"openai": {"network_config": {"proxy_url": "ftp://u:SECRET@h"}}}}',
    '{"governance": {"virtual_keys": [{"name": "a", "value": "SECRET"}, {"name": "b", "value": "SECRET"}]}}',
)


@pytest.mark.parametrize("document", MALFORMED)
def test_a_configuration_that_does_not_load_is_not_quoted(
    tmp_path: Path, serves_nobody: None, document: str
) -> None:
    secret = f"sk-{chance.token_hex(24)}"
    (tmp_path / "tidegate.json").write_text(document.replace("SECRET", secret))
    cli = Cli(tmp_path, tmp_path / "bytecode", TIDEGATE_CONFIG="tidegate.json")

    results = [
        cli("serve"),
        cli("config", "check"),
        cli("config", "show"),
        cli("doctor"),
        cli("config", "check", "--json"),
    ]

    shown = "".join(result.stdout + result.stderr for result in results).encode()
    assert [result.returncode for result in results] == [3, 3, 3, 1, 3]
    assert leaks({"it": secret}, shown) == []
