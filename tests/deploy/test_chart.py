"""The chart, rendered and linted by Helm's own library and checked against the schemas of Kubernetes."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from deploy.dockerfile import IMAGE, all_of
from deploy.files import CHART, ROOT, read_json, read_yaml
from deploy.promql import complaints
from deploy.render import NAMESPACE, Rendered, lint, render
from deploy.settings_named import is_no_setting
from tidegate import __version__
from tidegate.providers import VENDORS
from tidegate.settings import load

DEFAULTS: Final = read_yaml(CHART / "values.yaml")
EVERYTHING: Final = read_yaml(CHART / "ci" / "everything-values.yaml")
KUBERNETES: Final = ("1.29.0", "1.37.0")
"""The oldest the chart asks for, and the newest whose schema we have."""
CUSTOM: Final = {"ScaledObject", "ServiceMonitor"}
"""Kinds that somebody else adds to a cluster."""

Place = tuple[str, ...]


@pytest.fixture(scope="module")
def both() -> list[Rendered]:
    """With the defaults, and with all that is optional."""
    return render([{}, EVERYTHING])


@pytest.fixture(scope="module")
def everything(both: list[Rendered]) -> Rendered:
    return both[1]


def pods(rendered: Rendered) -> list[Mapping[str, Any]]:
    return [
        workload["spec"]["template"] for kind in ("Deployment", "Job") for workload in rendered.of_kind(kind)
    ]


def containers(rendered: Rendered) -> list[Mapping[str, Any]]:
    return [container for pod in pods(rendered) for container in pod["spec"]["containers"]]


def long_running(rendered: Rendered) -> list[Mapping[str, Any]]:
    return [workload["spec"]["template"] for workload in rendered.of_kind("Deployment")]


def test_helm_takes_it_and_its_linter_finds_nothing(both: list[Rendered]) -> None:
    assert [rendered.refusal for rendered in both] == ["", ""]
    assert lint([{}, EVERYTHING]) == []


def test_the_linter_finds_what_is_wrong() -> None:
    assert lint([{"gateway": {"replicas": "two"}}]) != []


def schema_check(documents: Sequence[object], version: str, place: Path) -> subprocess.CompletedProcess[str]:
    file = place / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(documents), "utf-8")
    checker = Path(sys.executable).parent / "kubernetes-validate"
    command = [str(checker), "--strict", "--quiet", "--kubernetes-version", version, str(file)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(both: list[Rendered], version: str, tmp_path: Path) -> None:
    documents = [
        document for rendered in both for document in rendered.documents if document["kind"] not in CUSTOM
    ]

    done = schema_check(documents, version, tmp_path)

    assert len(documents) > 16
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_field_that_kubernetes_does_not_know_is_found(both: list[Rendered], tmp_path: Path) -> None:
    broken = copy.deepcopy(both[0].one("Deployment", "worker"))
    broken["spec"]["template"]["spec"]["terminationGracePeriod"] = 40

    assert schema_check([broken], KUBERNETES[0], tmp_path).returncode != 0


def test_it_is_made_for_the_version_beside_it() -> None:
    chart = read_yaml(CHART / "Chart.yaml")

    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def leaves(values: Mapping[str, Any], path: Place = ()) -> Iterator[tuple[Place, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def with_value(path: Place, value: object, values: Mapping[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(dict(values))
    parent = changed
    for name in path[:-1]:
        parent = parent.setdefault(name, {})
    parent[path[-1]] = value
    return changed


OTHERS: Final[Mapping[Place, object]] = {
    ("image", "pullPolicy"): "Never",
    ("imagePullSecrets",): [{"name": "other"}],
    ("config",): {"providers": {"groq": {}}},
    ("gateway", "service", "type"): "NodePort",
    ("serviceMonitor", "interval"): "7s",
}


def another(path: Place, value: object) -> object:
    """A value that the schema allows, and that differs."""
    if path in OTHERS:
        return OTHERS[path]
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return f"{value}x"
        case list():
            return [{"key": "other", "operator": "Exists"}]
        case _:
            return {"other": "value"}


def test_every_value_changes_something() -> None:
    """A value that nothing reads is a promise that nobody keeps."""
    paths = list(leaves(DEFAULTS))
    nothing: Mapping[str, Any] = {}
    cases = [
        with_value(path, another(path, value), base)
        for path, value in paths
        for base in (nothing, EVERYTHING)
    ]

    plain, rich, *changed = render([nothing, EVERYTHING, *cases])

    for (path, _), in_plain, in_rich in zip(paths, changed[::2], changed[1::2], strict=True):
        assert "schema:" not in in_plain.refusal + in_rich.refusal, path
        assert (in_plain, in_rich) != (plain, rich), path


def test_every_value_has_a_type_in_the_schema() -> None:
    paths = [path for path, _ in leaves(DEFAULTS)]

    answers = render([with_value(path, ["wrong"], {}) for path in paths])

    assert [
        path for path, answer in zip(paths, answers, strict=True) if not answer.refusal.startswith("schema:")
    ] == []


def test_a_value_that_does_not_exist_is_refused() -> None:
    sections = {path[:depth] for path, _ in leaves(DEFAULTS) for depth in range(len(path))}
    quantities = {path for path in sections if path[-1:] in {("requests",), ("limits",)}}

    answers = render([with_value((*path, "misspelt"), 1, {}) for path in sorted(sections - quantities)])

    assert len(answers) >= 10
    assert all("misspelt" in answer.refusal for answer in answers)


def test_what_needs_another_value_says_so() -> None:
    without_token, without_address = render(
        [
            {"serviceMonitor": {"enabled": True}},
            {"worker": {"autoscaling": {"enabled": True}}},
        ]
    )

    assert "metrics.existingSecret holds what the scraper shows" in without_token.refusal
    assert "worker.autoscaling.prometheusAddress says where KEDA asks" in without_address.refusal


def test_nothing_runs_as_root_or_writes_where_it_should_not(both: list[Rendered]) -> None:
    (user,) = all_of("USER", IMAGE)
    for rendered in both:
        for pod in pods(rendered):
            spec = pod["spec"]
            settings = spec["securityContext"]
            assert settings["runAsNonRoot"] is True
            assert user == f"{settings['runAsUser']}:{settings['runAsGroup']}"
            assert settings["seccompProfile"] == {"type": "RuntimeDefault"}
            assert spec["automountServiceAccountToken"] is False
            for container in spec["containers"]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
                assert {mount["name"] for mount in container["volumeMounts"]} == {
                    volume["name"] for volume in spec["volumes"]
                }


def test_probes_ask_routes_that_are_there_on_a_port_that_is_open(both: list[Rendered]) -> None:
    routes = (ROOT / "src" / "tidegate" / "api" / "app.py").read_text("utf-8")
    wanted = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    for rendered in both:
        for pod in long_running(rendered):
            (container,) = pod["spec"]["containers"]
            (port,) = container["ports"]
            for probe, path in wanted.items():
                assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
                assert f'"{path}"' in routes


@pytest.mark.parametrize("drain", [0, 25, 3600])
def test_a_pod_gets_longer_than_it_drains(drain: int) -> None:
    (rendered,) = render([{"drainTimeoutSeconds": drain}])

    assert len(long_running(rendered)) == 2
    for pod in long_running(rendered):
        (container,) = pod["spec"]["containers"]
        sleep, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
        assert sleep == "sleep"
        assert pod["spec"]["terminationGracePeriodSeconds"] == int(seconds) + drain + 10
        assert {"name": "TIDEGATE__SERVER__DRAIN_TIMEOUT", "value": f"{drain}s"} in container["env"]


def test_secrets_come_from_secrets(both: list[Rendered]) -> None:
    for rendered in both:
        assert "postgresql://" not in json.dumps(rendered.documents)
        for container in containers(rendered):
            environment = {variable["name"]: variable for variable in container["env"]}
            assert not [name for name in environment if is_no_setting(name)]
            secret = environment["TIDEGATE__STORE__URL"]["valueFrom"]["secretKeyRef"]
            assert secret == {"name": "tidegate-database", "key": "url"}
            literal = {name for name, variable in environment.items() if "value" in variable}
            assert literal <= {"TIDEGATE_CONFIG", "TIDEGATE__SERVER__DRAIN_TIMEOUT"}


def test_gateways_and_workers_say_so_to_tidegate(everything: Rendered) -> None:
    told = {container["name"]: container["args"] for container in containers(everything)}

    assert told == {
        "gateway": ["serve", "--no-worker", "--processes", "2"],
        "worker": ["work", "--metrics-port", "9090"],
        "migrate": ["migrate"],
    }


def test_the_configuration_holds_and_a_change_of_it_makes_new_pods(
    both: list[Rendered], tmp_path: Path
) -> None:
    file = tmp_path / "tidegate.yaml"
    for rendered in both:
        (config,) = rendered.of_kind("ConfigMap")
        file.write_text(config["data"]["tidegate.yaml"], "utf-8")
        file.chmod(0o600)
        assert load(file, {"OPENAI_API_KEY": "sk-x"}, vendors=VENDORS).warnings == ()

    sums = [
        {pod["metadata"]["annotations"]["checksum/config"] for pod in long_running(rendered)}
        for rendered in both
    ]
    assert [len(found) for found in sums] == [1, 1]
    assert sums[0] != sums[1]


def test_names_lead_to_what_they_mean(both: list[Rendered]) -> None:
    for rendered in both:
        deployments = {item["metadata"]["name"]: item["spec"] for item in rendered.of_kind("Deployment")}
        for spec in deployments.values():
            labels = spec["template"]["metadata"]["labels"]
            assert spec["selector"]["matchLabels"].items() <= labels.items()
        for service in rendered.of_kind("Service"):
            (chosen,) = [
                spec["template"]
                for spec in deployments.values()
                if service["spec"]["selector"].items() <= spec["template"]["metadata"]["labels"].items()
            ]
            (port,) = chosen["spec"]["containers"][0]["ports"]
            assert [entry["targetPort"] for entry in service["spec"]["ports"]] == [port["name"]]
        for budget in rendered.of_kind("PodDisruptionBudget"):
            assert budget["spec"]["selector"] == deployments[budget["metadata"]["name"]]["selector"]
        for scaler in rendered.of_kind("HorizontalPodAutoscaler") + rendered.of_kind("ScaledObject"):
            assert "replicas" not in deployments[scaler["spec"]["scaleTargetRef"]["name"]]


def test_by_default_nothing_is_asked_of_what_a_cluster_may_lack(both: list[Rendered]) -> None:
    kinds = {document["kind"] for document in both[0].documents}

    assert kinds == {"ConfigMap", "Deployment", "Job", "PodDisruptionBudget", "Service"}


def test_workers_grow_with_a_queue_that_can_be_asked_for(everything: Rendered) -> None:
    (trigger,) = everything.one("ScaledObject", "worker")["spec"]["triggers"]
    query = trigger["metadata"]["query"]

    assert trigger["type"] == "prometheus"
    assert complaints(query) == []
    assert f'namespace="{NAMESPACE}"' in query
    assert "tidegate_jobs_pending" in query


def test_the_scraper_reaches_gateways_and_workers(everything: Rendered) -> None:
    (monitor,) = everything.of_kind("ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]

    found = [item for item in everything.of_kind("Service") if wanted <= item["metadata"]["labels"].items()]
    assert len(found) == 2
    assert all(item["spec"]["ports"][0]["name"] == endpoint["port"] for item in found)
    assert endpoint["authorization"]["credentials"] == {"name": "tidegate-metrics", "key": "token"}


def test_the_schema_comes_before_the_processes(both: list[Rendered]) -> None:
    for rendered in both:
        (job,) = rendered.of_kind("Job")
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert {volume["name"] for volume in job["spec"]["template"]["spec"]["volumes"]} == {"data", "tmp"}


def test_the_notes_count_connections(both: list[Rendered]) -> None:
    plain, rich = both

    assert f"max_connections >= {12 * ((2 + 1) * 1 + (2 + 1)) + 10}." in plain.notes
    assert f"max_connections >= {12 * ((6 + 1) * 2 + (10 + 1)) + 10}." in rich.notes
    assert "No provider is configured" in plain.notes
    assert "No provider is configured" not in rich.notes


def test_the_schema_asks_for_what_the_values_give() -> None:
    schema = read_json(CHART / "values.schema.json")

    assert set(schema["properties"]) - {"global"} == set(DEFAULTS)
    assert schema["required"] == list(DEFAULTS)
