"""The consumer groups of one shard's topics, and the requests of their members' gateways.

A group is here while it has members; what stays of it is its cursor.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from dispatcher.announcements import Announcements
from dispatcher.answering import refuse
from dispatcher.group_cursors import stored_cursor
from dispatcher.letter_messages import LetterMessages
from dispatcher.ports import DispatcherMetrics
from dispatcher.reading import Reading
from dispatcher.running_group import GroupTools, RunningGroup
from dispatcher.shard import Destination, ShardOwner
from headgate.core.delivery.dead_letter_record import DeadLetter
from headgate.core.inbox.cursors import SHARE
from headgate.core.sequencer.rows import Row
from headgate.core.wire import link, rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_groups import (
    GROUP_DEVICE,
    GroupAck,
    GroupAcked,
    GroupJoined,
    GroupNack,
    JoinGroup,
    LeaveGroup,
    group_user,
)
from headgate.core.wire.position import CURSOR, Placed
from headgate.core.wire.records import Record
from headgate.runtime.ports import Shell

GROUPS: Final = 100  # of a topic, with members
MEMBERS: Final = 1_000  # of a group
RETRY_MS: Final = 1_000


class ConsumerGroups:
    """The groups of one shard. `handle` is that of the shard's API; `handlers` are by the type of the request."""

    def __init__(
        self,
        owner: ShardOwner,
        reading: Reading,
        messages: LetterMessages,
        shell: Shell[DispatcherMetrics],
        announcements: Announcements[Destination],
        handle: Callable[[Any, Any], None],
    ) -> None:
        self._owner = owner
        self._reading = reading
        self._handle = handle
        self._announcements = announcements
        self._groups: dict[str, dict[str, RunningGroup]] = {}  # by topic and name
        self._tools = GroupTools(
            owner, messages, handle, shell.clock.now, shell.rng.random, self._when_known, self._ended
        )
        owner.on_applied = self._look
        owner.on_group_replay = self._replay
        self.handlers: Mapping[type, Callable[..., None]] = {
            JoinGroup: self._join,
            GroupAck: self._ack,
            GroupNack: self._nack,
            LeaveGroup: self._leave,
        }

    def close(self) -> None:
        """The shard is no longer served here: the cursors are written as they are."""
        for groups in self._groups.values():
            for group in groups.values():
                group.close()
        self._groups.clear()
        self._owner.on_applied = lambda records: None

    def left(self, peer: Destination) -> None:
        """A link was closed: the members behind it are gone."""
        for groups in list(self._groups.values()):
            for group in list(groups.values()):
                group.left(peer)

    # -- a subscribe with a group

    def waits(self, peer: Destination, ask: link.AskSubscribe | JoinGroup) -> bool:
        """Returns whether the cursors are not read yet: the request is handled again then. Raises Refusal."""
        inbox = self._owner.inbox
        if inbox.is_complete:
            return False
        if not inbox.hold(partial(self._handle, peer, ask)):
            raise Refusal("not_ready", "too many wait for this shard's inbox log", retry_after_ms=RETRY_MS)
        return True

    def place(self, ask: link.AskSubscribe, row: Row) -> tuple[int, Placed] | None:
        """Returns the oldest seq kept and where the group is; None while that is unknown. Raises Refusal.

        A group that is there goes on; one that is new begins at the position asked for.
        """
        if row.ephemeral:
            raise Refusal("not_in_profile", f"{row.topic_id} is ephemeral: a group needs a durable topic")
        groups = self._groups.get(row.topic_id, {})
        group = groups.get(ask.group)
        if group is not None and group.epoch != row.epoch:
            group = None
        if group is None and len(groups) >= GROUPS:
            raise Refusal("limit_reached", f"a topic has at most {GROUPS} groups with members")
        if group is not None and len(group.members) >= MEMBERS:
            raise Refusal("limit_reached", f"a group has at most {MEMBERS} members")
        stored = stored_cursor(self._owner, row.topic_id, row.epoch, ask.group)
        form = None if ask.position is None else ask.position.form
        if group is not None or stored is not None:
            acked = group.window.acked if group is not None else stored.seq if stored is not None else 0
            named = True if form in ("seq", CURSOR) else None
            return self._reading.kept(row).first, Placed(acked, named, None)
        self._require_room(row.topic_id, ask.group)
        if form == CURSOR:
            return self._reading.kept(row).first, Placed(row.seq, False, "no_cursor")
        return self._reading.place(row, ask.position)

    def _require_room(self, topic_id: str, group: str) -> None:
        """Raises Refusal where the cursor of a new group could not be stored."""
        rows = self._owner.inbox.users.cursors
        if rows.is_full:
            raise Refusal("overloaded", "this shard has as many cursors as it can hold, and no room for a new group")
        if not rows.has_share(group_user(group), GROUP_DEVICE, topic_id):
            raise Refusal("limit_reached", f"a topic has at most {SHARE} groups whose cursors are kept")

    def joined(self, peer: Destination, ask: link.AskSubscribe, row: Row, placed: Placed) -> None:
        """Takes a member that was granted; what it gets comes behind the answer."""
        group = self._group(row, ask.group, placed.cursor)
        group.join(peer, ask.member, [], row.seq if ask.position is not None else None)

    # -- requests

    def _join(self, peer: Destination, ask: JoinGroup) -> None:
        if self.waits(peer, ask):
            return
        row = self._owner.rows.get(topic_key(ask.topic_id))
        if row is None or row.epoch != ask.epoch:
            raise rights.unknown_topic(ask.topic_id)
        group = self._group(row, ask.group, ask.begin)
        group.join(peer, ask.member, ask.held)
        group.ack(ask.member, ask.done, None)
        peer.send(GroupJoined(ask.req))

    def _ack(self, peer: Destination, ask: GroupAck) -> None:
        group = self._known(ask)
        if not ask.stored:
            group.ack(ask.member, ask.seqs, None)
            peer.send(GroupAcked(ask.req))
            return
        group.ack(ask.member, ask.seqs, partial(self._stored, peer, ask))

    def _stored(self, peer: Destination, ask: GroupAck, refusal: Refusal | None) -> None:
        if not peer.open:
            return
        if refusal is None:
            peer.send(GroupAcked(ask.req))
        else:
            refuse(peer, ask, refusal)

    def _nack(self, peer: Destination, ask: GroupNack) -> None:
        self._known(ask).nack(ask.member, ask.seq, ask.reason)
        peer.send(GroupAcked(ask.req))

    def _leave(self, peer: Destination, ask: LeaveGroup) -> None:
        group = self._groups.get(ask.topic_id, {}).get(ask.group)
        if group is not None and group.epoch == ask.epoch and group.members.get(ask.member) is peer:
            group.leave(ask.member)

    # -- helpers

    def _group(self, row: Row, name: str, begin: int) -> RunningGroup:
        """Returns a group; one that is not here goes on at its stored cursor, or begins at `begin`."""
        groups = self._groups.setdefault(row.topic_id, {})
        group = groups.get(name)
        if group is not None and group.epoch == row.epoch:
            return group
        if group is not None:
            group.close()
        stored = stored_cursor(self._owner, row.topic_id, row.epoch, name)
        acked = begin if stored is None else stored.seq
        group = groups[name] = RunningGroup(self._tools, row, name, acked)
        if stored is None:
            group.cursor.changed()
            group.cursor.write(urgent=True)
        else:
            group.window.restore(stored.above, stored.attempts)
        if self._owner.letters.is_complete:  # otherwise they are told when the log has been read
            for letter in self._owner.letters.store.replayed(row.topic_id):
                self._replay(letter)
        return group

    def _known(self, ask: GroupAck | GroupNack) -> RunningGroup:
        """Returns the group of a member. Raises Refusal: the gateway announces the member again."""
        group = self._groups.get(ask.topic_id, {}).get(ask.group)
        if group is None or group.epoch != ask.epoch or ask.member not in group.members:
            raise Refusal("not_ready", f"{ask.member} is no member of the group here", retry_after_ms=RETRY_MS)
        return group

    def _replay(self, letter: DeadLetter) -> None:
        group = self._groups.get(letter.topic, {}).get(letter.group or "")
        if group is not None and group.epoch == letter.epoch:
            group.replay(letter.seq, letter.id)

    def _look(self, records: Sequence[Record]) -> None:
        """Records were applied: looks at the groups of their topics."""
        if not self._groups:
            return
        for key in {record.key for record in records}:
            for group in self._groups.get((key or b"").decode(errors="replace"), {}).values():
                group.look()

    def _when_known(self, then: Callable[[], None]) -> bool:
        if self._announcements.complete:
            then()
            return True
        return self._announcements.hold(then, 0)

    def _ended(self, group: RunningGroup) -> None:
        groups = self._groups.get(group.topic_id, {})
        if groups.get(group.name) is group:
            del groups[group.name]
            if not groups:
                del self._groups[group.topic_id]
