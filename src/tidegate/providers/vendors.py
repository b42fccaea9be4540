"""The vendors that speak OpenAI's dialect: a vendor without behaviour is a row of data."""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from tidegate.domain.failures import FailureCode

NOBODY_TAKES: Final = frozenset({"truncation"})
"""Known to the API, without a counterpart in any chat dialect."""
OWN_TO_OPENAI: Final = NOBODY_TAKES | {
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "store",
    "user",
}
"""What serves OpenAI's platform rather than the model; elsewhere it is left out unless a row allows it."""
KNOWN_MEMBERS: Final = OWN_TO_OPENAI | {
    "audio",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "messages",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "reasoning",
    "response_format",
    "seed",
    "service_tier",
    "stop",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "verbosity",
    "web_search_options",
}
"""Members of a chat request as the API names them; ``model`` stands in the target."""


class Quirks(Struct, frozen=True):
    """Where a vendor deviates from OpenAI; the defaults suit one of which we know nothing."""

    drops: frozenset[str] = OWN_TO_OPENAI
    """Members without a counterpart: left out and listed as dropped."""
    renames: Mapping[str, str] = {}
    """Members that go by another name."""
    reasoning: Literal["effort", "object", "thinking"] = "effort"
    """How thinking is asked for: ``reasoning_effort``, the object as it is, or ``thinking: {type}``."""
    replays: Mapping[str, str] = {}
    """Members of an assistant's earlier reply that may be sent back, and their names there."""
    nameless_roles: frozenset[str] = frozenset()
    """Roles whose messages must not have a ``name``."""
    keeps_developer: bool = False
    """Knows the role ``developer``; to the others it is sent as ``system``, which means the same."""
    keeps_cache_control: bool = False
    keeps_strict: bool = True
    """Takes ``strict`` in a function."""
    any_tool: str = "required"
    """Its word for the tool choice ``any``."""
    can_require_tools: bool = True
    parts: Literal["openai", "openrouter", "mistral"] = "openai"
    """How files and sound are attached."""
    refused_parts: frozenset[str] = frozenset()
    """Types of content part it cannot take."""
    failure_codes: Mapping[str, FailureCode] = {}
    """Its own numbers for what others say in words."""


class Vendor(Struct, frozen=True):
    """One row: where a vendor listens and how its dialect deviates."""

    name: str
    origin: str
    """Scheme and host; empty when only the operator can know it."""
    chat_path: str = "/v1/chat/completions"
    key_variable: str | None = None
    """The environment variable in which its users usually keep the key; none where a key is not enough."""
    needs_key: bool = True
    default_models: tuple[str, ...] = ("*",)
    """What a key without a model list of its own serves; a fixed list for vendors whose models we know."""
    key_header: str = "authorization"
    """Where the key travels: as a bearer token, or bare in a header of the vendor's own."""
    is_simulated: bool = False
    """Its answers are made up, and are marked so."""
    quirks: Quirks = Quirks()


_OLD_LIMIT: Final = {"max_completion_tokens": "max_tokens"}
_LIKE_OPENAI: Final = Quirks(drops=NOBODY_TAKES, keeps_developer=True)
_OLD_LIMIT_ONLY: Final = Quirks(renames=_OLD_LIMIT)
_ALL_ROLES: Final = frozenset({"assistant", "developer", "system", "tool", "user"})
_SENDS_BACK_REASONING: Final = {"reasoning": "reasoning"}
_SENDS_BACK_REASONING_CONTENT: Final = {"reasoning": "reasoning_content"}
_SENDS_BACK_DETAILS: Final = {"reasoning": "reasoning", "reasoning_details": "reasoning_details"}

_GROQ: Final = Quirks(
    # It refuses members it does not know, and three of its own schema: console.groq.com/docs/openai
    drops=OWN_TO_OPENAI - {"user"}
    | {"audio", "logit_bias", "logprobs", "modalities", "prediction", "top_logprobs"}
    | {"verbosity", "web_search_options"},
    replays=_SENDS_BACK_REASONING,
    nameless_roles=_ALL_ROLES,
    keeps_developer=True,
)
_MISTRAL: Final = Quirks(
    # Its schema is closed: whatever the SDK's ChatCompletionRequest does not have is answered with 422.
    drops=OWN_TO_OPENAI - {"metadata", "prompt_cache_key"}
    | {"audio", "logit_bias", "modalities", "verbosity", "web_search_options"},
    renames={**_OLD_LIMIT, "seed": "random_seed"},
    nameless_roles=_ALL_ROLES - {"tool"},
    any_tool="any",
    parts="mistral",
)
_DEEPSEEK: Final = Quirks(
    # It ignores what its schema does not have, max_completion_tokens too: api-docs.deepseek.com
    drops=OWN_TO_OPENAI
    | {"frequency_penalty", "logit_bias", "n", "parallel_tool_calls", "presence_penalty", "seed"}
    | {"service_tier"},
    renames=_OLD_LIMIT,
    reasoning="thinking",
    # With tools in play a missing reasoning_content is a 400: api-docs.deepseek.com/guides/thinking_mode
    replays=_SENDS_BACK_REASONING_CONTENT,
    refused_parts=frozenset({"file"}),
)
_XAI: Final = Quirks(
    # "Only messages of role 'user' can have a name."
    drops=OWN_TO_OPENAI - {"user"},
    nameless_roles=_ALL_ROLES - {"user"},
)
_OPENROUTER: Final = Quirks(
    drops=OWN_TO_OPENAI - {"metadata", "prompt_cache_key", "user"},
    reasoning="object",
    replays={**_SENDS_BACK_DETAILS, "annotations": "annotations"},
    keeps_developer=True,
    keeps_cache_control=True,
    parts="openrouter",
)
_CEREBRAS: Final = Quirks(
    drops=OWN_TO_OPENAI - {"prompt_cache_key", "user"},
    replays=_SENDS_BACK_REASONING,
    keeps_developer=True,
)
_PERPLEXITY: Final = Quirks(
    drops=OWN_TO_OPENAI | {"parallel_tool_calls", "tool_choice", "tools"}, renames=_OLD_LIMIT
)
_MOONSHOT: Final = Quirks(
    drops=OWN_TO_OPENAI - {"prompt_cache_key", "safety_identifier"},
    renames=_OLD_LIMIT,
    # It refuses reasoning_effort "none": platform.kimi.ai/docs/guide/use-thinking-models
    reasoning="thinking",
    replays=_SENDS_BACK_REASONING_CONTENT,
    keeps_strict=False,
    can_require_tools=False,
)
_ZAI: Final = Quirks(
    renames=_OLD_LIMIT,
    reasoning="thinking",
    replays=_SENDS_BACK_REASONING_CONTENT,
    # docs.z.ai/api-reference/api-code: locked and empty accounts are answered with 429
    failure_codes={
        "1112": FailureCode.KEY_REFUSED,
        "1113": FailureCode.KEY_REFUSED,
        "1121": FailureCode.KEY_REFUSED,
        "1309": FailureCode.KEY_REFUSED,
        "1211": FailureCode.MODEL_NOT_FOUND,
        "1261": FailureCode.CONTEXT_LENGTH_EXCEEDED,
        "1301": FailureCode.CONTENT_POLICY_VIOLATION,
    },
)
_MOCK: Final = Quirks(
    drops=NOBODY_TAKES,
    replays={**_SENDS_BACK_DETAILS, "annotations": "annotations"},
    keeps_developer=True,
    keeps_cache_control=True,
)


def _hosted(
    name: str, origin: str, key_variable: str, quirks: Quirks = _OLD_LIMIT_ONLY, *, base: str = "/v1"
) -> Vendor:
    return Vendor(name, origin, f"{base}/chat/completions", key_variable, quirks=quirks)


def _self_hosted(name: str, port: int, quirks: Quirks = _OLD_LIMIT_ONLY) -> Vendor:
    """A server of the operator's own. A key is optional, so no variable announces that it exists."""
    return Vendor(name, f"http://127.0.0.1:{port}", needs_key=False, quirks=quirks)


ROWS: Final = (
    _hosted("openai", "https://api.openai.com", "OPENAI_API_KEY", _LIKE_OPENAI),
    Vendor(
        # The v1 API of a resource: https://<resource>.openai.azure.com or .services.ai.azure.com
        "azure",
        "",
        "/openai/v1/chat/completions",
        key_header="api-key",
        quirks=_LIKE_OPENAI,
    ),
    _hosted("groq", "https://api.groq.com", "GROQ_API_KEY", _GROQ, base="/openai/v1"),
    _hosted("mistral", "https://api.mistral.ai", "MISTRAL_API_KEY", _MISTRAL),
    _hosted("deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY", _DEEPSEEK, base=""),
    _hosted("xai", "https://api.x.ai", "XAI_API_KEY", _XAI),
    _hosted("openrouter", "https://openrouter.ai", "OPENROUTER_API_KEY", _OPENROUTER, base="/api/v1"),
    _hosted("together", "https://api.together.xyz", "TOGETHER_API_KEY"),
    _hosted(
        "fireworks",
        "https://api.fireworks.ai",
        "FIREWORKS_API_KEY",
        Quirks(drops=OWN_TO_OPENAI - {"user"}, renames=_OLD_LIMIT, replays=_SENDS_BACK_REASONING_CONTENT),
        base="/inference/v1",
    ),
    _hosted("cerebras", "https://api.cerebras.ai", "CEREBRAS_API_KEY", _CEREBRAS),
    _hosted("perplexity", "https://api.perplexity.ai", "PERPLEXITY_API_KEY", _PERPLEXITY, base=""),
    _hosted("nvidia_nim", "https://integrate.api.nvidia.com", "NVIDIA_API_KEY"),
    _hosted("deepinfra", "https://api.deepinfra.com", "DEEPINFRA_API_KEY", base="/v1/openai"),
    _hosted("sambanova", "https://api.sambanova.ai", "SAMBANOVA_API_KEY"),
    _hosted("nebius", "https://api.studio.nebius.com", "NEBIUS_API_KEY"),
    _hosted("novita", "https://api.novita.ai", "NOVITA_API_KEY", base="/v3/openai"),
    _hosted("hyperbolic", "https://api.hyperbolic.xyz", "HYPERBOLIC_API_KEY"),
    _hosted("moonshot", "https://api.moonshot.ai", "MOONSHOT_API_KEY", _MOONSHOT),
    _hosted("zai", "https://api.z.ai", "ZAI_API_KEY", _ZAI, base="/api/paas/v4"),
    _hosted(
        "dashscope",
        "https://dashscope-intl.aliyuncs.com",
        "DASHSCOPE_API_KEY",
        Quirks(renames=_OLD_LIMIT, keeps_cache_control=True, refused_parts=frozenset({"file"})),
        base="/compatible-mode/v1",
    ),
    _hosted("minimax", "https://api.minimax.io", "MINIMAX_API_KEY", Quirks()),
    _hosted("huggingface", "https://router.huggingface.co", "HF_TOKEN"),
    # Not GITHUB_TOKEN: every CI job has one, and having it does not mean wanting a model from it.
    _hosted("github", "https://models.github.ai", "GITHUB_API_KEY", base="/inference"),
    _hosted("ovhcloud", "https://oai.endpoints.kepler.ai.cloud.ovh.net", "OVHCLOUD_API_KEY"),
    _hosted(
        "vercel",
        "https://ai-gateway.vercel.sh",
        "AI_GATEWAY_API_KEY",
        Quirks(renames=_OLD_LIMIT, reasoning="object", replays=_SENDS_BACK_DETAILS),
    ),
    _hosted("heroku", "https://us.inference.heroku.com", "HEROKU_INFERENCE_KEY"),
    _hosted("baseten", "https://inference.baseten.co", "BASETEN_API_KEY"),
    _hosted("friendli", "https://api.friendli.ai", "FRIENDLI_TOKEN", base="/serverless/v1"),
    _hosted("featherless", "https://api.featherless.ai", "FEATHERLESS_API_KEY"),
    _hosted("nscale", "https://inference.api.nscale.com", "NSCALE_API_KEY"),
    _hosted("lambda", "https://api.lambda.ai", "LAMBDA_API_KEY"),
    _hosted("scaleway", "https://api.scaleway.ai", "SCW_SECRET_KEY"),
    _hosted("meta", "https://api.meta.ai", "META_API_KEY", Quirks()),
    Vendor(
        # The account is part of the host: https://<account>.snowflakecomputing.com
        "snowflake",
        "",
        "/api/v2/cortex/v1/chat/completions",
        quirks=Quirks(reasoning="object", replays=_SENDS_BACK_DETAILS, keeps_cache_control=True),
    ),
    _hosted(
        "gemini-compat",
        "https://generativelanguage.googleapis.com",
        "GEMINI_API_KEY",
        Quirks(),
        base="/v1beta/openai",
    ),
    _self_hosted(
        "ollama",
        11434,
        Quirks(renames=_OLD_LIMIT, replays=_SENDS_BACK_REASONING, keeps_strict=False),
    ),
    _self_hosted("vllm", 8000, Quirks(renames=_OLD_LIMIT, replays=_SENDS_BACK_REASONING)),
    _self_hosted("lmstudio", 1234),
    _self_hosted("llamacpp", 8080),
    _self_hosted("llamafile", 8080),
    _self_hosted("sglang", 30000),
    Vendor(
        "local",
        "http://127.0.0.1:8089",
        needs_key=False,
        default_models=("smollm2-135m-instruct",),
        quirks=_OLD_LIMIT_ONLY,
    ),
    Vendor(
        "mock",
        "",
        needs_key=False,
        default_models=("echo", "slow", "flaky", "fail", "limited"),
        is_simulated=True,
        quirks=_MOCK,
    ),
)
