"""`headgate doctor` of a whole installation: clean it is all ok; each planted fault is named, and what mends it.

Three real brokers (SASL over TLS beside the plain listener), a dispatcher that runs, links over TLS, files, variables.
"""

import asyncio
import datetime
import json
import resource
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from headgate.cli.main import main
from headgate.core.wire.records import LogName
from headgate.runtime.logs.kafka_init import topic_configs
from tests.certificates import DAY, Authority
from tests.e2e.harness import SECRET, Deployment, Stage
from tests.kafka.cluster import KafkaCluster
from tests.kafka.rights import Acls, Right, rights_on_page
from tests.kafka.settings import Secured

CLUSTER_SECRET = "cV9yT2x1S3ZXb0pQbUZhR2hIa0xpTnhaUXdFclR5"
PASSWORD = "ingest-Passw0rd"
PREFIX = "clean"
REPLICAS = 3
UNSEEN_SETTINGS = ("kafka.brokers", "kafka.topic_settings")  # to a user with the rights of a role
NOTICED_S = 30.0  # the other brokers notice after 3 s that one is away
Flags = dict[str, object]


class Installation(NamedTuple):
    """What runs, and the settings of its services as flags."""

    kafka: KafkaCluster
    flags: Flags
    authority: Authority
    folder: Path

    def secured(self, **security: object) -> Flags:
        """Returns the flags of a user who comes over SASL and TLS."""
        usual = {"ca": self.authority.ca, "mechanism": "SCRAM-SHA-512", "user": "ingest", "password": PASSWORD}
        found = {f"log.security.{name}": value for name, value in (usual | security).items()}
        return {"log.url": f"kafka://{self.kafka.secure_bootstrap}", "log.security.protocol": "SASL_SSL", **found}


@pytest.fixture(scope="module")
def clean(kafka_jars: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("clean")
    authority = Authority(folder / "authority")
    broker, service = authority.sign("broker"), authority.sign("service", valid=(-DAY, 400 * DAY))
    lasting = authority.renewed(folder / "lasting.pem", 400 * DAY)  # longer than doctor looks ahead
    keystore = folder / "keystore.pem"
    keystore.write_bytes(broker.key.read_bytes() + broker.certificate.read_bytes())
    stage = Stage(folder)
    tls = {"cluster.tls.ca": lasting, "cluster.tls.certificate": service.certificate, "cluster.tls.key": service.key}
    try:
        with KafkaCluster(3, secured=Secured(lasting, keystore, {"ingest": PASSWORD})) as kafka:
            links = {**tls, "cluster.secret": CLUSTER_SECRET}
            deployment = Deployment(stage, kafka.bootstrap, PREFIX, ingests=0, gateways=0, settings=links)
            asyncio.run(deployment.start(2))
            flags = {name: value for name, value in deployment.dispatchers[0].settings.items() if "drain" not in name}
            yield Installation(kafka, flags, authority, folder)
    finally:
        stage.close()


Doctor = Callable[..., dict[str, dict[str, str]]]


@pytest.fixture
def doctor(clean: Installation, capfd: pytest.CaptureFixture[str]) -> Doctor:
    """Runs the command on the installation with changed flags (None: without it); returns what is not ok by check."""

    def run(changed: Mapping[str, object | None] | None = None, *options: str) -> dict[str, dict[str, str]]:
        flags = {name: value for name, value in (clean.flags | dict(changed or {})).items() if value is not None}
        capfd.readouterr()
        status = main(["doctor", "--json", *options, *(part for n, v in flags.items() for part in (f"--{n}", str(v)))])
        lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        found = {line["check"]: line for line in lines if line["status"] != "ok"}
        assert len(lines) > len(found), lines
        assert status == any(line["status"] == "fail" for line in lines)
        assert all(line["mend"] for line in found.values())
        return found

    return run


def test_a_clean_installation_is_all_ok(doctor: Doctor) -> None:
    assert doctor() == {}


# -- settings, files and variables


class Planted(NamedTuple):
    """A fault in the settings: what they say, the check that names it, a part of what mends it, who else says so."""

    changed: Flags
    check: str
    mend: str
    also: tuple[str, ...] = ()


THE_ROLES = ("settings.ingest", "settings.dispatcher", "settings.gateway")
TOO_MANY = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
IN_SETTINGS = [
    Planted({"auth.secret": "change-me"}, "auth.secret", "openssl rand", THE_ROLES),
    Planted({"auth.secret": f'"{SECRET}"'}, "auth.secret", "take it away"),
    Planted({"auth.secret": f"{SECRET}\n"}, "auth.secret", "take it away"),
    Planted({"auth.secret_second": SECRET}, "auth.secret_second", "used before"),
    Planted({"auth.secret": CLUSTER_SECRET}, "cluster.secret", "openssl rand"),
    Planted({"http.origins": "*"}, "http.origins", "name the pages"),
    Planted({"limits.connections": TOO_MANY}, "descriptors", "ulimit -Hn"),
    Planted({"dispatcher.data": "/dev/null/index"}, "dispatcher.data", "set dispatcher.data"),
    Planted({"dispatcher.advertise": "dispatcher-0.invalid:8090"}, "dispatcher.advertise", "host:port"),
    Planted({"dispatcher.host": "::", "dispatcher.advertise": "127.0.0.1:1"}, "dispatcher.advertise", "host:port"),
    Planted({"gateway.port": 9090, "admin.port": 9090, "admin.host": "::"}, "gateway.port", "admin.port"),
    Planted({"cluster.tls.key": "/nowhere/tls.key"}, "cluster.tls", "certificate, its key"),
    Planted({"log.prefix": "cleam"}, "kafka.topics", "headgate init"),
    Planted({"log.shards": 64}, "kafka.partitions", "unset", ("kafka.cluster",)),
    Planted({"log.retention_ms": 3_600_000}, "kafka.retention", "kafka-configs.sh"),
    Planted({"log.url": "kafka://127.0.0.1:9"}, "kafka.reachable", "log.url"),
    Planted({"auth.jwks_url": "http://127.0.0.1:9/keys"}, "auth.jwks_url", "check the URL"),
]


@pytest.mark.parametrize("planted", IN_SETTINGS, ids=lambda planted: "-".join(planted.changed))
def test_a_fault_in_the_settings_is_named(doctor: Doctor, planted: Planted) -> None:
    found = doctor(planted.changed)
    for check in planted.also:
        assert found.pop(check)["mend"]
    named(found, planted.check, planted.mend)


def test_a_variable_with_one_underscore_is_named(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_LOG_RETENTION_MS", "3600000")
    monkeypatch.setenv("HEADGATE_INGEST_PORT", "tcp://10.0.0.1:8080")  # Kubernetes sets such for a service
    named(doctor(), "environment.HEADGATE_LOG_RETENTION_MS", "HEADGATE_LOG__RETENTION_MS")


def test_a_certificate_that_ends_soon_or_has_ended_is_named(doctor: Doctor, clean: Installation) -> None:
    for name, until, part in (("soon", 5 * DAY, "in 5 days"), ("over", -datetime.timedelta(hours=1), "has expired")):
        pair = clean.authority.sign(name, valid=(-2 * DAY, until))
        found = doctor(
            {"cluster.tls.certificate": pair.certificate, "cluster.tls.key": pair.key}, "--role", "dispatcher"
        )
        named(found, "cluster.tls.certificate", "new certificate")
        assert part in found["cluster.tls.certificate"]["detail"]


def test_a_page_where_keys_should_be_is_named(doctor: Doctor) -> None:
    class Login(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>please log in</html>")

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Login) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        named(doctor({"auth.jwks_url": f"http://127.0.0.1:{server.server_port}/"}), "auth.jwks_url", "set of keys")
        server.shutdown()


# -- links, to a dispatcher that runs


def test_what_keeps_a_link_from_opening_is_named(doctor: Doctor, clean: Installation) -> None:
    address = str(clean.flags["cluster.dispatchers"])
    stranger = Authority(clean.folder / "stranger")
    theirs = stranger.sign("service", valid=(-DAY, 400 * DAY))
    other = {
        "cluster.tls.ca": stranger.renewed(clean.folder / "stranger.pem", 400 * DAY),
        "cluster.tls.certificate": theirs.certificate,
        "cluster.tls.key": theirs.key,
    }
    none = dict.fromkeys(other)
    for changed in ({"cluster.secret": CLUSTER_SECRET[::-1]}, other, none, {"cluster.tls.server_name": "elsewhere"}):
        named(doctor(changed), f"links.{address}", "cluster.dispatchers, secret and tls")
    named(doctor({"cluster.dispatchers": f"{address},{address}"}), "cluster.dispatchers", "once")
    named(doctor({"cluster.dispatchers": "127.0.0.1:9"}), "links.127.0.0.1:9", "start the dispatcher")


# -- Kafka's topics


TOPIC_FAULTS = [
    ({"cleanup.policy": "compact"}, "kafka.topic_settings", "what init sets"),
    ({"message.timestamp.type": "CreateTime"}, "kafka.topic_settings", "what init sets"),
    ({"retention.ms": "3600000"}, "kafka.retention", "kafka-configs.sh"),
    ({"max.message.bytes": "10000"}, "kafka.topic_message_size", "max.message.bytes=1048588"),
    ({"unclean.leader.election.enable": "true"}, "kafka.topic_unclean_election", "enable=false"),
]


def test_topics_that_somebody_altered_are_named(doctor: Doctor, clean: Installation) -> None:
    usual = topic_configs(LogName.MESSAGES, REPLICAS)
    topic = f"{PREFIX}.messages"
    try:
        for configs, check, mend in TOPIC_FAULTS:
            altered(clean.kafka.bootstrap, topic, usual | configs)
            named(doctor(None, "--read-only"), check, mend)
    finally:
        altered(clean.kafka.bootstrap, topic, usual)


def test_replicas_that_do_not_fit_min_insync_replicas_are_named(doctor: Doctor, clean: Installation) -> None:
    for prefix, options, least in (("few", ("--log.replication", "1"), "1"), ("all", (), "3")):
        made(clean, prefix, *options)
        replicas = 1 if options else REPLICAS
        for log in LogName if not options else ():
            usual = topic_configs(log, replicas)
            altered(clean.kafka.bootstrap, f"{prefix}.{log.value}", usual | {"min.insync.replicas": least})
        found = doctor({"log.prefix": prefix})
        found.pop("kafka.retention", None)  # it lists every setting that init would make otherwise
        named(found, "kafka.replication", "add")


def test_partitions_that_somebody_added_are_named(doctor: Doctor, clean: Installation) -> None:
    made(clean, "grown")

    async def grow(admin: AIOKafkaAdminClient) -> None:
        await admin.create_partitions({"grown.messages": NewPartitions(3)})

    asyncio.run(with_admin(clean.kafka.bootstrap, grow))
    found = doctor({"log.prefix": "grown"}, "--read-only")
    assert "move to another log.prefix" in found["kafka.partitions"]["mend"]


# -- Kafka's users and brokers


def test_a_wrong_password_or_authority_and_a_right_that_is_missing_are_named(
    doctor: Doctor, clean: Installation
) -> None:
    stranger = Authority(clean.folder / "unknown").renewed(clean.folder / "unknown.pem", 400 * DAY)
    lasting = clean.flags["cluster.tls.ca"]
    for wrong in ({"password": "wrong", "ca": lasting}, {"ca": stranger}):
        named(doctor(clean.secured(**wrong)), "kafka.reachable", "log.security")
    rights = [right for right in rights_on_page(PREFIX) if right.role == "ingest"]
    kept = [right for right in rights if (right.name, right.operation) != (f"{PREFIX}.messages", "Write")]
    assert len(kept) < len(rights)

    async def give(wanted: list[Right]) -> None:
        async with Acls(clean.kafka.bootstrap) as acls:
            await acls.give(wanted)

    asyncio.run(give(kept))
    found = doctor(clean.secured(ca=lasting), "--role", "ingest")
    assert set(found) == {"kafka.rights", *UNSEEN_SETTINGS}
    assert f"Write on topic {PREFIX}.messages" in found["kafka.rights"]["detail"]
    assert "docs/operations.md" in found["kafka.rights"]["mend"]
    asyncio.run(give(rights))
    found = doctor(clean.secured(ca=lasting), "--role", "ingest")
    assert {check: line["status"] for check, line in found.items()} == dict.fromkeys(UNSEEN_SETTINGS, "warn")


def test_a_broker_that_is_away_is_named(doctor: Doctor, clean: Installation) -> None:
    node = clean.kafka.nodes[2]
    node.kill9()
    try:
        until = time.monotonic() + NOTICED_S
        while "kafka.in_sync" not in (found := doctor()) and time.monotonic() < until:
            assert found, "at no time all is ok"
        assert "kafka.in_sync" in found, found
        assert "start the brokers" in found["kafka.in_sync"]["mend"]
    finally:
        node.start()
        node.wait_ready(60)


def test_brokers_with_settings_that_hurt_are_named(doctor: Doctor, clean: Installation) -> None:
    hurting = {
        "broker.session.timeout.ms": "9000",
        "auto.create.topics.enable": "true",
        "group.min.session.timeout.ms": "10000",
        "message.max.bytes": "100000",
        "unclean.leader.election.enable": "true",
    }
    with KafkaCluster(more=hurting) as kafka:
        found = doctor({"log.url": f"kafka://{kafka.bootstrap}"})
    found.pop("kafka.topics")  # nobody ran init there
    assert {check: line["status"] for check, line in found.items()} == {
        "kafka.broker_session": "warn",
        "kafka.auto_create": "warn",
        "kafka.group_session": "fail",
        "kafka.message_size": "fail",
        "kafka.unclean_election": "fail",
    }
    for setting in hurting:
        assert any(f"{setting}" in line["mend"] for line in found.values()), setting


# -- how faults are planted


def named(found: dict[str, dict[str, str]], check: str, mend: str) -> None:
    """Fails unless the check, and no other, says what is wrong and what mends it."""
    assert list(found) == [check], found
    assert mend in found[check]["mend"], found


def made(clean: Installation, prefix: str, *options: str) -> None:
    """Runs `headgate init` for another deployment on the same Kafka."""
    url = f"kafka://{clean.kafka.bootstrap}"
    assert main(["init", "--log.url", url, "--log.prefix", prefix, "--log.shards", "2", *options]) == 0


def altered(bootstrap: str, topic: str, configs: Mapping[str, str]) -> None:
    """Sets the settings of a topic; all others go back to the broker's."""

    async def alter(admin: AIOKafkaAdminClient) -> None:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict(configs))])

    asyncio.run(with_admin(bootstrap, alter))


async def with_admin(bootstrap: str, work: Callable[[AIOKafkaAdminClient], Any]) -> None:
    """Does something as Kafka's administrator."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await work(admin)
    finally:
        await admin.close()
