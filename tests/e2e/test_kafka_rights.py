"""Kafka with TLS, SASL and ACLs: the rights on the operator's page are enough, and one less is said in one line."""

import asyncio
import json
import logging
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from dispatcher.declared_loss import recover_with_loss
from headgate.core.wire.records import LogName
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions, LogSecurity
from headgate.runtime.logs.serving import check_unserved
from headgate.runtime.ports import LogError, LogUnavailable
from tests.certificates import Authority
from tests.dispatcher.restore_bed import CLOCK, backup_of, fill_log, restored
from tests.e2e.clients import Publisher, Subscriber
from tests.e2e.harness import Deployment, Stage, token, until
from tests.kafka.cluster import KafkaCluster
from tests.kafka.rights import Acls, Right, rights_on_page
from tests.kafka.settings import Secured
from tests.opened_log import opened_log

PASSWORDS = {role: f"{role}-Passw0rd" for role in ("init", "ingest", "dispatcher", "maintenance")}
CLEAR_S = 15.0  # for the line; a hang takes longer
AT_ONCE = 6  # cases; most of their time they wait for the broker


@pytest.fixture(scope="module")
def secured(kafka_jars: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KafkaCluster, Path]]:
    """Yields one broker for all tests here, whose logs differ by prefix, and the file with its authority."""
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder / "authority")
    pair = authority.sign("broker")
    keystore = folder / "keystore.pem"
    keystore.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())
    with KafkaCluster(secured=Secured(authority.ca, keystore, PASSWORDS)) as cluster:
        yield cluster, authority.ca


@pytest.fixture
async def acls(secured: tuple[KafkaCluster, Path]) -> AsyncIterator[Acls]:
    async with Acls(secured[0].bootstrap) as found:
        yield found


def test_the_page_lists_rights_for_every_user_and_every_log() -> None:
    rights = rights_on_page("p")
    assert {right.role for right in rights} == set(PASSWORDS)
    for role in PASSWORDS:
        topics = {right.name for right in rights if right.role == role and right.resource == "topic"}
        assert topics == {f"p.{log.value}" for log in LogName}


async def test_the_rights_on_the_page_are_enough(
    secured: tuple[KafkaCluster, Path], acls: Acls, stage: Stage, tmp_path: Path
) -> None:
    """Init, publish, follow, and the same after a fail-over: SCRAM over TLS, a user for each role, links over TLS."""
    cluster, ca = secured
    await acls.give(rights_on_page("acl"))
    settings = {
        "log.security.protocol": "SASL_SSL",
        "log.security.ca": ca,
        "log.security.mechanism": "SCRAM-SHA-512",
        "log.security.user": "init",
        "log.security.password": PASSWORDS["init"],
    }
    authority = Authority(tmp_path / "links")
    pair = authority.sign("headgate")
    links = {"cluster.tls.ca": authority.ca, "cluster.tls.certificate": pair.certificate, "cluster.tls.key": pair.key}
    deployment = Deployment(stage, cluster.secure_bootstrap, "acl", dispatchers=2, settings=settings | links)
    for role in (*deployment.dispatchers, *deployment.ingests):
        user = role.name.partition("-")[0]
        role.settings |= {"log.security.user": user, "log.security.password": PASSWORDS[user]}
    for role in deployment.gateways:
        for name in settings:
            del role.settings[name]
    await deployment.start(shards=4)
    topics = [f"t{n}" for n in range(8)]
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher(deployment.ingests[0].url, token("me", admin=True)))
        await publisher.create_all(topics)
        await _publish(publisher, topics, 1)
        deployment.dispatchers[0].signal(signal.SIGTERM)  # writes its snapshots, too
        assert await deployment.dispatchers[0].ended(30) == 0
        await deployment.ingests[0].ready(60)
        await _publish(publisher, topics, 2)
        gateways = [gateway.url for gateway in deployment.gateways]
        reader = Subscriber("reader", gateways, topics, token=token("me", admin=True), start="earliest")
        await stack.enter_async_context(reader)
        await until("both messages of each topic", lambda: reader.count >= 2 * len(topics), 30)
        for topic in topics:
            assert [json.loads(seen.payload) for seen in reader.messages[topic]] == [{"n": 1}, {"n": 2}]
    text = "".join(role.errors() for role in deployment.roles)
    assert "no right" not in text
    assert not any(word in text for word in PASSWORDS.values())


async def test_the_rights_of_maintenance_are_enough(
    secured: tuple[KafkaCluster, Path], acls: Acls, tmp_path: Path
) -> None:
    """Its user backs up, restores into new logs, and declares the loss of a shard."""
    cluster, ca = secured
    first, second = (replace(_options(cluster, ca, f"kept{n}", "maintenance"), shards=2) for n in (1, 2))
    await acls.give([*rights_on_page("kept1"), *rights_on_page("kept2")])
    for options in (first, second):
        await init_kafka(replace(_options(cluster, ca, options.prefix, "init"), shards=2))
    anybody = LogOptions(f"kafka://{cluster.bootstrap}", "kept1", shards=2)
    async with opened_log(anybody) as log:
        await fill_log(log)
    async with opened_log(first) as log:
        file = await backup_of(log)
    async with opened_log(second) as log:
        report = await restored(log, file, tmp_path)
        assert report.topics > 0 and report.members > 0
    async with opened_log(anybody) as log:
        await log.truncate_before(LogName.MESSAGES, 0, 3)
    async with opened_log(first) as log:
        loss = await recover_with_loss(log, 0, CLOCK, lambda: check_unserved(first))
        assert loss.lost_to == 3 and loss.messages > 0


async def _publish(publisher: Publisher, topics: Sequence[str], number: int) -> None:
    for topic in topics:
        answer = await publisher.publish(topic, {"n": number})
        assert answer.status == 200, answer


async def test_one_right_less_is_one_clear_line(
    secured: tuple[KafkaCluster, Path], acls: Acls, caplog: pytest.LogCaptureFixture
) -> None:
    """Each right of each role, with PLAIN over TLS. Every case has logs of its own; a few run at once."""
    cluster, ca = secured
    gate = asyncio.Semaphore(AT_ONCE)

    async def unclear(number: int, right: Right) -> str | None:
        prefix = f"p{number:02}"
        missing = right._replace(name=f"{prefix}{right.name}")
        async with gate:
            rights = [each._replace(name=f"{prefix}{each.name}") for each in rights_on_page("")]
            await acls.give(each for each in rights if each.role in ("init", right.role))
            if right.role != "init":
                await init_kafka(_options(cluster, ca, prefix, "init"))
            await acls.take(missing)
            try:
                async with asyncio.timeout(CLEAR_S):
                    said = await _use(missing, _options(cluster, ca, prefix, right.role), caplog)
            except TimeoutError:
                said = "nothing: it hangs"
        return None if _is_clear(missing, said) else f"{missing}: {said}"

    found = await asyncio.gather(*(unclear(*each) for each in enumerate(rights_on_page(""))))
    assert not any(found), "\n".join(filter(None, found))


def _is_clear(missing: Right, said: str) -> bool:
    """Tells whether the line names the missing right. All names are of this case alone."""
    if f"the Kafka user has no right {missing.operation} on {missing.resource} {missing.name} " in said:
        return True
    hidden = (  # the only right on a topic: without it the topic cannot be seen
        f"has no {missing.name}; run: headgate init",
        f"the Kafka user has no right Describe on topic {missing.name} ",
    )
    return missing.operation != "Create" and any(line in said for line in hidden)


def _options(cluster: KafkaCluster, ca: Path, prefix: str, user: str) -> LogOptions:
    security = LogSecurity(protocol="SASL_SSL", ca=str(ca), mechanism="PLAIN", user=user, password=PASSWORDS[user])
    return LogOptions(f"kafka://{cluster.secure_bootstrap}", prefix, shards=1, security=security)


async def _use(right: Right, options: LogOptions, caplog: pytest.LogCaptureFixture) -> str:
    """Does what needs a right; returns what was said."""
    try:
        if right.role == "init":
            await init_kafka(options)
        else:
            await _use_log(right, options, caplog)
    except LogError as error:
        return str(error)
    return " ".join(record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)


async def _use_log(right: Right, options: LogOptions, caplog: pytest.LogCaptureFixture) -> None:
    async with opened_log(options) as log:
        if right.role == "maintenance" and right.resource == "group":
            await check_unserved(options)
        elif right.resource == "group":
            group = log.group("n1")
            await group.start()
            while not any("no right" in line and right.name in line for line in caplog.messages):
                await asyncio.sleep(0.05)
            await group.stop()
        else:
            await _use_topic(right, log)


async def _use_topic(right: Right, log: KafkaLog) -> None:
    name = next(each for each in LogName if right.name.endswith(f".{each.value}"))
    if right.operation == "Write":
        await log.append(name, 0, b"k", b"v")
    elif right.operation == "Delete":
        await log.append(name, 0, b"k", b"v")
        await log.truncate_before(name, 0, 1)
    else:
        reader = await log.reader(name, 0, 0)
        await reader.read(1, CLEAR_S)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("password", "Invalid username or password"),
        ("ca", "certificate verify failed"),
        ("plain", "closed"),
    ],
)
async def test_a_broker_that_refuses_us_is_one_line(
    secured: tuple[KafkaCluster, Path], tmp_path: Path, spoil: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong password, another authority, and no TLS at the TLS port; never the password itself."""
    cluster, ca = secured
    if spoil == "ca":
        ca = Authority(tmp_path / "other").ca
    options = _options(cluster, ca, "p", "ingest")
    if spoil == "password":
        security = LogSecurity(protocol="SASL_SSL", ca=str(ca), mechanism="PLAIN", user="ingest", password="wr0ng-word")
        options = LogOptions(options.url, "p", security=security)
    if spoil == "plain":
        options = LogOptions(options.url, "p")
    with pytest.raises(LogUnavailable) as caught:
        async with asyncio.timeout(60):
            await KafkaLog(options).open()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert any(words in line for line in lines), lines
    assert "the aiokafka line before it says why; check log.url and log.security" in str(caught.value)
    assert "wr0ng-word" not in str(caught.value) + caplog.text
    assert "\n" not in str(caught.value)
