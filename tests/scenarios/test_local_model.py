"""The whole way with a real model: submit, poll, and an answer that follows a JSON schema."""

import json
from pathlib import Path

import pytest

from support.gateway import configuration, running
from support.local_model import running as model_server
from support.local_model import url_of
from tidegate.local_model import MODEL_NAME

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("local_model_weights")]

TIDE = {
    "type": "object",
    "properties": {
        "harbour": {"type": "string", "maxLength": 20},
        "metres": {"type": "integer", "maximum": 20},
    },
    "required": ["harbour", "metres"],
    "additionalProperties": False,
}


async def test_a_real_model_answers_a_job(tmp_path: Path) -> None:
    with model_server() as process:
        origin = url_of(process).removesuffix("/v1")
        providers = {"local": {"network_config": {"base_url": origin}}}
        async with running(tmp_path, configuration(tmp_path, origin, providers=providers)) as gateway:
            request = {
                "model": f"local/{MODEL_NAME}",
                "messages": [{"role": "user", "content": "High water at Dover is 6 metres. As JSON?"}],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "tide", "strict": True, "schema": TIDE},
                },
                "max_completion_tokens": 60,
                "temperature": 0,
                "seed": 1,
            }

            job = await gateway.run(request)
            unknown = await gateway.submit({**request, "model": "local/gpt-4o"})

    assert job["status"] == "completed", job
    answer = json.loads(job["result"]["choices"][0]["message"]["content"])
    assert set(answer) == {"harbour", "metres"}
    assert isinstance(answer["metres"], int)
    assert job["result"]["usage"]["completion_tokens"] > 0
    assert job["result"]["extra_fields"]["resolved_model_used"] == MODEL_NAME
    assert "simulated" not in job["result"]["extra_fields"]
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "model_not_found")
    assert unknown.json()["error"]["message"] == 'model "gpt-4o" is not available at provider "local"'
