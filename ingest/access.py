"""Access to topics: looks up the topic that a request names, and checks the caller's right to it.

What is remembered can only let a caller in. Before every refusal the topic's owner is asked, so that a topic which is
hidden from the caller takes the same time as one that does not exist.
"""

from collections.abc import Iterable

from headgate.core.wire import rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.rights import Caller
from ingest.catalog import Catalog, Found, Known, Right

Publishable = TopicInfo | Refusal


class Access:
    """Looks topics up for callers. `auto_create` is the setting `topics.auto_create`."""

    def __init__(self, catalog: Catalog, *, auto_create: bool) -> None:
        self._catalog = catalog
        self._auto_create = auto_create

    async def require(self, topic_id: str, caller: Caller, allowed: Right, action: str) -> Known:
        """Returns a topic to which the caller may do `action`, and his role in it. Raises Refusal."""
        found = await self._catalog.get_many((topic_id,), caller, allowed)
        return _permitted(found[topic_id], caller, allowed, action)

    async def ask(self, topic_id: str, caller: Caller, allowed: Right, action: str) -> Known:
        """Does what `require` does with the topic and the role as its owner sees them now. Raises Refusal."""
        return _permitted(await self._catalog.fetch(topic_id, caller), caller, allowed, action)

    async def to_publish(self, topic_id: str, caller: Caller) -> TopicInfo | None:
        """Returns a topic that the caller may publish to, None where the publish makes it. Raises Refusal."""
        known = self._catalog.lookup(topic_id, caller, rights.may_publish)
        if known is not None:
            return known.info
        found = (await self.all_to_publish((topic_id,), caller))[topic_id]
        if isinstance(found, Refusal):
            raise found
        return found

    async def all_to_publish(self, topic_ids: Iterable[str], caller: Caller) -> dict[str, Publishable | None]:
        """Returns the result of `to_publish` for each topic, raised refusals too; asks for all of them at once."""
        topics: dict[str, Publishable | None] = {}
        unsure: list[str] = []
        for topic_id in topic_ids:
            known = self._catalog.lookup(topic_id, caller, rights.may_publish)
            if known is None:
                unsure.append(topic_id)
            else:
                topics[topic_id] = known.info
        found = await self._catalog.get_many(unsure, caller, rights.may_publish) if unsure else {}
        topics |= {topic_id: self._publishable(topic_id, answer, caller) for topic_id, answer in found.items()}
        return topics

    def _publishable(self, topic_id: str, found: Found, caller: Caller) -> Publishable | None:
        if isinstance(found, Refusal):
            is_missing = found.code == "topic_not_found"
            return None if is_missing and self._auto_create and rights.may_create(caller, topic_id) else found
        try:
            return _permitted(found, caller, rights.may_publish, "publish to").info
        except Refusal as refusal:
            return refusal


def _permitted(found: Found, caller: Caller, allowed: Right, action: str) -> Known:
    if isinstance(found, Refusal):
        raise found
    info, role, _ = found
    rights.require(allowed(caller, info, role), caller, info, role, action)
    return found
