"""The key of a call does not come back with the reply, and nothing else is touched (security.md T10)."""

from collections.abc import Mapping

import pytest

from support.transports import KEY, LONG, a_call, opened, replied, saying
from support.upstream_server import head, serving
from tidegate.domain.inference import Credential, HttpReply
from tidegate.domain.secret import Secret

pytestmark = pytest.mark.anyio


async def reply_to(
    key: str, body: str, header: str = "x-said: nothing", *, name: str = "Bearer "
) -> HttpReply:
    """What a vendor's words become on a call with this key."""
    said = head(header, f"content-length: {len(body.encode())}") + body.encode()
    async with serving(saying(said)) as upstream, opened() as transport:
        credential = Credential(upstream.url(""), "authorization", Secret(f"{name}{key}"))
        return await replied(transport.send(a_call(upstream.url(), credential=credential), time_limit=LONG))


@pytest.mark.parametrize("name", ["Bearer ", ""], ids=["bearer", "bare"])
async def test_the_key_is_masked_wherever_the_reply_repeats_it(name: str) -> None:
    body = f'{{"a": "{KEY}", "b": "x{KEY}y{KEY}"}}'

    reply = await reply_to(KEY, body, f"x-said: <{KEY}>", name=name)

    assert reply.body == b'{"a": "***", "b": "x***y***"}'
    assert reply.headers["x-said"] == "<***>"


async def test_a_reply_that_does_not_repeat_it_stays_as_it_is() -> None:
    body = '{"a": "Bearer sk-somebody-elses-0123456789", "key": "é"}'

    reply = await reply_to(KEY, body, "x-said: Bearer")

    assert reply.body == body.encode()
    assert reply.headers["x-said"] == "Bearer"


@pytest.mark.parametrize("key", ["EMPTY", "ollama", "none", "x", "a-key-of-19-letters"])
async def test_a_word_that_stands_for_no_key_is_a_word(key: str) -> None:
    """Self-hosted servers are called with keys such as these; their answers may hold them."""
    said: Mapping[str, str] = (await reply_to(key, f'{{"text": "{key}"}}', f"x-said: {key}")).headers

    assert said["x-said"] == key
    assert (await reply_to(key, key)).body == key.encode()
