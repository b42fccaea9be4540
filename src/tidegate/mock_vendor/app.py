"""The vendor itself as an ASGI application: the chat route, the list of models, and a control surface."""

import asyncio
from typing import Any, final

import msgspec
from msgspec import Struct

from tidegate.mock_vendor import dialect, replies
from tidegate.mock_vendor.clock import Chance, Now
from tidegate.mock_vendor.delivery import ClientLeft, Receive, Scope, Send, Wire, deliver
from tidegate.mock_vendor.dialect import BadRequest, ChatRequest
from tidegate.mock_vendor.journal import Call, Journal, RawHeaders
from tidegate.mock_vendor.replies import Reply
from tidegate.mock_vendor.rules import ActiveRule, Playbook, seconds_of
from tidegate.mock_vendor.script import Script, ScriptError, read_script


class Scene(Struct, frozen=True):
    """A call whose rule asks for more than an answer at once."""

    request: ChatRequest
    active: ActiveRule


@final
class MockApp:
    """Answers as the script says and writes every call down. ``/mock/…`` steers it and is not written down."""

    def __init__(self, script: Script, journal: Journal, chance: Chance, now: Now) -> None:
        self._playbook = Playbook(script)
        self._journal = journal
        self._chance = chance
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if body is None:
            return
        wire = Wire(scope, send)
        if scope["path"].startswith("/mock/"):
            await wire.whole(self._control(scope, body))
            return
        call = self._journal.begin(scope["method"], scope["path"], scope["headers"], body)
        try:
            reply = self._decide(call, body, _bearer_token(scope["headers"]))
            if isinstance(reply, Reply):
                await wire.whole(_noted(call, reply))
            else:
                await self._play(call, reply, wire)
        except ClientLeft:
            self._journal.note_hang_up(call)
        finally:
            self._journal.end(call)

    def _decide(self, call: Call, body: bytes, token: str) -> Reply | Scene:
        if token.startswith("bad-key"):
            return _refused(401, f"Incorrect API key provided: {call.headers['authorization']}.")
        if call.path == "/v1/chat/completions" and call.method == "POST":
            return self._chat(call, body, token)
        if call.path == "/v1/models" and call.method == "GET":
            return replies.plain(200, dialect.models(self._playbook.models(), self._now()))
        return _unknown(call.method, call.path)

    def _chat(self, call: Call, body: bytes, token: str) -> Reply | Scene:
        try:
            request = dialect.read_request(body)
        except BadRequest as error:
            return _refused(400, str(error), error.param)
        call.model, call.user, call.metadata = request.model, request.user, request.metadata
        active = self._playbook.choose(request.model, token)
        if active.is_plain:
            return replies.answered(200, replies.answer_to(request, active.rule, n=call.n, at=call.at))
        return Scene(request, active)

    async def _play(self, call: Call, scene: Scene, wire: Wire) -> None:
        active, rule = scene.active, scene.active.rule
        with active.running():
            if active.is_crowded:
                self._journal.note_over_limit(call)
            refusal = active.refusal(asyncio.get_running_loop().time())
            if refusal is not None:
                await wire.whole(_noted(call, replies.limited(rule, refusal)))
                return
            failed = rule.fail_rate is not None and self._chance.random() < rule.fail_rate
            latency = seconds_of(rule.latency, self._chance)
            if latency:
                await wire.pause(latency)
            answer = replies.answer_to(scene.request, rule, n=call.n, at=call.at)
            status = rule.fail_status if failed else rule.status
            reply = replies.scripted(rule, status, failed=failed, answer=answer)
            await deliver(wire, reply, rule, lambda: _noted(call, reply))

    def _control(self, scope: Scope, body: bytes) -> Reply:
        match scope["method"], scope["path"]:
            case "GET", "/mock/calls":
                return _json(self._journal.shown(full=b"full=1" in scope["query_string"].split(b"&")))
            case "DELETE", "/mock/calls":
                self._journal.clear()
                return _json(self._journal.shown(full=False))
            case "GET", "/mock/script":
                return _json(self._playbook.script)
            case "PUT", "/mock/script":
                return self._replace_script(body)
            case method, path:
                return _unknown(method, path)

    def _replace_script(self, body: bytes) -> Reply:
        try:
            self.play(read_script(msgspec.json.decode(body)))
        except (msgspec.DecodeError, ScriptError) as error:
            return _refused(400, str(error))
        return _json(self._playbook.script)

    def play(self, script: Script) -> None:
        """Follow ``script`` from the next call on, with fresh counts."""
        self._playbook = Playbook(script)


async def _read(receive: Receive) -> bytes | None:
    """The whole body; ``None`` when the client left before its end."""
    message = await receive()
    if not message.get("more_body"):
        return message.get("body")
    parts = [message["body"]]
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message["body"])
    return b"".join(parts)


def _noted(call: Call, reply: Reply) -> Reply:
    """The reply, about to go out under the number of its call."""
    reply.headers.append((b"x-request-id", b"req-mock-%d" % call.n))
    call.status = reply.status
    if reply.answer is not None:
        call.usage = reply.answer.usage
    return reply


def _bearer_token(headers: RawHeaders) -> str:
    for name, value in headers:
        if name == b"authorization":
            return value.decode("latin-1").removeprefix("Bearer ")
    return ""


def _refused(status: int, message: str, param: str | None = None) -> Reply:
    return replies.plain(status, dialect.error(status, message, param=param))


def _unknown(method: str, path: str) -> Reply:
    return replies.plain(404, dialect.error(404, f"Invalid URL ({method} {path})", code="unknown_url"))


def _json(value: Any) -> Reply:
    return replies.plain(200, dialect.encode(value))
