"""The image and docker-compose.yml on a real engine: `make image-test`; DOCKER_HOST where it is not the usual one.

Not collected by `make test`. For an engine that reaches no image registry: `python -m tests.deploy.standins.build`.
"""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from headgate.core.wire.rights import Caller
from headgate.runtime.tokens import TokenKey, mint
from tests.deploy.acknowledged import BROKEN, TOPIC, Watcher, fails_and_is_mended
from tests.deploy.places import BASE_IMAGE, COMPOSE, ROOT
from tests.deploy.tools import run, wheel_tool
from tests.deploy.traffic import Traffic
from tests.e2e.harness import until
from tests.kafka import jars, provide
from tests.kafka.provide import Provided

IMAGE: Final = os.environ.get("HEADGATE_IMAGE", "headgate:0.1.0")
PROJECT: Final = "headgate-test"
PORT: Final = "18080"
PROMETHEUS_PORT: Final = "19090"
CORE: Final = ("kafka", "init", "ingest", "dispatcher-1", "dispatcher-2", "gateway-1", "gateway-2", "proxy")
SECRET: Final = "an-engine-test-secret-of-32-bytes-or-more"
LAYERS_MB: Final = 90
GRACE_S: Final = 30
WATCH_S: Final = 60.0
LOCKED: Final = (
    "--read-only", "--cap-drop", "ALL", "--user", "10001:10001", "--security-opt", "no-new-privileges",
    "--env", f"HEADGATE_AUTH__SECRET={SECRET}",
)  # fmt: skip


def docker(*arguments: str, timeout_s: float = 120.0) -> str:
    """Runs the engine's client and insists on success."""
    status, text = run("docker", *arguments, timeout_s=timeout_s)
    assert status == 0, f"docker {' '.join(arguments)}: {text}"
    return text.strip()


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    """A real engine with the image; nothing here is skipped."""
    assert shutil.which("docker"), "make image-test needs the docker command"
    docker("version")
    docker("image", "inspect", IMAGE)


@pytest.fixture
def started() -> Iterator[Callable[..., str]]:
    """Starts containers, removed after the test."""
    names: list[str] = []

    def start(*arguments: str) -> str:
        names.append(docker("run", "--detach", *LOCKED, *arguments))
        return names[-1]

    yield start
    for name in names:
        run("docker", "rm", "--force", "--volumes", name)


NO_KAFKA: Final = ("--env", "HEADGATE_LOG__URL=kafka://nowhere:9092")
ROLES: Final = (
    (("headgate", "dev", "--host", "0.0.0.0"), ()),
    (("headgate", "gateway"), ("--env", "HEADGATE_CLUSTER__DISPATCHERS=nowhere:8090")),
    (("headgate", "ingest"), NO_KAFKA),
    (("headgate", "dispatcher"), (*NO_KAFKA, "--tmpfs", "/var/lib/headgate:uid=10001")),
)  # fmt: skip


@pytest.mark.parametrize(("command", "options"), ROLES, ids=[command[1] for command, _ in ROLES])
async def test_role_runs_locked_down_is_healthy_and_stops_with_0(
    started: Callable[..., str], command: tuple[str, ...], options: tuple[str, ...]
) -> None:
    name = started(*options, IMAGE, *command)

    def health() -> bool:
        state = json.loads(docker("inspect", "--format", "{{json .State}}", name))
        assert state["Running"], docker("logs", name)
        return bool(state["Health"]["Status"] == "healthy")

    took = await until("healthy", health, 60, poll_s=0.5)
    began = time.monotonic()
    docker("stop", "--time", str(GRACE_S), name)
    stopped = time.monotonic() - began
    state = json.loads(docker("inspect", "--format", "{{json .State}}", name))
    print(f"{command[1]}: healthy after {took:.0f} s, stopped in {stopped:.1f} s with {state['ExitCode']}")
    assert state["ExitCode"] == 0 and stopped < GRACE_S - 5


def test_unknown_setting_ends_with_2_and_one_line() -> None:
    status, text = run("docker", "run", "--rm", *LOCKED, "--env", "HEADGATE_AUTH__SECRT=1", IMAGE, "headgate", "dev")
    assert status == 2 and len(text.splitlines()) == 1 and "HEADGATE_AUTH__SECRET" in text


def test_layers_of_the_application_are_small() -> None:
    history = docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", IMAGE)
    rows = [line.split("\t", 1) for line in history.splitlines()]
    ours = rows[: next(at for at, row in enumerate(rows) if "org.opencontainers.image.title" in row[1]) + 1]
    size = sum(int(row[0]) for row in ours) / 1e6
    inside = "cd /opt/headgate/lib/python3*/site-packages && du -sk -- * | sort -rn | head -5"
    largest = docker("run", "--rm", *LOCKED, IMAGE, "sh", "-c", inside).replace("\t", " kB ").splitlines()
    print(f"application layers {size:.1f} MB of {LAYERS_MB}; largest parts: {'; '.join(largest)}")
    assert 20 < size < LAYERS_MB


def test_nothing_of_the_repository_but_the_packages_is_inside() -> None:
    inside = "id -u; ls -A /var/lib/headgate /src /wheels /tools 2>/dev/null; command -v gcc || true"
    text = docker("run", "--rm", *LOCKED, IMAGE, "sh", "-c", inside)
    assert text.split() == ["10001", "/var/lib/headgate:"], text


def test_labels_say_which_version_and_which_commit() -> None:
    labels = json.loads(docker("inspect", "--format", "{{json .Config.Labels}}", IMAGE))
    ours = {name.rpartition("image.")[2]: value for name, value in labels.items() if name.startswith("org.opencont")}
    status, head = run("git", "rev-parse", "HEAD")
    assert ours["version"] == IMAGE.rpartition(":")[2] and ours["base.name"].endswith(BASE_IMAGE)
    assert status != 0 or ours["revision"] in (head.strip(), "unknown"), "built from another commit: make image"


def test_the_list_of_components_is_what_can_be_imported() -> None:
    listed = json.loads(docker("run", "--rm", *LOCKED, IMAGE, "cat", "/opt/headgate/sbom.cdx.json"))
    code = "from importlib.metadata import distributions as d; print(*(f'{x.name}=={x.version}' for x in d()))"
    there = set(docker("run", "--rm", *LOCKED, IMAGE, "/opt/headgate/bin/python", "-c", code).split())
    components = [*listed["components"], listed["metadata"]["component"]]
    assert {f"{each['name']}=={each['version']}" for each in components} == there
    print(f"{len(components)} components")


@pytest.fixture
def compose() -> Iterator[Callable[..., str]]:
    """docker compose on a project of its own; down after the test, volumes too."""
    program = wheel_tool("docker-compose")
    ports = {"HEADGATE_PORT": PORT, "PROMETHEUS_PORT": PROMETHEUS_PORT}
    environ = ports | {
        "HEADGATE_SECRET": SECRET,
        "HEADGATE_CLUSTER_SECRET": SECRET[::-1],
        "HEADGATE_IMAGE": IMAGE,
        "COMPOSE_PROGRESS": "quiet",
    }

    def call(*arguments: str) -> str:
        status, text = run(
            program, "--file", COMPOSE, "--project-name", PROJECT, *arguments, timeout_s=300, environ=environ
        )
        assert status == 0, f"compose {' '.join(arguments)}: {text}"
        return text.strip()

    yield call
    call("--profile", "observability", "down", "--volumes", "--timeout", str(GRACE_S))


def token(sub: str) -> str:
    return mint(TokenKey(SECRET), Caller(sub, service=True, admin=True), now_s=time.time(), ttl_s=3_600.0)


async def test_compose_loses_nothing_when_a_gateway_and_a_dispatcher_are_killed(compose: Callable[..., str]) -> None:
    began = time.monotonic()
    compose("up", "--detach", "--wait", "--no-build")
    up = time.monotonic() - began
    given = compose(
        "run", "--rm", "--no-deps", "--no-TTY", "ingest", "headgate", "token", "mint", "--sub", "me"
    ).split()
    assert any(part.count(".") == 2 for part in given), given
    url = f"http://127.0.0.1:{PORT}"
    async with Traffic(url, url, token, topics=8, listeners=24) as traffic:
        await traffic.more(400)
        compose("kill", "gateway-1")
        await traffic.more(400)
        compose("start", "gateway-1")
        compose("kill", "dispatcher-1")
        away = await traffic.more(400)
        compose("start", "dispatcher-1")
        compose("kill", "gateway-2")
        await traffic.more(400)
        compose("start", "gateway-2")
        print(f"up in {up:.0f} s; {away:.1f} s for 400 messages with a dispatcher killed; {await traffic.check()}")
        assert sum(each.connections - 1 for each in traffic.listeners) >= len(traffic.listeners)


async def test_acknowledgements_dead_letters_and_lifecycle_events_pass_the_proxy(compose: Callable[..., str]) -> None:
    compose("up", "--detach", "--wait", "--no-build")
    url = f"http://127.0.0.1:{PORT}"
    told = await fails_and_is_mended(url, token, watch_s=WATCH_S)
    called = ("run", "--rm", "--no-deps", "--no-TTY", "--env", f"HEADGATE_CLIENT__TOKEN={token('cli')}", "--env",
              "HEADGATE_CLIENT__URL=http://proxy:8080", "ingest", "headgate")  # fmt: skip
    line = json.loads(compose(*called, "subscribe", TOPIC, "--ack", "--from", "earliest", "--count", "1"))
    assert line["payload"] == BROKEN and "attempt" not in line, line
    assert compose(*called, "dead-letters", "list", "--topic", TOPIC) == ""
    assert json.loads(compose(*called, "topics", "stats", TOPIC))["published"] == 2
    assert json.loads(compose(*called, "topics", "flush", TOPIC))["gateways"] == 0, "nobody follows it now"
    print(told)


async def test_an_ingest_with_an_open_stream_of_events_stops_in_time(compose: Callable[..., str]) -> None:
    compose("up", "--detach", "--wait", "--no-build")
    watcher = Watcher(f"http://127.0.0.1:{PORT}", token("operator"))
    watching = asyncio.create_task(watcher.run())
    await asyncio.wait_for(watcher.opened.wait(), 10)
    began = time.monotonic()
    await asyncio.to_thread(compose, "stop", "ingest")
    took = time.monotonic() - began
    await asyncio.gather(watching, return_exceptions=True)
    (last,) = [event for event in watcher.events if "code" in event]
    print(f"an ingest with an open stream of events stopped in {took:.1f} s; the stream ended with {last}")
    assert last["code"] == 4601 and took < GRACE_S - 5


async def test_alerts_fire_for_real(compose: Callable[..., str]) -> None:
    """A killed dispatcher and a stopped Kafka, on the Prometheus of the profile with its own configuration."""
    compose("--profile", "observability", "up", "--detach", "--wait", "--no-build", *CORE, "prometheus")
    url = f"http://127.0.0.1:{PORT}"
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{PROMETHEUS_PORT}", trust_env=False) as prometheus,
        Traffic(url, url, token, topics=4, listeners=8) as traffic,
    ):

        async def firing() -> set[str]:
            alerts = (await prometheus.get("/api/v1/alerts")).json()["data"]["alerts"]
            return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

        async def fires(name: str) -> bool:
            return name in await firing()

        await traffic.more(1_000)
        assert await firing() == set(), "nothing fires while all is well"
        compose("kill", "dispatcher-1")
        dispatcher = await until("HeadgateTargetDown", lambda: fires("HeadgateTargetDown"), 120, poll_s=1.0)
        compose("start", "dispatcher-1")
        compose("stop", "kafka")
        kafka = await until("HeadgatePublishErrors", lambda: fires("HeadgatePublishErrors"), 300, poll_s=1.0)
        compose("start", "kafka")
        back = await traffic.more(100, timeout_s=120)
        print(
            f"HeadgateTargetDown fired {dispatcher:.0f} s after a dispatcher was killed, HeadgatePublishErrors "
            f"{kafka:.0f} s after Kafka was stopped; {back:.0f} s after its start: {await traffic.check()}"
        )


def test_an_init_run_again_changes_nothing(compose: Callable[..., str]) -> None:
    first = compose("run", "--rm", "--no-TTY", "init")
    assert "created headgate.messages" in first, first
    again = compose("run", "--rm", "--no-TTY", "init")
    assert "nothing to do: all topics exist" in again, again


def test_the_kafka_fixture_takes_a_container_when_the_jars_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of `tests/kafka/provide.py` that this repository's own tests never need."""
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415 - only here

    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)

    def unavailable(*_: Any) -> list[Path]:
        raise jars.JarUnavailable("taken away by the test")

    monkeypatch.delenv(provide.GIVEN, raising=False)
    monkeypatch.setattr(jars, "fetch", unavailable)
    with provide.provide() as found:
        assert isinstance(found, Provided) and found.source.startswith("apache/kafka:")
        command = ("-m", "headgate.cli.main", "init", "--log.url", f"kafka://{found.bootstrap}", "--log.shards", "2")
        status, text = run(ROOT / ".venv" / "bin" / "python", *command)
        assert status == 0, text
        print(f"{found.source} at {found.bootstrap}: {text.splitlines()[-1]}")
