"""Access to topics: looks up the topic that a request names, and checks the caller's right to it.

A remembered topic can only let a caller in. Before every refusal the topic's owner is asked, so that a topic which is
hidden from the caller takes the same time as one that does not exist.
"""

from collections.abc import Callable, Iterable

from headgate.core.wire import rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.member_roles import Role
from headgate.core.wire.rights import Caller, Guarded
from ingest.catalog import Catalog, Found

Right = Callable[[Caller, Guarded, Role | None], bool]


class Access:
    """Looks topics up for callers. `auto_create` is the setting `topics.auto_create`."""

    def __init__(self, catalog: Catalog, *, auto_create: bool) -> None:
        self._catalog = catalog
        self._auto_create = auto_create

    async def require(self, topic_id: str, caller: Caller, allowed: Right, action: str) -> TopicInfo:
        """Returns a topic to which the caller may do `action`. Raises Refusal."""
        found = await self._catalog.get_many((topic_id,), lambda info: allowed(caller, info, role_in(info, caller)))
        return _permitted(found[topic_id], caller, allowed, action)

    async def to_publish(self, topic_id: str, caller: Caller) -> TopicInfo | None:
        """Returns a topic that the caller may publish to, None where the publish makes it. Raises Refusal."""
        info = self._catalog.peek(topic_id)
        if info is not None and rights.may_publish(caller, info, role_in(info, caller)):
            return info
        found = (await self.all_to_publish((topic_id,), caller))[topic_id]
        if isinstance(found, Refusal):
            raise found
        return found

    async def all_to_publish(self, topic_ids: Iterable[str], caller: Caller) -> dict[str, Found | None]:
        """Returns the result of `to_publish` for each topic, raised refusals too; asks for all of them at once."""
        found = await self._catalog.get_many(
            topic_ids, lambda info: rights.may_publish(caller, info, role_in(info, caller))
        )
        return {topic_id: self._publishable(topic_id, info, caller) for topic_id, info in found.items()}

    def _publishable(self, topic_id: str, found: Found, caller: Caller) -> Found | None:
        try:
            return _permitted(found, caller, rights.may_publish, "publish to")
        except Refusal as refusal:
            is_missing = isinstance(found, Refusal) and found.code == "topic_not_found"
            return None if is_missing and self._auto_create and rights.may_create(caller, topic_id) else refusal


def role_in(info: TopicInfo, caller: Caller) -> Role | None:
    """Returns the caller's role in a topic, as far as its description tells: its creator owns it."""
    return Role.OWNER if caller.user_id == info.owner_id else None


def _permitted(found: Found, caller: Caller, allowed: Right, action: str) -> TopicInfo:
    if isinstance(found, Refusal):
        raise found
    role = role_in(found, caller)
    rights.require(allowed(caller, found, role), caller, found, role, action)
    return found
