"""The rows: every vendor listens where its own documentation says, and says no more than it must."""

from urllib.parse import urlsplit

import msgspec
import pytest

from tidegate.domain.inference import HttpCall, InferenceRequest, ProviderKey, RequestType, Target
from tidegate.domain.secret import Secret
from tidegate.providers import VENDORS, Vendor, provider_for
from tidegate.providers.vendors import KNOWN_MEMBERS, NOBODY_TAKES, ROWS

CHAT_URLS = {
    "openai": "https://api.openai.com/v1/chat/completions",
    "groq": "https://api.groq.com/openai/v1/chat/completions",
    "mistral": "https://api.mistral.ai/v1/chat/completions",
    "deepseek": "https://api.deepseek.com/chat/completions",
    "xai": "https://api.x.ai/v1/chat/completions",
    "openrouter": "https://openrouter.ai/api/v1/chat/completions",
    "together": "https://api.together.xyz/v1/chat/completions",
    "fireworks": "https://api.fireworks.ai/inference/v1/chat/completions",
    "cerebras": "https://api.cerebras.ai/v1/chat/completions",
    "perplexity": "https://api.perplexity.ai/chat/completions",
    "nvidia_nim": "https://integrate.api.nvidia.com/v1/chat/completions",
    "deepinfra": "https://api.deepinfra.com/v1/openai/chat/completions",
    "sambanova": "https://api.sambanova.ai/v1/chat/completions",
    "nebius": "https://api.studio.nebius.com/v1/chat/completions",
    "novita": "https://api.novita.ai/v3/openai/chat/completions",
    "hyperbolic": "https://api.hyperbolic.xyz/v1/chat/completions",
    "moonshot": "https://api.moonshot.ai/v1/chat/completions",
    "zai": "https://api.z.ai/api/paas/v4/chat/completions",
    "dashscope": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions",
    "minimax": "https://api.minimax.io/v1/chat/completions",
    "huggingface": "https://router.huggingface.co/v1/chat/completions",
    "github": "https://models.github.ai/inference/chat/completions",
    "ovhcloud": "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1/chat/completions",
    "vercel": "https://ai-gateway.vercel.sh/v1/chat/completions",
    "heroku": "https://us.inference.heroku.com/v1/chat/completions",
    "baseten": "https://inference.baseten.co/v1/chat/completions",
    "friendli": "https://api.friendli.ai/serverless/v1/chat/completions",
    "featherless": "https://api.featherless.ai/v1/chat/completions",
    "nscale": "https://inference.api.nscale.com/v1/chat/completions",
    "lambda": "https://api.lambda.ai/v1/chat/completions",
    "scaleway": "https://api.scaleway.ai/v1/chat/completions",
    "meta": "https://api.meta.ai/v1/chat/completions",
    "gemini-compat": "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
    "ollama": "http://127.0.0.1:11434/v1/chat/completions",
    "vllm": "http://127.0.0.1:8000/v1/chat/completions",
    "lmstudio": "http://127.0.0.1:1234/v1/chat/completions",
    "llamacpp": "http://127.0.0.1:8080/v1/chat/completions",
    "llamafile": "http://127.0.0.1:8080/v1/chat/completions",
    "sglang": "http://127.0.0.1:30000/v1/chat/completions",
    "local": "http://127.0.0.1:8089/v1/chat/completions",
    # The operator has to say where: a resource, an account, a mock server.
    "azure": "/openai/v1/chat/completions",
    "snowflake": "/api/v2/cortex/v1/chat/completions",
    "mock": "/v1/chat/completions",
}
every_vendor = pytest.mark.parametrize("vendor", ROWS, ids=[vendor.name for vendor in ROWS])


def test_the_registry_names_every_row_once() -> None:
    assert list(VENDORS) == [vendor.name for vendor in ROWS]
    assert VENDORS.keys() == CHAT_URLS.keys()


@every_vendor
def test_a_vendor_listens_where_it_says(vendor: Vendor) -> None:
    assert vendor.origin + vendor.chat_path == CHAT_URLS[vendor.name]


@every_vendor
def test_an_origin_is_scheme_and_host_only(vendor: Vendor) -> None:
    place = urlsplit(vendor.origin)

    assert (place.path, place.query, place.fragment) == ("", "", "")
    is_remote = place.scheme == "https" and "." in (place.hostname or "")
    is_here = place.scheme == "http" and place.hostname == "127.0.0.1" and place.port is not None
    assert is_remote or is_here or vendor.origin == ""


@every_vendor
def test_a_key_is_needed_exactly_where_somebody_else_pays(vendor: Vendor) -> None:
    is_ours = vendor.name == "mock" or vendor.origin.startswith("http://127.0.0.1")

    assert vendor.needs_key is not is_ours


@every_vendor
def test_a_variable_announces_only_a_vendor_that_needs_nothing_else(vendor: Vendor) -> None:
    assert (vendor.key_variable is not None) == (vendor.needs_key and vendor.origin != "")


def test_no_two_vendors_share_a_variable() -> None:
    variables = [vendor.key_variable for vendor in ROWS if vendor.key_variable]

    assert len(set(variables)) == len(variables)


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("openai", "OPENAI_API_KEY"),
        ("groq", "GROQ_API_KEY"),
        ("mistral", "MISTRAL_API_KEY"),
        ("deepseek", "DEEPSEEK_API_KEY"),
        ("xai", "XAI_API_KEY"),
        ("openrouter", "OPENROUTER_API_KEY"),
        ("together", "TOGETHER_API_KEY"),
        ("fireworks", "FIREWORKS_API_KEY"),
        ("cerebras", "CEREBRAS_API_KEY"),
        ("perplexity", "PERPLEXITY_API_KEY"),
        ("huggingface", "HF_TOKEN"),
        ("github", "GITHUB_API_KEY"),
        ("mock", None),
        ("local", None),
    ],
)
def test_the_usual_variable_is_known(name: str, variable: str | None) -> None:
    assert VENDORS[name].key_variable == variable


@every_vendor
def test_quirks_speak_of_members_that_exist(vendor: Vendor) -> None:
    assert NOBODY_TAKES <= vendor.quirks.drops <= KNOWN_MEMBERS
    assert vendor.quirks.renames.keys() <= KNOWN_MEMBERS - vendor.quirks.drops
    assert "messages" not in vendor.quirks.drops


def test_default_models_are_known_where_the_models_are_ours() -> None:
    named = {vendor.name: vendor.default_models for vendor in ROWS if vendor.default_models != ("*",)}

    assert named == {
        "local": ("smollm2-135m-instruct",),
        "mock": ("echo", "slow", "flaky", "fail", "limited"),
    }


def test_only_the_mock_is_simulated() -> None:
    assert [vendor.name for vendor in ROWS if vendor.is_simulated] == ["mock"]


def test_a_row_serves_under_another_name_and_origin() -> None:
    vendor = msgspec.structs.replace(VENDORS["vllm"], name="our-gpus", origin="http://10.0.0.7:8000")
    target = Target("our-gpus", "llama", vendor.origin, ProviderKey("1", "main", Secret("token")))

    call = provider_for(vendor).build(InferenceRequest(RequestType.CHAT_COMPLETION, {}, {}, ()), target)

    assert isinstance(call, HttpCall)
    assert (call.provider, call.url) == ("our-gpus", "http://10.0.0.7:8000/v1/chat/completions")
