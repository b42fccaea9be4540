"""Requests as bytes, made once and sent many times."""

import json
from collections.abc import Mapping
from typing import Final

CHAT: Final = "/v1/async/chat/completions"
KEY: Final = "sk-bf-" + "k" * 43
HOST: Final = "127.0.0.1"
WORDS: Final = "High water at Dover comes about eleven hours after the moon has crossed the meridian. "

Header = Mapping[str, str]


def chat_body(size: int, model: str = "openai/echo") -> bytes:
    """A chat request of exactly ``size`` bytes, or of the least possible if that is more."""
    empty = _chat(model, "")
    missing = max(0, size - len(empty))
    return _chat(model, (WORDS * (missing // len(WORDS) + 1))[:missing])


def _chat(model: str, text: str) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0.5}
    return json.dumps(body, separators=(",", ":")).encode()


def submit(body: bytes, **more: str) -> bytes:
    """A submit as an SDK sends it. ``more`` are further headers, underscores for dashes."""
    return post(CHAT, body, {"authorization": f"Bearer {KEY}", **_named(more)})


def poll(job_id: str) -> bytes:
    return get(f"{CHAT}/{job_id}", {"authorization": f"Bearer {KEY}"})


def get(path: str, headers: Header) -> bytes:
    return _request("GET", path, headers, b"")


def post(path: str, body: bytes, headers: Header) -> bytes:
    facts = {"content-type": "application/json", "content-length": str(len(body))}
    return _request("POST", path, {**facts, **headers}, body)


def _named(headers: Header) -> Header:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _request(method: str, path: str, headers: Header, body: bytes) -> bytes:
    usual = {"host": HOST, "accept": "application/json", "user-agent": "tidegate-bench/1"}
    lines = [
        f"{method} {path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in {**usual, **headers}.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
