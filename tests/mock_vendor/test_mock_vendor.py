"""The mock vendor as its clients see it: OpenAI's dialect, its own models, the journal, the control surface."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from mock_vendor.client import chat, playing, rule, until_busy, until_idle
from tidegate.mock_vendor import MockVendor, ScriptError

pytestmark = pytest.mark.anyio


async def test_an_answer_is_a_complete_chat_completion() -> None:
    async with playing() as (_, client):
        reply = await client.ask("echo", "Grüße, “you”")

    completion = ChatCompletion.model_validate_json(reply.body, strict=True)
    assert reply.status == 200
    assert reply.header("content-type") == "application/json"
    assert completion.choices[0].message.content == "Grüße, “you”"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == "echo"
    assert completion.system_fingerprint == "tidegate-mock"
    assert completion.usage is not None
    assert (
        completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    )


async def test_the_official_client_works_unchanged() -> None:
    async with (
        MockVendor.serve() as vendor,
        openai.AsyncOpenAI(base_url=f"{vendor.url}/v1", api_key="sk-1", max_retries=0) as client,
    ):
        completion = await client.chat.completions.create(
            model="gpt-anything",
            messages=[
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": "answer"},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "sec"}, {"type": "text", "text": "ond"}],
                },
            ],
        )
        models = [model.id async for model in client.models.list()]
        with pytest.raises(openai.InternalServerError) as failure:
            await client.chat.completions.create(model="fail", messages=[{"role": "user", "content": "hi"}])

    assert completion.choices[0].message.content == "second"
    assert models == ["echo", "slow", "flaky", "fail", "limited"]
    assert failure.value.status_code == 500
    assert failure.value.type == "server_error"


async def test_a_client_retries_what_the_vendor_fails_twice() -> None:
    script = rule("gpt-4o", first=2, status=503, retry_after=0)
    async with (
        MockVendor.serve(script=script) as vendor,
        openai.AsyncOpenAI(base_url=f"{vendor.url}/v1", api_key="sk-1", max_retries=2) as client,
    ):
        await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
        statuses = [call.status for call in vendor.calls()]

    assert statuses == [503, 503, 200]


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    ],
)
async def test_where_json_is_asked_for_the_echo_is_an_object(response_format: dict[str, Any]) -> None:
    async with playing() as (_, client):
        reply = await client.ask("echo", 'say "hi"', response_format=response_format)

    assert json.loads(reply.json["choices"][0]["message"]["content"]) == {"echo": 'say "hi"'}


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"{not json", None, "parse the JSON"),
        (b"", None, "parse the JSON"),
        (b'{"x":' + b"[" * 100_000, None, "parse the JSON"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "model", "model"),
        (b'{"model": "echo"}', "messages", "messages"),
        (b'{"model": "echo", "messages": []}', "messages", "messages"),
        (b'{"model": "echo", "messages": [{"role": "user", "content": 7}]}', None, "$.messages[0].content"),
        (chat("echo", stream=True), "stream", "stream"),
    ],
)
async def test_a_bad_request_is_refused_in_the_vendors_words(
    body: bytes, param: str | None, words: str
) -> None:
    async with playing() as (_, client):
        reply = await client.send("POST", "/v1/chat/completions", body)

    assert reply.status == 400
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert reply.json["error"]["param"] == param
    assert words in reply.json["error"]["message"]


async def test_a_bad_key_is_refused_without_being_shown() -> None:
    async with playing() as (vendor, client):
        reply = await client.ask("echo", key="bad-key-abcdefgh")
        journalled = vendor.calls()[0].headers["authorization"]

    assert reply.status == 401
    assert reply.json["error"]["code"] == "invalid_api_key"
    assert "abcd" not in reply.body.decode()
    assert journalled == "***efgh"


async def test_unknown_paths_are_refused_and_journalled() -> None:
    async with playing() as (vendor, client):
        reply = await client.send("POST", "/v1/v1/chat/completions", chat("echo"))
        wrong_method = await client.send("GET", "/v1/chat/completions")
        unknown_control = await client.send("POST", "/mock/calls")
        paths = [call.path for call in vendor.calls()]

    assert (reply.status, wrong_method.status, unknown_control.status) == (404, 404, 404)
    assert reply.json["error"]["code"] == "unknown_url"
    assert paths == ["/v1/v1/chat/completions", "/v1/chat/completions"]


async def test_the_model_limited_answers_429_beyond_its_rate() -> None:
    async with playing() as (_, client):
        replies = [await client.ask("limited") for _ in range(5)]

    refused = [reply for reply in replies if reply.status == 429]
    assert [reply.status for reply in replies[:3]] == [200, 200, 200]
    assert refused
    assert all(reply.header("retry-after") == "1" for reply in refused)
    assert refused[0].json["error"]["code"] == "rate_limit_exceeded"


async def test_the_model_flaky_fails_by_its_seed() -> None:
    async def statuses(seed: int) -> list[int]:
        async with playing(seed=seed) as (_, client):
            return [(await client.ask("flaky")).status for _ in range(40)]

    first, again, other = await statuses(7), await statuses(7), await statuses(8)

    assert first == again != other
    assert set(first) == {200, 503}


async def test_the_model_slow_takes_two_seconds() -> None:
    async with playing() as (vendor, client):
        await client.ask("slow")
        call = vendor.calls()[0]

    assert call.ended_at is not None
    assert 1.9 < (call.ended_at - call.at).total_seconds() < 4


async def test_the_journal_tells_what_was_asked_and_answered() -> None:
    body = chat("echo", user="u-1", metadata={"team": "search"})
    async with playing(keep_bodies=True) as (vendor, client):
        await client.send("POST", "/v1/chat/completions", body, key="sk-secret-9876")
        shown = (await client.send("GET", "/mock/calls?full=1")).json
        kept = vendor.calls()[0].body

    entry = shown["calls"][0]
    assert (shown["total"], shown["by_status"], shown["in_flight"], shown["hung_up"]) == (1, {"200": 1}, 0, 0)
    assert (entry["n"], entry["method"], entry["path"]) == (1, "POST", "/v1/chat/completions")
    assert (entry["model"], entry["user"], entry["metadata"]) == ("echo", "u-1", {"team": "search"})
    assert entry["headers"]["authorization"] == "***9876"
    assert entry["digest"] == hashlib.sha256(body).hexdigest()
    assert (entry["status"], entry["hung_up"], entry["hung_up_at"]) == (200, False, None)
    assert entry["usage"] == {"prompt_tokens": 2, "completion_tokens": 2}
    assert kept == body


async def test_the_journal_forgets_entries_but_not_totals() -> None:
    async with playing() as (vendor, client):
        await client.ask_often("echo", 1005)
        shown = (await client.send("GET", "/mock/calls")).json
        kept = vendor.calls()

    assert (shown["total"], shown["kept"]) == (1005, 1000)
    assert "calls" not in shown
    assert (kept[0].n, kept[-1].n) == (6, 1005)


async def test_the_journal_can_be_cleared() -> None:
    async with playing() as (vendor, client):
        await client.ask("fail")
        cleared = await client.send("DELETE", "/mock/calls")
        await client.ask("echo")
        totals, last = vendor.totals(), vendor.calls()

    assert cleared.json["total"] == 0
    assert (totals["total"], totals["by_status"]) == (1, {"200": 1})
    assert [call.n for call in last] == [2]


async def test_the_journal_file_has_a_line_per_ended_call_and_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    async with playing(journal=path) as (_, client):
        await client.ask("echo")
        await client.ask("fail", key="sk-very-secret-1111")
        lines_while_running = path.read_text().splitlines()
    async with playing(journal=path) as (_, client):
        await client.ask("echo")

    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines_while_running) == 2
    assert [entry["status"] for entry in entries] == [200, 500, 200]
    assert "very-secret" not in path.read_text()


async def test_a_script_is_replaced_while_the_vendor_runs() -> None:
    async with playing(rule("gpt-4o", status=500)) as (vendor, client):
        before = await client.ask("gpt-4o")
        replaced = await client.send(
            "PUT", "/mock/script", b'{"rules": [{"model": "gpt-4o", "status": 418}]}'
        )
        after = await client.ask("gpt-4o")
        refused = await client.send("PUT", "/mock/script", b'{"rulez": []}')
        unread = await client.send("PUT", "/mock/script", b"{")
        shown = await client.send("GET", "/mock/script")
        vendor.set_script(None)
        reset = await client.ask("gpt-4o")

    assert (before.status, replaced.status, after.status, reset.status) == (500, 200, 418, 200)
    assert (refused.status, unread.status) == (400, 400)
    assert "$.rulez is not known; did you mean rules?" in refused.json["error"]["message"]
    assert shown.json == {"rules": [{"model": "gpt-4o", "status": 418}]}


async def test_leaving_serve_cuts_open_calls_without_blaming_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with playing(rule(hang="before_headers")) as (vendor, client), client.asking("x") as reader:
        await until_busy(vendor)

    # The server is gone, yet the client is still there.
    assert reader.at_eof() or isinstance(reader.exception(), ConnectionError)
    assert vendor.in_flight == 0
    assert vendor.calls()[0].hung_up is False
    assert [record.message for record in caplog.records if record.name.startswith("uvicorn")] == []


async def test_a_bad_script_is_refused_before_listening() -> None:
    with pytest.raises(ScriptError, match="did you mean latency"):
        async with playing(rule(latencey=1)):
            pass


async def test_a_hang_up_is_journalled_with_its_time() -> None:
    async with playing(rule("x", latency=30)) as (vendor, client):
        async with client.asking("x"):
            await until_busy(vendor)
        await until_idle(vendor)
        call, totals = vendor.calls()[0], vendor.totals()

    assert call.hung_up_at is not None
    assert call.hung_up_at >= call.at
    assert (call.status, call.usage) == (None, None)
    assert (totals["hung_up"], totals["by_status"]) == (1, {})
