"""What the OpenAPI document says, held against the gateway by somebody who knows nothing but the document.

Requests are made up from it, good and bad ones, for every operation; ``TIDEGATE_EXAMPLES`` says how many.
"""

import asyncio
import os
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from api.minting import admin_token
from support.gateway import KEY, configuration
from support.processes import GatewayProcess, gateway_process

EXAMPLES: Final = int(os.environ.get("TIDEGATE_EXAMPLES", "25"))
NOWHERE: Final = "http://127.0.0.1:9"
CHECKS: Final = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
WITH_OUR_CREDENTIALS: Final = schemathesis.Config.from_dict(
    {"generation": {"with-security-parameters": False}}  # guessed ones are answered a second late
)
REFUSES: Final = [*CHECKS, checks.negative_data_rejection]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory = tmp_path_factory.mktemp("described")
    with gateway_process(directory, configuration(directory, NOWHERE)) as process:
        asyncio.run(process.start())
        yield process


def url_of(gateway: GatewayProcess) -> str:
    return f"http://127.0.0.1:{gateway.port}"


def attack(operation: Any, mode: GenerationMode, url: str, credential: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        headers = {"authorization": f"Bearer {credential}"} if credential else {}
        response = case.call(base_url=url, headers=headers, timeout=70)
        case.validate_response(response, checks=REFUSES if mode is GenerationMode.NEGATIVE else CHECKS)

    ask()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
@pytest.mark.parametrize("caller", ["an admin", "a key", "nobody"])
def test_every_answer_is_as_described(gateway: GatewayProcess, mode: GenerationMode, caller: str) -> None:
    credential = {"an admin": admin_token(), "a key": KEY, "nobody": ""}[caller]
    url = url_of(gateway)
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=WITH_OUR_CREDENTIALS)
    attacked = 0

    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        try:
            attack(result.ok(), mode, url, credential)
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, "with nothing to be sent, nothing can be wrong"
        else:
            attacked += 1

    assert attacked >= (15 if mode is GenerationMode.POSITIVE else 8)


def test_an_answer_that_is_not_described_is_noticed(gateway: GatewayProcess) -> None:
    """Otherwise the test above would be blind."""
    url = url_of(gateway)
    document = httpx2.get(f"{url}/openapi.json", trust_env=False).json()
    del document["paths"]["/v1/async/jobs"]["get"]["responses"]["401"]
    schema = schemathesis.openapi.from_dict(document, config=WITH_OUR_CREDENTIALS)

    with pytest.raises(FailureGroup, match="Undocumented status code"):
        attack(schema["/v1/async/jobs"]["GET"], GenerationMode.POSITIVE, url, "")
