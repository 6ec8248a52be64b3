"""The state of a shard that `apply` changes: one row a topic, and the rest."""

from typing import Any

import msgspec

from headgate.core.sequencer.changed_messages import ChangedMessages
from headgate.core.sequencer.digest import Digest
from headgate.core.sequencer.members import Members, Membership
from headgate.core.sequencer.window import Window
from headgate.core.wire.control import Config
from headgate.core.wire.member_roles import Role
from headgate.core.wire.records import NO_RECORD


class Tally(msgspec.Struct, array_like=True, gc=False):
    """What happened to a topic's messages, as gateways and ingests told; `apply` reads and writes none of it.

    `relayed` are the messages of an ephemeral topic. `latency_ms` is a sum over all deliveries.
    """

    relayed: int = 0
    delivered: int = 0
    latency_ms: int = 0
    failed: int = 0
    rejected: int = 0
    dead_lettered: int = 0
    retried: int = 0


class Row(msgspec.Struct, array_like=True, gc=False):
    """A topic. `settings` are overrides of the defaults; `created_at` is Unix milliseconds.

    `seq` is the newest given in this epoch, 0 before the first message; `others` of them went to what is no message.
    `version` counts changes of name, permissions and settings; `fence` counts records after which somebody may do less.
    `tally` is None until something was told. `heat` is how the topic was delivered, for its next owner; "" is `direct`.
    `apply` neither reads nor writes the two.
    """

    topic_id: str
    epoch: int
    seq: int
    name: str
    permissions: str
    owner_id: str
    created_at: int
    settings: dict[str, Any]
    version: int = 0
    fence: int = 0
    others: int = 0
    tally: Tally | None = None
    heat: str = ""

    @property
    def n(self) -> int:
        """How many messages the topic has had in this epoch."""
        return self.seq - self.others

    @property
    def ephemeral(self) -> bool:
        """Whether messages of this topic are never written to the log."""
        return self.settings.get("profile") == "ephemeral"


class Shard:
    """The state of a shard beside its rows. `config` is None until the config record was applied.

    `log_ms` is log time: it serves windows only. `changes` counts messages that took a number and controls that changed
    something, for the snapshots. `members` of topics that have had others than their creator, by topic key; `changed`
    are the messages that were edited or redacted; `logic` is the meaning of `apply` in force. `digest` covers
    everything below `next_offset`, and `last` is the newest record there that its owner took and that is no probe.
    """

    __slots__ = (
        "changed", "changes", "config", "digest", "last", "log_ms", "logic", "members", "next_offset", "window",
    )  # fmt: skip

    def __init__(self) -> None:
        self.config: Config | None = None
        self.next_offset = 0
        self.last = NO_RECORD
        self.log_ms = 0
        self.window = Window()
        self.digest = Digest()
        self.changes = 0
        self.logic = 1
        self.members: dict[bytes, Members] = {}
        self.changed = ChangedMessages()

    def membership(self, key: bytes, row: Row, user_id: str) -> Membership | None:
        """Returns a user's membership of a topic, None for one who is no member."""
        members = self.members.get(key)
        if members is not None:
            return members.get(user_id)
        return self.creator_of(row) if user_id == row.owner_id else None

    def listed(self, key: bytes, user_id: str) -> Membership | None:
        """Returns a user's entry among a topic's members; None where it has none, as the creator may."""
        members = self.members.get(key)
        return None if members is None else members.get(user_id)

    @staticmethod
    def creator_of(row: Row) -> Membership:
        """Returns the membership that a topic's creator has from the beginning."""
        return Membership(Role.OWNER, 0, 0, row.created_at)

    def role(self, key: bytes, row: Row, user_id: str) -> Role | None:
        """Returns a user's role in a topic, None for one who is no member."""
        found = self.membership(key, row, user_id)
        return None if found is None else found.role

    def member_count(self, key: bytes) -> int:
        """Returns how many members a topic that exists has."""
        members = self.members.get(key)
        return 1 if members is None else members.count

    def members_above(self, key: bytes, row: Row, after: str, limit: int) -> list[tuple[str, Membership]]:
        """Returns at most `limit` members of a topic whose user ids are above `after`, ascending."""
        members = self.members.get(key)
        if members is not None:
            return members.above(after, limit)
        return [(row.owner_id, self.creator_of(row))][:limit] if row.owner_id > after else []

    @property
    def generation(self) -> int:
        """The log's generation; 0 before the config record."""
        return self.config.generation if self.config else 0
