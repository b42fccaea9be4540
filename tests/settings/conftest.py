"""A few vendors, and configurations written to a file of their own."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest

from tidegate.providers.vendors import Vendor
from tidegate.settings import Problem, Settings, SettingsError, load

VENDORS: Final[Mapping[str, Vendor]] = MappingProxyType(
    {
        vendor.name: vendor
        for vendor in (
            Vendor("openai", "https://api.openai.com", key_variable="OPENAI_API_KEY"),
            Vendor(
                "groq",
                "https://api.groq.com",
                chat_path="/openai/v1/chat/completions",
                key_variable="GROQ_API_KEY",
            ),
            Vendor(
                "deepseek",
                "https://api.deepseek.com",
                chat_path="/chat/completions",
                key_variable="DEEPSEEK_API_KEY",
            ),
            Vendor("openrouter", "https://openrouter.ai", chat_path="/api/v1/chat/completions"),
            Vendor("zai", "https://api.z.ai", chat_path="/api/paas/v4/chat/completions"),
            Vendor("gemini-compat", "https://g.example", chat_path="/v1beta/openai/chat/completions"),
            Vendor("ollama", "", needs_key=False),
            Vendor("mock", "", needs_key=False, default_models=("echo", "slow")),
            Vendor("local", "http://127.0.0.1:8089", needs_key=False, default_models=("small",)),
        )
    }
)


@pytest.fixture
def vendors() -> Mapping[str, Vendor]:
    return VENDORS


@pytest.fixture
def load_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Loads a document: text, or plain data that becomes JSON. The file lies in the working directory."""
    monkeypatch.chdir(tmp_path)

    def load_it(
        document: Any, environ: Mapping[str, str] | None = None, *, name: str = "tidegate.json", **more: Any
    ) -> Settings:
        file = Path(name)
        file.write_text(document if isinstance(document, str) else json.dumps(document))
        file.chmod(0o600)
        return load(file, environ or {}, vendors=VENDORS, **more)

    return load_it


@pytest.fixture
def problems_of(load_document: Callable[..., Settings]) -> Callable[..., tuple[Problem, ...]]:
    """The problems of a document that must not load."""

    def find(document: Any, environ: Mapping[str, str] | None = None, **more: Any) -> tuple[Problem, ...]:
        with pytest.raises(SettingsError) as caught:
            load_document(document, environ, **more)
        return caught.value.problems

    return find
