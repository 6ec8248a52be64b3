"""`headgate init`: creates the Kafka topics and config records of a deployment.

It can run at any time and several times at once. It checks topics that exist and creates missing ones. It never alters
a topic: Kafka's alter_configs would reset all other settings to their defaults.
"""

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from headgate.core.wire.control import Config
from headgate.core.wire.records import LogName
from headgate.runtime.logs.embedded import KEEP_MS, SettingsConflict, config_record, parts_of
from headgate.runtime.logs.kafka_admin import KafkaAdmin, KafkaTopic
from headgate.runtime.logs.kafka_connect import KafkaDeployment, deployment_of, no_right
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.logs.shard_config import find_config, first_config
from headgate.runtime.ports import LogUnavailable

KAFKA_SHARDS: Final = 64  # fixed for a log's life: enough to share among many dispatchers
MAX_REPLICATION: Final = 3
READY_S: Final = 30.0
HIDDEN_S: Final = 3.0  # a topic that was just created is listed within milliseconds
POLL_S: Final = 0.1
OTHER_S: Final = 3.0  # for another init that created the topics and has not written yet
GENERATION: Final = 1
_COMPACTED: Final = (LogName.OWNERSHIP, LogName.REVOCATIONS)

FIXED: Final = ("cleanup.policy", "message.timestamp.type")  # a log that differs here does not work
DRIFTING: Final = ("retention.ms", "retention.bytes", "min.insync.replicas")  # an operator's to decide: only reported


class InitConflict(SettingsConflict):
    """The topics in Kafka do not match; the message names the difference and the fix."""


@dataclass
class InitReport:
    """The result of `init_kafka`."""

    address: str
    prefix: str
    shards: int
    replication: int
    cluster_id: str = ""
    created: list[str] = field(default_factory=list)  # topics
    configured: list[int] = field(default_factory=list)  # shards that got their config record now
    drift: list[str] = field(default_factory=list)  # differences that work, one sentence each

    @property
    def changed(self) -> bool:
        """Whether anything was missing."""
        return bool(self.created or self.configured)


async def init_kafka(options: LogOptions) -> InitReport:
    """Creates missing topics and config records, and reports what it created.

    Raises InitConflict, LogUnavailable, and ValueError for options that cannot be.
    """
    deployment = deployment_of(options)
    admin = KafkaAdmin(deployment)
    try:
        report = await _plan(deployment, admin, options)
        await _create(deployment, admin, report, options)
        await _await_ready(deployment, admin, report, options)
    finally:
        await admin.close()
    await _configure(options, report)
    return report


def topic_configs(
    log: LogName, replication: int, keep_ms: Mapping[LogName, int] = KEEP_MS, keep_bytes: int | None = None
) -> dict[str, str]:
    """Returns the settings a log's topic is created with; `keep_ms` and `keep_bytes` are those of `LogOptions`."""
    kept = {"cleanup.policy": "compact"}
    if log not in _COMPACTED:
        size = keep_bytes if log is LogName.MESSAGES and keep_bytes is not None else -1
        kept = {"cleanup.policy": "delete", "retention.ms": str(keep_ms.get(log, -1)), "retention.bytes": str(size)}
    return {
        **kept,
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": "2" if replication >= MAX_REPLICATION else "1",
    }


async def _plan(deployment: KafkaDeployment, admin: KafkaAdmin, options: LogOptions) -> InitReport:
    brokers = await admin.brokers()
    replication = options.replication or min(MAX_REPLICATION, brokers)
    if replication > brokers:
        raise InitConflict(f"log.replication {replication}, but {deployment.address} has {brokers} brokers; lower it")
    found = await admin.topics([deployment.topic(log) for log in LogName])
    shards = _agreed_shards(deployment, found, options.shards)
    report = InitReport(deployment.address, deployment.prefix, shards, replication)
    configs = await admin.configs(list(found)) if found else {}
    for log in LogName:
        topic = deployment.topic(log)
        if topic in found:
            _check(report, log, topic, configs.get(topic, {}), options)
            if found[topic].replication < replication:
                report.drift.append(f"{topic} has {found[topic].replication} replicas, {replication} would be usual")
    return report


def _agreed_shards(deployment: KafkaDeployment, found: dict[str, KafkaTopic], wanted: int | None) -> int:
    """Returns the shard count on which the setting and all existing topics agree. Raises InitConflict."""
    counts = {
        deployment.topic(log): found[deployment.topic(log)].partitions
        for log in LogName
        if deployment.topic(log) in found and log is not LogName.REVOCATIONS
    }
    expected = wanted or next(iter(counts.values()), KAFKA_SHARDS)
    wrong = [f"{topic} has {count} partitions" for topic, count in counts.items() if count != expected]
    single = found.get(deployment.topic(LogName.REVOCATIONS))
    if single is not None and single.partitions != 1:
        wrong.append(f"{deployment.topic(LogName.REVOCATIONS)} has {single.partitions} partitions, expected 1")
    if wrong:
        raise InitConflict(
            f"{deployment.address}: expected {expected} shards, but {', '.join(wrong)}. The shard count is fixed for"
            " a log's life: leave log.shards unset, or use another log.prefix"
        )
    return expected


def _check(report: InitReport, log: LogName, topic: str, configs: dict[str, str | None], options: LogOptions) -> None:
    wanted = topic_configs(log, report.replication, options.keep_ms, options.keep_bytes)
    for name in FIXED:
        if configs.get(name) != wanted[name]:
            raise InitConflict(
                f"{topic} has {name}={configs.get(name)}, expected {wanted[name]}. Headgate does not alter topics:"
                f" kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config"
                f" {name}={wanted[name]}, or use another log.prefix"
            )
    for name in DRIFTING:
        if name in wanted and configs.get(name) != wanted[name]:
            report.drift.append(f"{topic} has {name}={configs.get(name)}, init would set {wanted[name]}")


async def _create(deployment: KafkaDeployment, admin: KafkaAdmin, report: InitReport, options: LogOptions) -> None:
    found = await admin.topics([deployment.topic(log) for log in LogName])
    for log in LogName:
        topic = deployment.topic(log)
        if topic not in found:
            parts = parts_of(log, report.shards)
            configs = topic_configs(log, report.replication, options.keep_ms, options.keep_bytes)
            if await admin.create(topic, parts, report.replication, configs):
                report.created.append(topic)


async def _await_ready(deployment: KafkaDeployment, admin: KafkaAdmin, report: InitReport, options: LogOptions) -> None:
    """Waits until every partition has a leader, then checks the created topics. Raises LogUnavailable, InitConflict."""
    started = asyncio.get_running_loop().time()
    names = [deployment.topic(log) for log in LogName]
    while True:
        found, configs = await admin.topics(names), await admin.configs(names)
        ready = [
            name for name in names if name in configs and name in found and found[name].led == found[name].partitions
        ]
        if len(ready) == len(names):
            break
        waited = asyncio.get_running_loop().time() - started
        hidden = sorted(configs.keys() - found.keys())
        if hidden and waited > HIDDEN_S:
            raise LogUnavailable(f"{deployment.address}: {no_right('Describe', f'topic {hidden[0]}')}")
        if waited > READY_S:
            waiting = sorted(set(names) - set(ready))
            raise LogUnavailable(
                f"{deployment.address}: {', '.join(waiting)} not ready after {READY_S:g} s; run init again"
            )
        await asyncio.sleep(POLL_S)
    _agreed_shards(deployment, found, report.shards)
    for log in LogName:
        if deployment.topic(log) in report.created:
            _check(report, log, deployment.topic(log), configs[deployment.topic(log)], options)


async def _configure(options: LogOptions, report: InitReport) -> None:
    log = KafkaLog(options)
    try:
        await log.connect()
        first = await _present(log, 0)
        if first is None and log.deployment.topic(LogName.MESSAGES) not in report.created:
            first = await _another_inits(log)
        rest = await asyncio.gather(*(_present(log, shard) for shard in range(1, log.shards)))
        present = [first, *rest]
        known = next((config for config in present if config is not None), None)
        fresh = known.cluster_id if known is not None else str(uuid.uuid4())
        identity = first or await _write(log, report, 0, fresh)  # shard 0 decides: its first record is read back
        missing = [shard for shard, config in enumerate(present) if config is None and shard > 0]
        await asyncio.gather(*(_write(log, report, shard, identity.cluster_id) for shard in missing))
        for shard, config in enumerate(present):
            if config is not None:
                _check_identity(log.deployment.topic(LogName.MESSAGES), shard, config, identity, report.shards)
        report.cluster_id = identity.cluster_id
    finally:
        await log.close()


def _check_identity(topic: str, shard: int, config: Config, identity: Config, shards: int) -> None:
    """Raises InitConflict for a shard of another cluster, generation or shard count."""
    expected = (identity.cluster_id, identity.generation, shards, shard)
    seen = (config.cluster_id, config.generation, config.shards, config.shard)
    if seen != expected:
        raise InitConflict(
            f"{topic}[{shard}] has (cluster id, generation, shards, shard) {seen}, expected {expected}: it belongs to"
            " another deployment or was copied; use another log.prefix"
        )


async def _another_inits(log: KafkaLog) -> Config | None:
    """Waits OTHER_S for the init that created the topic to write its config; None when it was interrupted."""
    deadline = asyncio.get_running_loop().time() + OTHER_S
    config: Config | None = None
    while config is None and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(POLL_S)
        config = await first_config(log, 0)
    return config


async def _present(log: KafkaLog, shard: int) -> Config | None:
    """Returns the config of a shard; None for a shard that was never used. Raises InitConflict."""
    bounds = await log.bounds(LogName.MESSAGES, shard)
    if bounds.end == 0:
        return None
    config = await find_config(log, shard)
    if config is None:
        raise InitConflict(
            f"{log.deployment.topic(LogName.MESSAGES)}[{shard}] holds offsets {bounds.first} to {bounds.end - 1}"
            " without a config record, at its beginning or in a snapshot: something else wrote there before init, or"
            " the snapshots are lost; use another log.prefix, restore a backup, or declare the loss (headgate recover)"
        )
    return config


async def _write(log: KafkaLog, report: InitReport, shard: int, cluster_id: str) -> Config:
    """Appends a shard's config record and returns the config in its first record. Raises LogUnavailable."""
    key, value = config_record(cluster_id, report.shards, shard, GENERATION)
    await log.append(LogName.MESSAGES, shard, key, value)
    config = await first_config(log, shard)
    if config is None:
        raise LogUnavailable(f"{log.address}: shard {shard} does not show its config record; run init again")
    report.configured.append(shard)
    return config
