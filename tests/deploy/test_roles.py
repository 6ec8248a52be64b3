"""The environment of every role in the chart and in docker-compose.yml is one that the code takes."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from headgate.runtime import settings
from headgate.runtime.settings import Role, Settings, SettingsError
from tests.deploy.places import ROLES, ROOT, VALUE_SETS
from tests.deploy.rendered import chart, chart_environment, compose_services, container, workloads

COMPOSE_ROLES = {
    "init": "init", "ingest": "ingest", "dispatcher-1": "dispatcher", "dispatcher-2": "dispatcher",
    "gateway-1": "gateway", "gateway-2": "gateway",
}  # fmt: skip


def taken(command: list[str], env: dict[str, str]) -> Settings:
    """The settings that a container's process would run with."""
    assert command[0] == "headgate"
    role = command[1]
    assert role in get_args(Role)
    return settings.resolve(settings.load({}, None, env), role)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.stem)
def test_every_role_of_the_chart_takes_its_environment(helm: Path, values: Path, tmp_path: Path) -> None:
    found = workloads(chart(helm, values))
    assert set(found) == {*ROLES, "init", "test"}
    for role in (*ROLES, "init"):
        env = chart_environment(found[role], tmp_path)
        given = taken(container(found[role])["command"], env)
        if role == "init":
            continue
        probes = {p["containerPort"] for p in container(found[role])["ports"] if p["name"] == "admin"}
        assert probes == {given.admin.port}
        own = {p["containerPort"] for p in container(found[role])["ports"] if p["name"] != "admin"}
        assert own == {getattr(given, role).port}
        grace = found[role]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace > given.drain.deadline_s + 5
    dispatcher = taken(["headgate", "dispatcher"], chart_environment(found["dispatcher"], tmp_path))
    assert dispatcher.dispatcher.advertise == f"10.0.0.1:{dispatcher.dispatcher.port}"
    assert str(dispatcher.dispatcher.data) == "/var/lib/headgate"


def test_settings_of_values_reach_all_roles_and_the_own_ones_win(helm: Path, tmp_path: Path) -> None:
    (minimal,) = (path for path in VALUE_SETS if path.stem == "minimal-values")
    sets = ["--set", r"settings.limits\.payload_bytes=1048576,gateway.settings.limits\.payload_bytes=3"]
    found = workloads(chart(helm, minimal, *sets, "--set-json", "drain.spreadSeconds=0.5"))
    bytes_of = {role: taken(["headgate", role], chart_environment(found[role], tmp_path)) for role in ROLES}
    assert {role: s.limits.payload_bytes for role, s in bytes_of.items()} == {
        "ingest": 1_048_576, "dispatcher": 1_048_576, "gateway": 3,
    }  # fmt: skip
    assert bytes_of["gateway"].drain.spread_s == 0.5


def test_settings_of_acknowledgements_and_events_reach_every_role(helm: Path, tmp_path: Path) -> None:
    (locked,) = (path for path in VALUE_SETS if path.stem == "locked-down-values")
    found = workloads(chart(helm, locked))
    for role in ROLES:
        given = taken(["headgate", role], chart_environment(found[role], tmp_path))
        limits = given.limits
        assert (limits.ack_window, limits.ack_breaker_failures, limits.ack_breaker_s) == (64, 5, 60.0), role
        assert given.events.log_one_in == 1_000, role


def test_a_setting_the_code_does_not_know_is_found(helm: Path, tmp_path: Path) -> None:
    """The check itself: a chart that drifted from the code fails it."""
    (minimal,) = (path for path in VALUE_SETS if path.stem == "minimal-values")
    found = workloads(chart(helm, minimal, "--set", r"settings.limits\.paylod_bytes=1"))
    with pytest.raises(SettingsError, match=r"limits\.payload_bytes"):
        taken(["headgate", "ingest"], chart_environment(found["ingest"], tmp_path))


def test_every_role_of_compose_takes_its_environment(compose: Path) -> None:
    services = compose_services(compose)
    assert {name for name, s in services.items() if s["image"].startswith("headgate")} == set(COMPOSE_ROLES)
    linked = set()
    for name, role in COMPOSE_ROLES.items():
        service: dict[str, Any] = services[name]
        assert service["command"] == ["headgate", role]
        given = taken(service["command"], service["environment"])
        grace = float(service.get("stop_grace_period", "0s").removesuffix("s"))
        assert grace > given.drain.deadline_s + 5
        if role == "dispatcher":
            assert given.dispatcher.advertise is not None
            linked.add(given.dispatcher.advertise)
            volumes = [v["target"] for v in service["volumes"]]
            assert str(given.dispatcher.data) in volumes
            assert [v["source"] for v in service["volumes"]] == [name], "each dispatcher has an index of its own"
    gateway = taken(["headgate", "gateway"], services["gateway-1"]["environment"])
    assert set(gateway.cluster.dispatchers) == linked
    assert gateway.log.url is None, "a gateway has no Kafka"


def test_the_health_check_asks_the_port_that_the_code_has() -> None:
    text = (ROOT / "compose" / "livez.py").read_text("utf-8")
    assert re.findall(r'"(\d+)"', text) == [str(Settings().admin.port)]
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    exposed = re.findall(r"^EXPOSE (.*)$", dockerfile, re.MULTILINE)
    ports = (s := Settings()).ingest.port, s.gateway.port, s.dispatcher.port, s.admin.port
    assert exposed == [" ".join(map(str, ports))]
