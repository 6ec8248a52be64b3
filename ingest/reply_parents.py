"""The messages that publishes reply to: each must be in the topic (docs/protocol.md, section 2).

A publish that is remembered was checked when it came first. An ephemeral topic keeps no messages: nothing is checked.
"""

from collections.abc import Sequence

from headgate.core.wire.errors import Refusal
from ingest.admission import Admission, Publish
from ingest.message_queries import MessageQueries, Parent


class ReplyParents:
    """Asks the owners of topics for the parents of publishes, once for each."""

    def __init__(self, messages: MessageQueries, admission: Admission) -> None:
        self._messages = messages
        self._admission = admission

    def knows(self, publish: Publish) -> bool:
        """Returns whether this is a repeat of a publish that is remembered. Raises Refusal `idempotency_conflict`."""
        return self._admission.knows(publish)

    async def require(self, publish: Publish) -> None:
        """Raises Refusal for a reply to a message that is not in the topic."""
        if self._needs_question(publish):
            await self._messages.ask(publish.caller, publish.info.topic_id, publish.parent, "reply")

    async def checked(self, publishes: Sequence[Publish | Refusal]) -> Sequence[Publish | Refusal]:
        """Returns the publishes of a batch, with a refusal in place of each reply to a message that is not there."""
        outcomes = list(publishes)
        asking: dict[int, Publish] = {}  # by place in the batch
        for at, publish in enumerate(publishes):
            if isinstance(publish, Refusal) or not publish.parent:
                continue
            try:
                if self._needs_question(publish):
                    asking[at] = publish
            except Refusal as refusal:
                outcomes[at] = refusal
        if asking:
            caller = next(iter(asking.values())).caller  # the publishes of one batch have one caller
            refused = await self._messages.refused_parents(caller, {_parent_of(one): None for one in asking.values()})
            for at, publish in asking.items():
                outcomes[at] = refused.get(_parent_of(publish), publish)
        return outcomes

    def _needs_question(self, publish: Publish) -> bool:
        return not publish.is_ephemeral and not self.knows(publish)


def _parent_of(publish: Publish) -> Parent:
    return Parent(publish.info.topic_id, publish.parent)
