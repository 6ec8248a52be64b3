"""What a creation answers with: the topic as its first record made it."""

from headgate.core.wire import topic_settings
from headgate.core.wire.control import CreateTopic
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.rights import Caller
from ingest.catalog import Catalog
from ingest.controls import ControlOutcome


async def as_created(
    catalog: Catalog,
    caller: Caller,
    creation: CreateTopic,
    outcome: ControlOutcome,
    usual: topic_settings.Settings,
) -> TopicInfo:
    """Returns the topic that a creation made; this one may be a repeat of it, with another time and body.

    A caller from whom the topic is hidden by now is answered from his own request.
    `usual` are the defaults of the installation.
    """
    epoch = outcome.verdict.epoch
    try:
        info: TopicInfo | None = (await catalog.fetch(creation.topic_id, caller)).info
    except Refusal:
        info = None
    if info is not None and info.epoch == epoch:
        return info
    settings = topic_settings.effective(creation.settings, usual)
    about = (creation.name, creation.permissions, creation.owner_id, outcome.ts)
    return TopicInfo(creation.topic_id, epoch, 0, *about, 0, 0, "direct", settings)
