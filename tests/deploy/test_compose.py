"""The image's recipe and docker-compose.yml, read without an engine: valid, pinned, closed to other machines."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import needed
from tests.deploy.places import COMPOSE, DOCKERFILE, ROOT
from tests.deploy.rendered import COMPOSE_SECRETS, compose_services
from tests.deploy.tools import run, wheel_tool
from tests.kafka import jars

CORE = {"kafka", "init", "ingest", "dispatcher-1", "dispatcher-2", "gateway-1", "gateway-2", "proxy"}
OBSERVING = {"prometheus", "grafana"}


@pytest.fixture(scope="module")
def services(compose: Path) -> dict[str, Any]:
    return compose_services(compose, "observability")


def test_hadolint_finds_nothing() -> None:
    status, text = run(needed(lambda: wheel_tool("hadolint")), DOCKERFILE)
    assert (status, text) == (0, "")


def test_the_recipe_is_pinned_and_locked() -> None:
    text = DOCKERFILE.read_text("utf-8")
    assert not text.startswith("# syntax="), "that line asks an image registry"
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
    assert text.count("--require-hashes") == 2
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    assert "HEALTHCHECK" in text and "ENTRYPOINT" not in text, "the command selects the role"


def test_the_image_says_what_it_is_and_lists_what_is_in_it() -> None:
    text = DOCKERFILE.read_text("utf-8")
    labels = set(re.findall(r"org\.opencontainers\.image\.([a-z.]+)=", text))
    assert labels == {
        *("title", "description", "licenses", "base.name"),
        *("version", "revision", "created", "source"),
    }
    passed = set(re.findall(r"--build-arg ([A-Z]+)=", (ROOT / "Makefile").read_text("utf-8")))
    assert passed == set(re.findall(r"^ARG ([A-Z]+)=unknown$", text, re.MULTILINE))
    made, compared, runs = (text.index(part) for part in ("cyclonedx-py environment", "release.sbom", "\nLABEL"))
    assert made < compared < runs, "the build ends where the list is not what the lock file says"


def test_only_what_is_copied_reaches_the_engine() -> None:
    let_in = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE))
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.*) \S+$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    assert {name for line in copied for name in line.split()} == let_in
    assert all((ROOT / name).exists() for name in let_in)


def test_compose_and_its_schema_take_the_file(compose: Path, tmp_path: Path) -> None:
    assert run(compose, "--file", COMPOSE, "config", "--quiet", environ=COMPOSE_SECRETS) == (0, "")
    checker = needed(lambda: wheel_tool("check-jsonschema"))
    schema = ("--builtin-schema", "vendor.compose-spec")
    assert run(checker, *schema, COMPOSE)[0] == 0
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE.read_text("utf-8").replace("read_only: true", "readonly: true", 1), "utf-8")
    commands: list[list[str | Path]] = [[compose, "--file", wrong, "config", "--quiet"], [checker, *schema, wrong]]
    for command in commands:
        status, text = run(*command, environ=COMPOSE_SECRETS)
        assert status != 0 and "readonly" in text, "the check itself"


def test_core_services_start_without_a_profile(compose: Path, services: dict[str, Any]) -> None:
    assert set(compose_services(compose)) == CORE
    assert set(services) == CORE | OBSERVING


def test_the_canary_has_a_profile_and_is_scraped_where_it_runs(compose: Path) -> None:
    canary = compose_services(compose, "canary")["canary"]
    assert canary["command"] == ["headgate", "canary"] and canary["read_only"] is True
    assert set(_secrets({"canary": canary})["canary"]) == {"HEADGATE_AUTH__SECRET"}
    config = yaml.safe_load((ROOT / "compose" / "prometheus.yml").read_text("utf-8"))
    assert config["scrape_configs"][0]["dns_sd_configs"] == [{"names": ["canary"], "type": "A", "port": 9090}]


def test_ports_are_open_to_this_machine_only(services: dict[str, Any]) -> None:
    published = {name: s["ports"] for name, s in services.items() if s.get("ports")}
    assert set(published) == {"proxy", *OBSERVING} and len(published["proxy"]) == 1
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}


def test_images_are_pinned_and_kafka_is_the_tested_one(services: dict[str, Any]) -> None:
    images = {name: s["image"] for name, s in services.items()}
    assert all(re.search(r":v?\d+\.\d+", image) for image in images.values())
    assert images["kafka"] == f"apache/kafka:{jars.kafka_version()}"


def test_services_are_hardened_and_start_in_order(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service.get("read_only") is True or name == "kafka", name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert services["init"]["depends_on"]["kafka"]["condition"] == "service_healthy"
    for name in ("ingest", "dispatcher-1", "dispatcher-2", "gateway-1", "gateway-2"):
        assert services[name]["depends_on"]["init"]["condition"] == "service_completed_successfully", name


def test_who_makes_the_log_and_who_refuses_by_it_know_the_same_retention(compose: Path) -> None:
    found = compose_services(compose, secrets=COMPOSE_SECRETS | {"HEADGATE_RETENTION_MS": "1000"})
    kept = {name: s.get("environment", {}).get("HEADGATE_LOG__RETENTION_MS") for name, s in found.items()}
    assert {name for name, value in kept.items() if value == "1000"} == {
        "init",
        "ingest",
        "dispatcher-1",
        "dispatcher-2",
    }
    assert "`HEADGATE_RETENTION_MS`" in (ROOT / "docs" / "operations.md").read_text("utf-8")


def test_nothing_starts_without_a_secret_of_ones_own(compose: Path) -> None:
    missing = COMPOSE_SECRETS | {"HEADGATE_SECRET": ""}
    status, text = run(compose, "--file", COMPOSE, "config", "--quiet", environ=missing)
    assert status != 0 and "HEADGATE_SECRET" in text and "32 random bytes" in text


def test_who_signs_no_tokens_has_no_key_for_it(services: dict[str, Any]) -> None:
    keys = _secrets(services)
    of_callers = {"HEADGATE_AUTH__SECRET": COMPOSE_SECRETS["HEADGATE_SECRET"]}
    of_links = {"HEADGATE_CLUSTER__SECRET": COMPOSE_SECRETS["HEADGATE_CLUSTER_SECRET"]}
    assert keys["ingest"] == keys["gateway-1"] == keys["gateway-2"] == of_callers | of_links
    assert keys["dispatcher-1"] == keys["dispatcher-2"] == of_links
    assert keys["init"] == keys["kafka"] == keys["proxy"] == {}


def test_one_secret_will_do(compose: Path) -> None:
    one = {"HEADGATE_SECRET": COMPOSE_SECRETS["HEADGATE_SECRET"]}
    keys = _secrets(compose_services(compose, secrets=one))
    assert {keys[name]["HEADGATE_CLUSTER__SECRET"] for name in ("ingest", "dispatcher-1", "gateway-2")} == {
        one["HEADGATE_SECRET"]
    }


def test_gateways_are_not_on_kafkas_network(services: dict[str, Any]) -> None:
    on = {name: set(s["networks"]) for name, s in services.items()}
    assert on["kafka"] == {"kafka"} and on["init"] == {"kafka"}
    assert all("kafka" not in on[name] for name in ("gateway-1", "gateway-2", "proxy"))
    assert all({"kafka", "links"} <= on[name] for name in ("ingest", "dispatcher-1", "dispatcher-2"))


def test_the_proxy_sends_streams_to_gateways_and_the_rest_to_ingest() -> None:
    text = (ROOT / "compose" / "Caddyfile").read_text("utf-8")
    (pattern,) = re.findall(r"@stream path_regexp (\S+)", text)
    streams = (
        "/ws/subscribe",
        "/connect",
        "/sse/subscribe",
        "/api/v1/topics/a%20b/subscribe",
        "/api/v1/topics/x/subscribe",
    )
    others = (
        "/api/v1/topics",
        "/api/v1/topics/x/publish",
        "/api/v1/topics/x/subscribers",
        "/api/v1/topics/x/stats",
        "/api/v1/topics/x/flush",
        "/api/v1/events",
        "/api/v1/dead-letters",
        "/api/v1/dead-letters/fda4c928-b718-815f-8e46-edae6d08e596/replay",
        "/ws/subscribes",
        "/connector",
    )
    assert all(re.search(pattern, path) for path in streams)
    assert not any(re.search(pattern, path) for path in others)
    assert "reverse_proxy gateway-1:8081 gateway-2:8081" in text and "reverse_proxy ingest:8080" in text
    assert "health_uri /readyz?exclude=some_owners" in text, "one shard of many takes no gateway out"
    assert not re.search(r"(read|write|response_header|stream)_timeout", text), "a stream may be silent for 30 s"
    assert not re.search(r"^\s*flush_interval", text, re.MULTILINE), "it keeps streams whose clients have left"


def test_observability_is_provisioned_with_our_rules_and_dashboards(services: dict[str, Any]) -> None:
    sources = {v["target"]: Path(v["source"]) for name in OBSERVING for v in services[name]["volumes"]
               if v["type"] == "bind"}  # fmt: skip
    assert all(source.exists() for source in sources.values())
    config = yaml.safe_load(sources["/etc/prometheus/prometheus.yml"].read_text("utf-8"))
    assert [f"/etc/prometheus/{file}" for file in config["rule_files"]] == ["/etc/prometheus/alerts.yaml"]
    (job,) = config["scrape_configs"]
    targets = {target: s["labels"]["role"] for s in job["static_configs"] for target in s["targets"]}
    assert job["job_name"] == "headgate"
    assert targets == {f"{name}:9090": name.partition("-")[0] for name in CORE - {"kafka", "init", "proxy"}}
    dashboards = yaml.safe_load(sources["/etc/grafana/provisioning/dashboards/headgate.yml"].read_text("utf-8"))
    assert dashboards["providers"][0]["options"]["path"] in sources


def _secrets(services: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Returns each service's variables that hold a secret."""
    return {
        name: {key: value for key, value in (service.get("environment") or {}).items() if "SECRET" in key}
        for name, service in services.items()
    }
