"""A real model in a real process: fetched by pinned hash, asked through the official client, stopped by a signal."""

import json
import signal
import socket
import time

import openai
import pytest

from support.local_model import running, url_of
from tidegate.local_model import MODEL_NAME, is_installed

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


pytestmark = pytest.mark.usefixtures("local_model_weights")


def test_the_extra_is_installed() -> None:
    assert is_installed()


def test_an_answer_that_must_follow_a_schema_does() -> None:
    with running() as process:
        with openai.OpenAI(base_url=url_of(process), api_key="none", max_retries=0, timeout=30) as client:
            models = [model.id for model in client.models.list()]
            completion = client.chat.completions.create(
                model=MODEL_NAME,
                messages=[{"role": "user", "content": "Describe a person named Ada, aged 36, as JSON."}],
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "person", "strict": True, "schema": PERSON},
                },
                max_tokens=60,
                temperature=0,
                seed=1,
            )
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=5)

    person = json.loads(completion.choices[0].message.content or "")
    assert models == [MODEL_NAME]
    assert completion.model == MODEL_NAME
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.completion_tokens > 0
    assert set(person) == {"name", "age"}
    assert isinstance(person["name"], str)
    assert isinstance(person["age"], int)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_signal_stops_it_at_once_in_the_middle_of_an_answer() -> None:
    with running(is_verbose=True) as process:
        address = url_of(process).removeprefix("http://").removesuffix("/v1").split(":")
        body = json.dumps(
            {
                "messages": [{"role": "user", "content": "Tell me a long story."}],
                "max_tokens": 1500,
                "stream": True,
                "ignore_eos": True,
            }
        ).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        with socket.create_connection((address[0], int(address[1])), timeout=30) as connection:
            connection.sendall(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
            first = connection.recv(4096)
            start = time.perf_counter()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
            took = time.perf_counter() - start

    assert first.startswith(b"HTTP/1.1 200")
    assert took < 2
    assert process.returncode == 0
    assert "Traceback" not in err
    # With -v the server's own words come through.
    assert "model loaded" in err


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(port=port) as process:
            out, err = process.communicate(timeout=20)

    assert process.returncode == 1
    assert out == ""
    assert err == f"port {port} on 127.0.0.1 is in use; choose another one\n"
