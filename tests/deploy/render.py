"""Helm itself, in a process of its own: its runtime takes over signals, which are the business of other tests.

As a script it reads ``{task, chart, cases: [values]}`` and writes what Helm made of each case.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, final

import yaml

from deploy.files import CHART, ROOT

RELEASE: Final = "tide"
NAMESPACE: Final = "prod"
_WARNING: Final = 2

Values = Mapping[str, Any]


@final
@dataclass(frozen=True)
class Rendered:
    """One case: its manifests by file and its notes, or why Helm refused the values."""

    files: Mapping[str, str]
    refusal: str
    notes: str = field(compare=False)

    @cached_property
    def documents(self) -> Sequence[Mapping[str, Any]]:
        return [document for text in self.files.values() for document in yaml.safe_load_all(text) if document]

    def of_kind(self, kind: str) -> list[Mapping[str, Any]]:
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind: str, component: str) -> Mapping[str, Any]:
        (found,) = [
            document
            for document in self.of_kind(kind)
            if document["metadata"]["labels"]["app.kubernetes.io/component"] == component
        ]
        return found


def render(cases: Sequence[Values]) -> list[Rendered]:
    return [_read(answer) for answer in _ask("render", cases)]


def lint(cases: Sequence[Values]) -> list[str]:
    """Warnings and errors of ``helm lint --strict``."""
    return [text for answer in _ask("lint", cases) for text in answer]


def _ask(task: str, cases: Sequence[Values]) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.render"],
        input=json.dumps({"task": task, "chart": str(CHART), "cases": cases}).encode(),
        cwd=ROOT / "tests",
        check=True,
        capture_output=True,
    )
    answers: list[Any] = json.loads(done.stdout)
    return answers


def _read(answer: Mapping[str, Any]) -> Rendered:
    files: dict[str, str] = dict(sorted(answer["files"].items()))
    notes = "".join(files.pop(name) for name in list(files) if name.endswith("NOTES.txt"))
    return Rendered(files, answer["refusal"], notes)


def _linted(chart: str, values: dict[str, Any]) -> list[str]:
    import helm_python  # here, so that only this process starts its runtime

    report = helm_python.lint(chart, values, strict=True)
    return [message["error"] for message in report["messages"] if message["severity"] >= _WARNING]


def _rendered(chart: str, values: dict[str, Any]) -> dict[str, Any]:
    import helm_python

    try:
        with helm_python.Chart.load(chart) as loaded:
            loaded.validate_schema(values)
            files = loaded.render(values, name=RELEASE, namespace=NAMESPACE)
    except helm_python.HelmValuesError as error:
        return {"files": {}, "refusal": f"schema: {error}"}
    except helm_python.HelmError as error:
        return {"files": {}, "refusal": str(error)}
    return {"files": files, "refusal": ""}


if __name__ == "__main__":
    question = json.load(sys.stdin)
    answer_one = {"lint": _linted, "render": _rendered}[question["task"]]
    json.dump([answer_one(question["chart"], values) for values in question["cases"]], sys.stdout)
