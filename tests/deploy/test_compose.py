"""The Compose files without an engine: their schema, and that everything they name is there."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.files import COMPOSE_FILES, DEPLOY, ROOT, read_yaml, services_of
from deploy.settings_named import is_no_setting
from tidegate.providers import VENDORS
from tidegate.settings import ServerSettings, load

EVERY_FILE: Final = pytest.mark.parametrize("name", COMPOSE_FILES)
MANY: Final = "compose.postgres.yaml"
GATEWAYS: Final = {"gateway-1", "gateway-2"}
WORKERS: Final = {"worker-1", "worker-2"}


def schema_check(path: Path) -> subprocess.CompletedProcess[bytes]:
    """Against the published schema of Compose files, which the checker carries with it."""
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    return subprocess.run([*checker, str(path)], check=False, capture_output=True)


@EVERY_FILE
def test_it_is_a_compose_file(name: str) -> None:
    done = schema_check(DEPLOY / name)

    assert done.returncode == 0, done.stdout.decode()


@EVERY_FILE
def test_a_misspelt_member_is_found(name: str, tmp_path: Path) -> None:
    broken = tmp_path / name
    broken.write_text((DEPLOY / name).read_text("utf-8").replace("ports:", "port:"), "utf-8")

    assert schema_check(broken).returncode != 0


@EVERY_FILE
def test_images_are_pinned(name: str) -> None:
    images = [service["image"] for service in services_of(name).values()]

    assert all(re.fullmatch(r"[a-z/]+:v?\d+(\.\d+)+(-[a-z]+)?", image) for image in images), images


@EVERY_FILE
def test_nobody_is_root_or_may_become_it(name: str) -> None:
    for service in services_of(name).values():
        assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service


@EVERY_FILE
def test_ports_are_open_to_this_machine_alone_and_each_once(name: str) -> None:
    ports = [port for service in services_of(name).values() for port in service.get("ports", ())]
    outside = [port.split(":")[1] for port in ports]

    assert ports
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert len(set(outside)) == len(outside)


def mounts(service: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for text in service.get("volumes", ()):
        source, target, *options = text.split(":")
        yield source, target, *(options or [""])


@EVERY_FILE
def test_what_is_mounted_exists(name: str) -> None:
    declared = set(read_yaml(DEPLOY / name)["volumes"])
    used = set()
    for service in services_of(name).values():
        for source, _, options in mounts(service):
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), source
                assert options == "ro"
            else:
                used.add(source)

    assert used == declared


@EVERY_FILE
def test_who_is_waited_for_exists_and_can_tell(name: str) -> None:
    services = services_of(name)
    for service in services.values():
        waits = service.get("depends_on", {})
        assert set(waits) <= set(services)
        for other, how in waits.items() if isinstance(waits, dict) else ():
            match how["condition"]:
                case "service_healthy":
                    assert services[other]["healthcheck"]["test"]
                case condition:
                    assert condition == "service_completed_successfully"
                    assert services[other]["restart"].startswith("on-failure")


@EVERY_FILE
def test_secrets_are_declared_and_stand_nowhere(name: str) -> None:
    document = read_yaml(DEPLOY / name)
    used = {secret for service in document["services"].values() for secret in service.get("secrets", ())}

    assert used == set(document.get("secrets", ()))
    for service in document["services"].values():
        environment = service.get("environment", {})
        for variable, value in environment.items() if isinstance(environment, dict) else ():
            if re.search("PASSWORD|TOKEN|KEY|URL", variable):
                assert re.search(r"\$\{[A-Z_]+:[?-]", value), variable


@EVERY_FILE
def test_a_variable_is_asked_for_or_may_be_missing_and_the_page_names_it(name: str) -> None:
    text = (DEPLOY / name).read_text("utf-8")
    page = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    document = read_yaml(DEPLOY / name)
    variables = {variable for variable, _ in re.findall(r"\$\{([A-Z_]+)(:[?-])?", text)}

    assert len(re.findall(r"\$", text)) == len(re.findall(r"\$\{[A-Z_]+:[?-]", text))
    variables |= {secret["environment"] for secret in document.get("secrets", {}).values()}
    assert all(variable in page for variable in variables)


@EVERY_FILE
def test_our_processes_get_settings_that_exist_and_time_to_drain(name: str) -> None:
    ours = [service for service in services_of(name).values() if service["image"].startswith("tidegate:")]

    assert ours
    for service in ours:
        assert not [variable for variable in service["environment"] if is_no_setting(variable)]
        assert service["read_only"] is True
        assert int(service["stop_grace_period"].removesuffix("s")) >= drain_seconds() + 10


def drain_seconds() -> float:
    return ServerSettings().drain_timeout.total_seconds()


def test_one_machine_hands_on_keys_of_vendors_we_know() -> None:
    variables = services_of("compose.sqlite.yaml")["tidegate"]["environment"]

    assert set(variables) <= {vendor.key_variable for vendor in VENDORS.values()}


def test_the_configuration_of_many_holds(tmp_path: Path) -> None:
    services = services_of(MANY)
    environ = {
        name: str(tmp_path / "x") if "{" in value else value
        for name, value in services["gateway-1"]["environment"].items()
        if name not in {"TIDEGATE_CONFIG", "TIDEGATE__STORE__URL"}
    }

    settings = load(DEPLOY / "tidegate.yaml", environ, vendors=VENDORS)

    assert settings.warnings == ()
    assert [key.name for key in settings.governance.virtual_keys] == ["first"]
    assert ("./tidegate.yaml", services["gateway-1"]["environment"]["TIDEGATE_CONFIG"], "ro") in mounts(
        services["gateway-1"]
    )


def test_gateways_and_workers_differ_in_their_command_alone() -> None:
    services = services_of(MANY)
    told = {name: services[name]["command"] for name in GATEWAYS | WORKERS}

    assert all(told[name] == ["serve", "--no-worker"] for name in GATEWAYS)
    assert all(told[name] == ["work", "--metrics-port", "9090"] for name in WORKERS)
    own = {"build", "command", "depends_on", "healthcheck", "restart"}
    shared = [
        {member: value for member, value in services[name].items() if member not in own}
        for name in (*told, "migrate")
    ]
    assert all(members == shared[0] for members in shared)


def test_a_password_reaches_postgres_and_who_asks_it_alike() -> None:
    services = services_of(MANY)
    postgres, url = services["postgres"]["environment"], services["gateway-1"]["environment"]

    assert url["TIDEGATE__STORE__URL"] == (
        f"postgresql://{postgres['POSTGRES_USER']}:{postgres['POSTGRES_PASSWORD']}"
        f"@postgres:5432/{postgres['POSTGRES_DB']}"
    )


def test_the_balancer_knows_every_gateway_and_asks_whether_it_is_ready() -> None:
    text = (DEPLOY / "haproxy.cfg").read_text("utf-8")
    servers = dict(re.findall(r"^    server (\S+) (\S+)$", text, re.MULTILINE))

    assert servers == {name: f"{name}:8080" for name in GATEWAYS}
    assert "uri /readyz ver HTTP/1.1 hdr Host localhost" in text
    assert re.findall(r"bind :(\d+)$", text, re.MULTILINE) == ["8080"]


def test_only_a_connection_never_made_is_tried_elsewhere() -> None:
    text = (DEPLOY / "haproxy.cfg").read_text("utf-8")

    assert re.findall(r"^ *retry-on (.+)$", text, re.MULTILINE) == ["conn-failure"]


def test_a_poll_may_be_held_longer_than_the_balancer_waits_for_nothing() -> None:
    text = (DEPLOY / "haproxy.cfg").read_text("utf-8")
    waits = re.findall(r"timeout (?:client|server) (\d+)s", text)

    assert len(waits) == 2
    assert all(int(seconds) > 60 for seconds in waits)


def test_everything_of_ours_is_scraped_with_the_token() -> None:
    (job,) = read_yaml(DEPLOY / "prometheus" / "prometheus.yaml")["scrape_configs"]
    targets = {target for group in job["static_configs"] for target in group["targets"]}

    assert targets == {f"{name}:8080" for name in GATEWAYS} | {f"{name}:9090" for name in WORKERS}
    assert job["authorization"] == {"credentials_file": "/run/secrets/metrics_token"}
    assert services_of(MANY)["prometheus"]["secrets"] == ["metrics_token"]


def test_prometheus_finds_its_files_where_it_looks() -> None:
    service = services_of(MANY)["prometheus"]
    targets = {target for _, target, _ in mounts(service)}
    (config,) = [word.partition("=")[2] for word in service["command"] if word.startswith("--config.file")]
    (rules,) = read_yaml(DEPLOY / "prometheus" / "prometheus.yaml")["rule_files"]

    assert config in targets
    assert str(Path(config).parent / rules) in targets


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    services = services_of(MANY)
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = read_yaml(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    (provider,) = read_yaml(provisioning / "dashboards" / "tidegate.yaml")["providers"]
    targets = {Path(target) for _, target, _ in mounts(services["grafana"])}

    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    assert Path(provider["options"]["path"]) / "tidegate.json" in targets
    assert Path("/etc/grafana/provisioning") in targets
