"""Finds out whether dispatchers serve the shards of a log, for a command that must be alone."""

from headgate.core.wire.errors import HeadgateError
from headgate.runtime.logs.options import KafkaUrl, LogOptions, parse_url


class StillServed(HeadgateError):
    """Dispatchers run. They have to be stopped first."""


async def check_unserved(options: LogOptions) -> None:
    """Raises StillServed where a dispatcher is a member of the group of owners, LogUnavailable.

    An embedded log has one user at a time: who has opened it is alone. A dispatcher that is killed stays a member for
    the session time-out, 6 s.
    """
    if not isinstance(parse_url(options.url), KafkaUrl):
        return
    from headgate.runtime.logs.kafka_admin import KafkaAdmin  # noqa: PLC0415  aiokafka costs an embedded log 0.2 s
    from headgate.runtime.logs.kafka_connect import deployment_of  # noqa: PLC0415

    deployment = deployment_of(options)
    admin = KafkaAdmin(deployment)
    try:
        hosts = await admin.group_members(deployment.group_id)
    finally:
        await admin.close()
    if hosts:
        raise StillServed(
            f"{len(hosts)} dispatchers run ({', '.join(sorted(hosts)[:5])}): stop all of them, because one of them may"
            " serve the shard from its memory; one that was killed is forgotten after 6 s"
        )
