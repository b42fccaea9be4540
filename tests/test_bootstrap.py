"""What a start refuses although every setting is well formed."""

from pathlib import Path

import pytest

from support.gateway import configuration, provider, running
from tidegate.configured import ConfigurationRefused

pytestmark = pytest.mark.anyio

METADATA = "http://169.254.169.254"


async def refusal(tmp_path: Path, **sections: object) -> str:
    with pytest.raises(ConfigurationRefused) as refused:
        async with running(tmp_path, configuration(tmp_path, "http://127.0.0.1:1", **sections)):
            pytest.fail("the gateway started")
    return str(refused.value)


async def test_a_provider_at_the_clouds_metadata_service(tmp_path: Path) -> None:
    said = await refusal(tmp_path, providers={"openai": provider(METADATA)})

    assert said.startswith("providers.openai.network_config: a link-local address")


async def test_a_certificate_file_without_a_certificate(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("nothing here")
    network = {"base_url": "https://llm.example", "ca_cert": str(empty)}

    said = await refusal(tmp_path, providers={"openai": provider("", network_config=network)})

    assert said == f"providers.openai.network_config: {empty} holds no certificate"


async def test_a_key_set_on_the_local_link(tmp_path: Path) -> None:
    issuer = {
        "iss": "https://id.example",
        "aud": "tidegate",
        "algorithms": ["RS256"],
        "jwks_url": "https://169.254.1.1/keys",
    }

    said = await refusal(tmp_path, auth={"jwt": {"issuers": [issuer]}})

    assert said.startswith("auth.jwt.issuers: jwks_url of https://id.example: a link-local address")
