"""Checks of Kafka for `headgate doctor`: brokers, topics against what `init` makes, rights, and the brokers' clock."""

from collections.abc import AsyncIterator, Collection, Iterator
from typing import Final, NamedTuple

from headgate.core.wire.control import PROBE_KEY
from headgate.core.wire.records import LogName
from headgate.runtime.appender import PROBE
from headgate.runtime.findings import Finding, fail, ok, warn
from headgate.runtime.logs.embedded import SettingsConflict
from headgate.runtime.logs.kafka_admin import KafkaAdmin, KafkaTopic, NoDescribeConfigs
from headgate.runtime.logs.kafka_connect import KafkaDeployment, LogNotInitialised, deployment_of
from headgate.runtime.logs.kafka_group import SESSION_MS as GROUP_SESSION_MS
from headgate.runtime.logs.kafka_init import DRIFTING, FIXED, MAX_REPLICATION, topic_configs
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.ports import Clock, LogError, LogUnavailable

ALL_LOGS: Final = tuple(LogName)
READ_BY_INGEST: Final = (LogName.MESSAGES, LogName.SNAPSHOTS)  # docs/operations.md, rights in Kafka
MESSAGE_BYTES: Final = 1_048_588  # Kafka's default of message.max.bytes: our largest record, and its frame
SESSION_MS: Final = 3_000  # measured: publishes resume 3 s after a broker's death, and none fails
CLOCK_WARN_S: Final = 1.0
CLOCK_FAIL_S: Final = 5.0  # the leeway of a token's expiry
_READ_S: Final = 2.0


class _Seen(NamedTuple):
    """What Kafka has of a deployment. `configs` is None where the user may not read the topics' settings."""

    deployment: KafkaDeployment
    brokers: int
    topics: dict[str, KafkaTopic]
    configs: dict[str, dict[str, str | None]] | None

    def least_in_sync(self, topic: str) -> int:
        """Returns min.insync.replicas of a topic, 1 where it is not known."""
        return _number((self.configs or {}).get(topic, {}), "min.insync.replicas") or 1


async def check_kafka(
    options: LogOptions, clock: Clock, *, writes: bool = True, reads: Collection[LogName] = ALL_LOGS
) -> AsyncIterator[Finding]:
    """Yields what is found. `reads` are the logs that must be readable.

    With `writes` one probe record is appended to shard 0, which every reader ignores.
    """
    admin = KafkaAdmin(deployment_of(options))
    try:
        try:
            seen, brokers = await _look(admin, deployment_of(options)), await admin.broker_configs()
        except LogUnavailable as error:
            yield fail("kafka.reachable", str(error), "check log.url and log.security, and that the brokers run")
            return
    finally:
        await admin.close()
    yield ok("kafka.reachable", f"{seen.deployment.address}, {seen.brokers} brokers")
    for found in (*check_brokers(brokers), *_check_topics(seen, options)):
        yield found
    if len(seen.topics) == len(LogName):
        async for found in _check_use(options, clock, reads, writes=writes):
            yield found


async def _look(admin: KafkaAdmin, deployment: KafkaDeployment) -> _Seen:
    brokers = await admin.brokers()
    topics = await admin.topics([deployment.topic(log) for log in LogName])
    configs: dict[str, dict[str, str | None]] | None = {}
    try:
        configs = await admin.configs(list(topics)) if topics else {}
    except NoDescribeConfigs:
        configs = None
    return _Seen(deployment, brokers, topics, configs)


# -- brokers


def check_brokers(found_by_node: dict[str, dict[str, str | None] | None]) -> Iterator[Finding]:
    """Checks the settings of brokers by their node ids, None of one that does not answer."""
    brokers = {node: settings for node, settings in found_by_node.items() if settings is not None}
    away = ", ".join(node for node in found_by_node if node not in brokers)
    if away:
        yield warn("kafka.brokers", f"broker {away} does not answer", "start it, or look at the network to it")
    elif not brokers:
        yield warn(
            "kafka.brokers", "the brokers' settings cannot be read", "give the user DescribeConfigs on the cluster"
        )
    checks = (_check_session, _check_group_session, _check_message_size, _check_election, _check_auto_create)
    for check in checks if brokers else ():
        found = [check(node, settings) for node, settings in sorted(brokers.items())]
        yield next((each for each in found if each.mend), found[0])


def _check_session(node: str, settings: dict[str, str | None]) -> Finding:
    name, value = "kafka.broker_session", _number(settings, "broker.session.timeout.ms")
    if value is None or value <= SESSION_MS:
        return ok(name, "a broker that dies costs about 3 s")
    seen = f"broker {node} has broker.session.timeout.ms={value}: one that dies costs {value / 1000 + 3:.0f} s"
    return warn(name, seen, f"set broker.session.timeout.ms={SESSION_MS}, broker.heartbeat.interval.ms=500")


def _check_group_session(node: str, settings: dict[str, str | None]) -> Finding:
    name = "kafka.group_session"
    least, most = (_number(settings, f"group.{end}.session.timeout.ms") for end in ("min", "max"))
    if (least is None or least <= GROUP_SESSION_MS) and (most is None or most >= GROUP_SESSION_MS):
        return ok(name, "the brokers take the dispatchers' session")
    seen = f"broker {node} takes sessions of {least} to {most} ms, and a dispatcher's is {GROUP_SESSION_MS} ms"
    mend = f"let group.min.session.timeout.ms and group.max.session.timeout.ms include {GROUP_SESSION_MS}"
    return fail(name, f"{seen}: it cannot join", mend)


def _check_message_size(node: str, settings: dict[str, str | None]) -> Finding:
    name, value = "kafka.message_size", _number(settings, "message.max.bytes")
    if value is None or value >= MESSAGE_BYTES:
        return ok(name, "the brokers take our largest record")
    seen = f"broker {node} has message.max.bytes={value}, and our records have up to {MESSAGE_BYTES}"
    return fail(name, seen, f"set message.max.bytes={MESSAGE_BYTES} or more")


def _check_election(node: str, settings: dict[str, str | None]) -> Finding:
    name = "kafka.unclean_election"
    if settings.get("unclean.leader.election.enable") != "true":
        return ok(name, "a replica that is behind never leads")
    seen = f"broker {node} lets a replica that is behind lead: acknowledged messages may be lost"
    return fail(name, seen, "set unclean.leader.election.enable=false")


def _check_auto_create(node: str, settings: dict[str, str | None]) -> Finding:
    name = "kafka.auto_create"
    if settings.get("auto.create.topics.enable") != "true":
        return ok(name, "no topic is created by accident")
    seen = f"broker {node} creates topics by itself, with settings that do not fit"
    return warn(name, seen, "set auto.create.topics.enable=false")


# -- topics


def _check_topics(seen: _Seen, options: LogOptions) -> Iterator[Finding]:
    names = [seen.deployment.topic(log) for log in LogName]
    missing = [name for name in names if name not in seen.topics]
    if missing:
        yield fail("kafka.topics", f"{', '.join(missing)} not found", "run headgate init; or the user lacks Describe")
    else:
        yield ok("kafka.topics", f"all {len(names)} are there")
    if not seen.topics:
        return
    yield _check_partitions(seen, options)
    yield _check_leaders(seen)
    yield _check_in_sync(seen)
    yield _check_replication(seen)
    if seen.configs is None:
        why = "the user has no right DescribeConfigs on the topics: their settings are not looked at"
        yield warn("kafka.topic_settings", why, "run doctor once more with the Kafka user of headgate init")
    else:
        yield from _check_configs(seen, seen.configs, options)


def _check_partitions(seen: _Seen, options: LogOptions) -> Finding:
    """Partitions that somebody added lead records to another shard than their topic's."""
    name, deployment = "kafka.partitions", seen.deployment
    counts = {
        topic: seen.topics[topic].partitions
        for topic in (deployment.topic(log) for log in LogName if log is not LogName.REVOCATIONS)
        if topic in seen.topics
    }
    revocations = seen.topics.get(deployment.topic(LogName.REVOCATIONS))
    if revocations is not None and revocations.partitions != 1:
        counts[deployment.topic(LogName.REVOCATIONS)] = revocations.partitions
    said = ", ".join(f"{topic} has {count}" for topic, count in counts.items())
    if len(set(counts.values())) > 1:
        return fail(name, f"the logs differ: {said}", "never add partitions; move to another log.prefix, or restore")
    shards = next(iter(counts.values()), 0)
    if options.shards not in (None, shards):
        return fail(name, f"log.shards is {options.shards} and the logs have {shards}", "leave log.shards unset")
    return ok(name, f"{shards} shards")


def _check_leaders(seen: _Seen) -> Finding:
    name = "kafka.leaders"
    without = [topic for topic, found in seen.topics.items() if found.led < found.partitions]
    if without:
        return fail(name, f"partitions of {', '.join(without)} have no leader", "start the brokers that have them")
    return ok(name, "every partition has a leader")


def _check_in_sync(seen: _Seen) -> Finding:
    name = "kafka.in_sync"
    start = "start the brokers that are missing; if all run, look at their disks and network"
    behind = [topic for topic, found in seen.topics.items() if found.in_sync < found.replication]
    for topic in behind:
        needed = seen.least_in_sync(topic)
        if seen.topics[topic].in_sync < needed <= seen.topics[topic].replication:
            why = f"a partition of {topic} has {seen.topics[topic].in_sync} replicas in sync"
            return fail(name, f"{why}, min.insync.replicas={needed}: it takes no record", start)
    if behind:
        return warn(name, f"partitions of {', '.join(behind)} have replicas that are away or behind", start)
    return ok(name, "every replica is in sync")


def _check_replication(seen: _Seen) -> Finding:
    name = "kafka.replication"
    fewest = min(found.replication for found in seen.topics.values())
    for topic, found in seen.topics.items():
        needed = seen.least_in_sync(topic)
        if needed > found.replication:
            why = f"{topic} has {found.replication} replicas and min.insync.replicas={needed}: it takes no record"
            return fail(name, why, "lower min.insync.replicas, or add replicas")
        if found.replication > 1 and needed == found.replication:
            why = f"{topic} has as many replicas as min.insync.replicas={needed}: publishes stop when one broker does"
            return warn(name, why, "add a replica (kafka-reassign-partitions.sh)")
    if fewest < min(MAX_REPLICATION, seen.brokers):
        return warn(name, f"{fewest} replicas on {seen.brokers} brokers", "add replicas (kafka-reassign-partitions.sh)")
    if fewest < MAX_REPLICATION:
        return warn(name, f"{fewest} replicas: a disk that dies takes messages with it", "run three brokers or more")
    return ok(name, f"{fewest} replicas")


def _check_configs(seen: _Seen, found: dict[str, dict[str, str | None]], options: LogOptions) -> Iterator[Finding]:
    wrong, drift, small, unclean = [], [], [], []
    for log in LogName:
        topic = seen.deployment.topic(log)
        configs = found.get(topic)
        if configs is None:
            continue
        wanted = topic_configs(log, seen.topics[topic].replication, options.keep_ms, options.keep_bytes)
        wrong += [f"{topic}: {name}={configs.get(name)}" for name in FIXED if configs.get(name) != wanted[name]]
        drift += [
            f"{topic}: {name}={configs.get(name)}, init would set {wanted[name]}"
            for name in DRIFTING
            if name in wanted and configs.get(name) != wanted[name]
        ]
        unclean += [topic] if configs.get("unclean.leader.election.enable") == "true" else []
        size = _number(configs, "max.message.bytes")
        small += [f"{topic}: max.message.bytes={size}"] if size is not None and size < MESSAGE_BYTES else []
    if wrong:
        yield fail("kafka.topic_settings", "; ".join(wrong), "alter them with kafka-configs.sh to what init sets")
    else:
        yield ok("kafka.topic_settings", "as init makes them")
    if drift:
        yield warn("kafka.retention", "; ".join(drift), "keep it if it is meant, else alter it with kafka-configs.sh")
    if unclean:
        seen_here = f"{', '.join(unclean)}: a replica that is behind may lead, and acknowledged messages be lost"
        mend = "set unclean.leader.election.enable=false on the topics with kafka-configs.sh"
        yield fail("kafka.topic_unclean_election", seen_here, mend)
    if small:
        yield fail("kafka.topic_message_size", "; ".join(small), f"set max.message.bytes={MESSAGE_BYTES} or more")


# -- use: what the roles do with the logs


async def _check_use(
    options: LogOptions, clock: Clock, reads: Collection[LogName], *, writes: bool
) -> AsyncIterator[Finding]:
    log = KafkaLog(options, node="doctor")
    try:
        await log.open()
        yield ok("kafka.cluster", f"cluster id {log.cluster_id}")
        if log.partitions != log.shards:
            seen = f"the config record says {log.shards} shards and the messages have {log.partitions} partitions"
            yield fail("kafka.config", seen, "never add partitions; move to another log.prefix, or restore")
        for name in reads:
            await _read(log, name)
        yield ok("kafka.read", f"{len(reads)} logs can be read")
        if writes:
            before = clock.wall_ms()
            appended = await log.append(LogName.MESSAGES, 0, PROBE_KEY, PROBE)
            yield ok("kafka.write", "a probe record was acknowledged")
            yield check_clock(appended.ts, before, clock.wall_ms())
    except SettingsConflict as error:
        yield fail("kafka.cluster", str(error), "use the log.prefix and settings that init was run with")
    except LogNotInitialised as error:
        yield fail("kafka.config", str(error), "run headgate init; in a shard that something else wrote to it says so")
    except LogError as error:
        yield fail("kafka.rights", str(error), "give the user the rights that docs/operations.md lists")
    finally:
        await log.close()


async def _read(log: KafkaLog, name: LogName) -> None:
    """Reads what there is at the end of part 0. Raises LogError."""
    bounds = await log.bounds(name, 0)
    reader = await log.reader(name, 0, max(bounds.first, bounds.end - 1), background=True)
    try:
        await reader.read(1, _READ_S if bounds.end > bounds.first else 0)
    finally:
        await reader.close()


def check_clock(theirs_ms: int, before_ms: int, after_ms: int) -> Finding:
    """Checks a broker's clock, which stamped a record between two moments of ours (Unix milliseconds)."""
    name = "clock"
    apart_s = max(theirs_ms - after_ms, before_ms - theirs_ms, 0) / 1000
    seen = f"the broker's clock and this machine's differ by {apart_s:.1f} s or more"
    if apart_s >= CLOCK_FAIL_S:
        return fail(name, seen, "run a time service (chrony, systemd-timesyncd) on both: tokens expire by the clock")
    if apart_s >= CLOCK_WARN_S:
        return warn(name, seen, "run a time service on both: the latency metrics are wrong by as much")
    return ok(name, "the broker's clock agrees with this machine's")


def _number(settings: dict[str, str | None], name: str) -> int | None:
    value = settings.get(name) or ""
    return int(value) if value.lstrip("-").isdecimal() else None
