"""Rules for every route (contract §2.6): paths, methods, bodies, headers; the front guard of security.md §8."""

import asyncio
import gzip
import json
import re
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from api.minting import admin_token
from api.raw import exchange, request
from api.refusals import assert_common_headers, assert_refused
from api.world import bearer, config_of
from support.gateway import CHAT, KEY, RunningGateway, chat, running
from tidegate.mock_vendor import MockVendor

pytestmark = pytest.mark.anyio

BODY = json.dumps(chat()).encode()
AUTH = f"Authorization: Bearer {KEY}"
JOB = "/v1/async/jobs/019cadd4-663b-7c7e-b323-ca2bfd566729"


class TestPaths:
    @pytest.mark.parametrize(
        "target",
        [
            "/",
            "/healthz/",
            "//healthz",
            "/healthz//",
            "/./healthz",
            "/x/../healthz",
            "/healthz/.",
            "/healthz/..",
            "/HEALTHZ",
            "/Healthz",
            "/health%7a",
            "/%68ealthz",
            "/healthz;x=1",
            "/healthz%20",
            "/healthz%00",
            "/healthz%2f",
            "/healthz%3fx",
            "/healthz\\",
            "/v1/async/chat/completions/",
            "/v1//async/chat/completions",
            "/v1/async/chat%2fcompletions",
            "/v1/async/Chat/completions",
            "/v1/async/../async/chat/completions",
            "/v1/async/jobs/",
            "/v1/async/jobs/.",
            "/v1/async/jobs/..",
            "/v1/async/jobs//cancel",
            "/v1/async/jobs/../cancel",
            "/v1/async/jobs/a/b/cancel",
            f"{JOB}/",
            f"{JOB}/cancel/",
            f"{JOB}/Cancel",
            f"{JOB}/events",
            f"{JOB};x=1",
            f"{JOB}/cancel;x",
            "/v1/async/jobs/a%zz",
            "/v1/async/jobs/a@b",
            "/v1/async/jobs/a,b",
            "/api/governance/virtual-keys/",
            "/api/governance/virtual-keys/../virtual-keys",
            "/openapi.json/",
            "/docs/",
            "/docs/other.js",
            "/docs/../openapi.json",
            "/v1/async/embeddings",
            "/openai/v1/chat/completions",
            "*",
        ],
    )
    async def test_26_paths_match_exactly(self, gateway: RunningGateway, target: str) -> None:
        response = await exchange(gateway.url, request(target, AUTH))

        assert_refused(response, "route_not_found", "no such route", extra={})

    @pytest.mark.parametrize(
        "id_", ["a%2Fb", "%2e%2e", "%2E", "a:b", "~", "a.b", "%41", "%F0%9F%8C%8A", "-" * 500]
    )
    async def test_44_whatever_else_stands_for_an_id_is_no_job(
        self, gateway: RunningGateway, id_: str
    ) -> None:
        """Nothing is decoded: ``%2F`` is no slash and ``%2e%2e`` leads nowhere."""
        for path in (f"{CHAT}/{id_}", f"/v1/async/jobs/{id_}"):
            assert_refused(await exchange(gateway.url, request(path, AUTH)), "job_not_found")

    @pytest.mark.parametrize("target", ["/healthz?x=1", "/healthz?", "/openapi.json?v=2"])
    async def test_26_a_query_is_no_part_of_the_path(self, gateway: RunningGateway, target: str) -> None:
        assert (await exchange(gateway.url, request(target))).status_code == 200


class TestMethods:
    @pytest.mark.parametrize(
        ("path", "allowed"),
        [
            (CHAT, "POST"),
            (f"{CHAT}/x", "GET, HEAD"),
            ("/v1/async/jobs", "GET, HEAD"),
            (JOB, "GET, HEAD"),
            (f"{JOB}/cancel", "POST"),
            ("/api/governance/virtual-keys", "GET, POST, HEAD"),
            ("/api/governance/virtual-keys/x", "DELETE, GET, PUT, HEAD"),
            ("/api/governance/virtual-keys/x/rotate", "POST"),
            ("/health", "GET, HEAD"),
            ("/metrics", "GET, HEAD"),
            ("/openapi.json", "GET, HEAD"),
            ("/docs", "GET, HEAD"),
        ],
    )
    @pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "TRACE", "PROPFIND"])
    async def test_26_another_method_is_405_with_allow(
        self, gateway: RunningGateway, method: str, path: str, allowed: str
    ) -> None:
        response = await exchange(gateway.url, request(path, method=method))

        assert_refused(response, "method_not_allowed", f"method {method} is not allowed here")
        assert response.headers["allow"] == allowed

    async def test_26_head_is_get_without_the_body(self, gateway: RunningGateway) -> None:
        job_id = (await gateway.run())["id"]
        for path in (
            f"{CHAT}/{job_id}",
            f"/v1/async/jobs/{job_id}",
            "/v1/async/jobs",
            "/openapi.json",
            "/docs",
        ):
            got = await gateway.client.get(path, headers=bearer() | {"x-request-id": "1"})
            head = await gateway.client.head(path, headers=bearer() | {"x-request-id": "1"})

            assert head.content == b""
            assert head.status_code == got.status_code == 200
            assert {**head.headers, "date": ""} == {**got.headers, "date": ""}

    async def test_26_head_of_what_is_not_there(self, gateway: RunningGateway) -> None:
        missing = await gateway.client.head(f"{CHAT}/x", headers=bearer())
        nothing = await gateway.client.head("/nope")
        submit = await gateway.client.head(CHAT)

        assert [answer.status_code for answer in (missing, nothing, submit)] == [404, 404, 405]
        assert missing.content == nothing.content == submit.content == b""


class TestBodies:
    @pytest.mark.parametrize(
        "content_type",
        [
            "application/json",
            "application/x-www-form-urlencoded",
            "text/plain",
            "multipart/form-data",
            "x",
            None,
        ],
    )
    async def test_26_json_is_parsed_whatever_its_content_type(
        self, gateway: RunningGateway, content_type: str | None
    ) -> None:
        headers = bearer() | ({"content-type": content_type} if content_type else {})

        response = await gateway.client.post(CHAT, content=BODY, headers=headers)

        assert response.status_code == 202

    @pytest.mark.parametrize(
        ("encoding", "body"),
        [
            ("gzip", gzip.compress(BODY)),
            ("GZIP", gzip.compress(BODY)),
            ("x-gzip", gzip.compress(BODY)),
            ("deflate", zlib.compress(BODY)),
            ("identity", BODY),
            ("", BODY),
        ],
    )
    async def test_26_encodings_that_are_accepted(
        self, gateway: RunningGateway, encoding: str, body: bytes
    ) -> None:
        response = await gateway.client.post(
            CHAT, content=body, headers=bearer() | {"content-encoding": encoding}
        )

        assert response.status_code == 202, response.text

    @pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "identity, gzip", "*"])
    async def test_26_other_encodings_are_415(self, gateway: RunningGateway, encoding: str) -> None:
        response = await gateway.client.post(
            CHAT, content=BODY, headers=bearer() | {"content-encoding": encoding}
        )

        assert_refused(response, "unsupported_content_encoding", param="content-encoding")

    async def test_26_the_limit_is_inclusive(self, vendor: MockVendor, tmp_path: Path) -> None:
        config = config_of(tmp_path, vendor) | {"client": {"max_request_body_size_mb": 1}}
        limit = 2**20
        async with running(tmp_path, config) as gateway:

            async def status(size: int, *, packed: bool) -> int:
                body = BODY + b" " * (size - len(BODY))
                headers = bearer() | ({"content-encoding": "gzip"} if packed else {})
                content = gzip.compress(body) if packed else body
                return (await gateway.client.post(CHAT, content=content, headers=headers)).status_code

            assert await status(limit, packed=False) == 202
            assert await status(limit, packed=True) == 202
            assert await status(limit + 1, packed=True) == 413

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            (b"", "malformed JSON at byte 0"),
            (b"{", "malformed JSON at byte 1"),
            (b'{"a":1}x', "malformed JSON at byte 8"),
            (b"{'a':1}", "malformed JSON at byte 1"),
            (b'{"a":NaN}', "malformed JSON at byte 5"),
            (b'{"a":Infinity}', "malformed JSON at byte 5"),
            (b'{"a":-Infinity}', "malformed JSON at byte 6"),
            (b'{"a":"\\ud800"}', "malformed JSON at byte 14"),
            (b'{"a":"\\udc00\\ud800"}', "malformed JSON at byte 12"),
            (b'{"a":1e999}', "malformed JSON: a number is out of range"),
            (b'{"a":01}', "malformed JSON at byte 6"),
            (b'{"a":"\x00"}', "malformed JSON at byte 6"),
            (b'{"a":"\xff"}', "malformed JSON at byte 6: not UTF-8"),
            (b"\xef\xbb\xbf{}", "malformed JSON at byte 0"),
            ('{"a":1}'.encode("utf-16"), "malformed JSON at byte 0"),
            (b"[" * 129 + b"]" * 129, "too complex: nested deeper than 128 levels"),
            (b'{"a":' * 129 + b"1" + b"}" * 129, "too complex: nested deeper than 128 levels"),
            (b"[" * 100_000, "too complex: nested deeper than 128 levels"),
            (b"[" + b"1," * 150_000 + b"1]", "too complex: more than 100000 members and items"),
            (b"[" + b"[]," * 150_000 + b"1]", "too complex: more than 100000 members and items"),
            (b"[" + b'"",' * 150_000 + b"1]", "too complex: more than 100000 members and items"),
            (b"[" + b'",\\"",' * 150_000 + b"1]", "too complex: more than 100000 members and items"),
            (b"{" + b'"a":1,' * 150_000 + b'"a":1}', "too complex: more than 100000 members and items"),
        ],
        ids=lambda value: repr(value)[:30],
    )
    async def test_26_json_that_is_refused(self, gateway: RunningGateway, body: bytes, problem: str) -> None:
        response = await gateway.client.post(CHAT, content=body, headers=bearer())

        assert_refused(response, "invalid_json", f"invalid request format: {problem}")

    @pytest.mark.parametrize(
        "text",
        [
            "a, b [c] {d} " * 100_000,
            '\\",[{' * 100_000,
            ",[{" * 100_000 + "\\\\",
            "\\\\" * 200_000 + ",[{" * 100_000,
            "\\u0022," * 150_000,
        ],
        ids=[
            "commas and brackets", "escaped quotes", "a backslash at the end", "backslashes", "escapes",
        ],
    )  # fmt: skip
    async def test_26_text_of_any_kind_is_not_complex(self, gateway: RunningGateway, text: str) -> None:
        """What looks like structure inside a string is only text."""
        body = BODY.replace(b"hello", text.encode())

        assert (await gateway.client.post(CHAT, content=body, headers=bearer())).status_code == 202

    async def test_26_depth_of_128_and_many_members_are_accepted(self, gateway: RunningGateway) -> None:
        deep: Any = 1
        for _ in range(126):
            deep = [deep]
        wide = [{"role": "user", "content": "x, [y]"}] * 20_000

        assert (await gateway.submit(chat(mystery=deep))).status_code == 202
        assert (await gateway.submit(chat(messages=wide))).status_code == 202

    @pytest.mark.parametrize("item", [b"[],", b'"",', b'{"":1},', b'",",'], ids=repr)
    async def test_6_a_body_made_to_block_the_server_does_not(
        self, gateway: RunningGateway, item: bytes
    ) -> None:
        """Built naively, 15 MiB of empty lists hold everybody else up for seconds."""
        body = b"[" + item * (15 * 2**20 // len(item)) + b"1]"
        attack = asyncio.create_task(gateway.client.post(CHAT, content=body, headers=bearer()))
        longest = 0.0
        while not attack.done():
            asked_at = time.monotonic()
            assert (await gateway.client.get("/healthz")).status_code == 200
            longest = max(longest, time.monotonic() - asked_at)

        assert_refused(await attack, "invalid_json")
        assert longest < 1

    @pytest.mark.parametrize("text", ["\\u0000", "\\ud83c\\udf0a", "é", "\u2028", "<script>"])
    async def test_26_every_character_of_a_string_survives(self, gateway: RunningGateway, text: str) -> None:
        body = BODY.replace(b"hello", text.encode())
        job_id = (await gateway.client.post(CHAT, content=body, headers=bearer())).json()["id"]

        content = (await gateway.ended(job_id))["result"]["choices"][0]["message"]["content"]

        assert content == json.loads(f'"{text}"')


class TestHeaders:
    @pytest.mark.parametrize("id_", ["a", "A-1._:z", "x" * 128, "019cadd4-6624-7407-9367-3ac85c84bdcd"])
    async def test_26_a_request_id_is_kept(self, gateway: RunningGateway, id_: str) -> None:
        for path in ("/healthz", "/nope", f"{CHAT}/x"):
            response = await gateway.client.get(path, headers={"x-request-id": id_})
            assert response.headers["x-request-id"] == id_

    @pytest.mark.parametrize("id_", ["", "x" * 129, "a b", "a/b", "a\tb", "\xe9", "<x>", '"'])
    async def test_26_another_is_replaced_by_a_uuid7(self, gateway: RunningGateway, id_: str) -> None:
        raw_id = f"x-request-id: {id_}"

        response = await exchange(gateway.url, request("/healthz", raw_id))

        uuid7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
        assert re.fullmatch(uuid7, response.headers["x-request-id"])

    async def test_26_answers_with_job_data_are_not_stored(self, gateway: RunningGateway) -> None:
        submitted = await gateway.submit()
        job_id = submitted.json()["id"]
        await gateway.ended(job_id)
        etag = {"if-none-match": (await gateway.poll(job_id)).headers["etag"]}
        answers = [
            submitted,
            await gateway.poll(job_id),
            await gateway.poll(job_id, etag),
            await gateway.client.get(f"/v1/async/jobs/{job_id}", headers=bearer()),
            await gateway.client.get("/v1/async/jobs", headers=bearer()),
            await gateway.client.get("/api/governance/virtual-keys", headers=bearer(admin_token())),
        ]

        for response in answers:
            assert response.headers["cache-control"] == "no-store"
            assert_common_headers(response)

    async def test_26_answers_are_json(self, gateway: RunningGateway) -> None:
        for response in (await gateway.submit(), await gateway.client.get("/nope")):
            assert response.headers["content-type"] == "application/json"

    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:99", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080"]
    )
    async def test_8_a_loopback_gateway_answers_to_loopback_names(
        self, gateway: RunningGateway, host: str
    ) -> None:
        assert (await exchange(gateway.url, request("/healthz", host=host))).status_code == 200

    @pytest.mark.parametrize(
        "host",
        ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "[::2]", "localhost.", "x localhost"],
    )
    async def test_8_and_to_no_other(self, gateway: RunningGateway, host: str) -> None:
        response = await exchange(gateway.url, request("/healthz", host=host))

        assert_refused(response, "host_not_allowed", "host is not allowed")

    async def test_8_allowed_hosts_replace_the_loopback_names(
        self, vendor: MockVendor, tmp_path: Path
    ) -> None:
        config = config_of(tmp_path, vendor)
        config["server"]["allowed_hosts"] = ["Gateway.Example"]
        async with running(tmp_path, config) as gateway:
            ours = await exchange(gateway.url, request("/healthz", host="gateway.example:443"))
            other = await exchange(gateway.url, request("/healthz", host="localhost"))

        assert ours.status_code == 200
        assert_refused(other, "host_not_allowed")

    async def test_8_an_unknown_upgrade_is_ignored(self, gateway: RunningGateway) -> None:
        head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nUpgrade: magic\r\n\r\n"

        assert (await exchange(gateway.url, head)).status_code == 200
