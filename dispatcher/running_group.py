"""One consumer group of a topic that is served here: reads the topic, and hands its messages to the members.

It has one timer, whatever it has in hand. Messages that wait for room at their member are kept as numbers only.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from dispatcher.group_cursors import GroupCursor, Stored
from dispatcher.letter_messages import LetterMessages, NoMessage
from dispatcher.local_asker import LocalAsker
from dispatcher.shard import Destination, ShardOwner
from headgate.core.delivery.ack_window import Failure
from headgate.core.delivery.breaker import BreakerPolicy
from headgate.core.delivery.dead_letter_record import GONE, NO_ATTEMPTS_LEFT, LetterEnded
from headgate.core.delivery.group_keys import hash_of, key_in
from headgate.core.delivery.group_window import GroupWindow
from headgate.core.delivery.retry import BackoffPolicy, Draw
from headgate.core.sequencer.rows import Row
from headgate.core.wire import link
from headgate.core.wire.amended_frames import targets_of
from headgate.core.wire.errors import Refusal
from headgate.core.wire.frames import frame_again, replayed_frame
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_acks import CursorLease
from headgate.core.wire.link_dead_letters import GivenUp, GiveUp, LetterDone, Receiver
from headgate.core.wire.link_groups import GROUP_DEVICE, GroupMessages, group_user
from headgate.core.wire.link_stats import TopicDelivered
from headgate.core.wire.topic_settings import effective

TICK_S: Final = 0.25
FLUSH_S: Final = 1.0  # between two writes of the cursor
BREAKER: Final = BreakerPolicy(10, 30.0)


class GroupTools(NamedTuple):
    """What all groups of a shard use. `now` is monotonic seconds, `handle` the shard's API, `draw` for retries.

    `when_known` calls back once the gateways have announced their members; `ended` takes a group that has no member.
    """

    owner: ShardOwner
    messages: LetterMessages
    handle: Callable[[Any, Any], None]
    now: Callable[[], float]
    draw: Draw
    when_known: Callable[[Callable[[], None]], bool]
    ended: Callable[["RunningGroup"], None]


class RunningGroup:
    """A group with members; its window begins above `acked`."""

    def __init__(self, tools: GroupTools, row: Row, name: str, acked: int) -> None:
        self.topic_id = row.topic_id
        self.epoch = row.epoch
        self.name = name
        self.window = GroupWindow(acked, _policy_of(row), BREAKER)
        self.cursor = GroupCursor(tools.owner, row.topic_id, row.epoch, name, self.window)
        self.members: dict[str, Destination] = {}
        self.closed = False
        self._tools = tools
        self._asker = LocalAsker(f"group {name} of {row.topic_id}", tools.handle)
        self._targets: dict[str, int] = {}  # of members that wait for `caught_up`
        self._read: dict[int, tuple[int, bytes]] = {}  # of the page that was just taken: (ts, frame)
        self._loading: set[int] = set()
        self._lettered: set[int] = set()  # the owner of the letters was asked
        self._is_reading = False
        self._is_known = self._asks_known = False
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._flushed_at = tools.now()
        lease = CursorLease(group_user(name), GROUP_DEVICE, row.topic_id, name, 0)
        tools.owner.leases.take(self._asker, lease)  # its cursor does not expire

    # Members

    def join(self, peer: Destination, member: str, held: list[int], target: int | None = None) -> None:
        """Takes a member; `target` is the head that it is told to have reached."""
        self.members[member] = peer
        self.window.join(member, held, self._tools.now(), self._tools.draw)
        if target is not None:
            self._targets[member] = target
        self.wake()

    def leave(self, member: str) -> None:
        """A member is gone."""
        if self.members.pop(member, None) is None:
            return
        self._targets.pop(member, None)
        self.window.leave(member)
        self.wake()

    def left(self, peer: Destination) -> None:
        """A link was closed: the members behind it are gone."""
        for member in [name for name, there in self.members.items() if there is peer]:
            self.leave(member)

    # Answers

    def ack(self, member: str, seqs: list[int], stored: Stored | None) -> None:
        """Takes acknowledgements; calls `stored` once the log has them. Raises Refusal `not_ready`."""
        changed, letters = self.window.ack(member, seqs, self._tools.now(), self._tools.draw)
        for letter in letters:
            self._asker.tell(LetterDone(self.topic_id, self.epoch, letter))
        if changed:
            self.cursor.changed()
        if stored is not None:
            self.cursor.confirm(stored)
        self.wake()

    def nack(self, member: str, seq: int, reason: str) -> None:
        """Takes a refusal of one message."""
        failure = self.window.nack(member, seq, reason, self._tools.now(), self._tools.draw)
        if failure is not None:
            self._failed(failure)
        self.wake()

    def replay(self, seq: int, letter: str) -> None:
        """A dead letter of this group is to be delivered again."""
        self.window.replay(seq, hash_of(letter.encode()), letter)
        self.wake()

    # What it does

    def wake(self) -> None:
        """There may be something to do: at the end of the loop turn."""
        if self._soon is None and not self.closed:
            self._soon = asyncio.get_running_loop().call_soon(self._work)

    def look(self) -> None:
        """The shard has applied records."""
        row = self._row()
        if row is None or row.seq >= self.window.next:
            self.wake()

    def close(self) -> None:
        """The topic or the shard is gone from here; the cursor is written as it is."""
        if self.closed:
            return
        self.cursor.write(urgent=True)
        self.closed = True
        self._asker.close()
        self._tools.owner.leases.forget(self._asker)
        self._tools.owner.history.left(self._asker)
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()

    def _row(self) -> Row | None:
        row = self._tools.owner.rows.get(topic_key(self.topic_id))
        return row if row is not None and row.epoch == self.epoch else None

    def _work(self) -> None:
        self._soon = None
        row = self._row()
        if row is None:
            self._end()
            return
        if not self.members:
            self._finish()
        elif self._is_known:
            self._send(row)
            self._read_on(row)
        elif not self._asks_known:
            self._asks_known = self._tools.when_known(self._known)
            if not self._asks_known:
                self._plan_again()
        self._plan()

    def _known(self) -> None:
        self._is_known = True
        self.wake()

    def _finish(self) -> None:
        """Nobody is here: it ends once its cursor is in the log."""
        if self.cursor.is_stored:
            self._end()
        else:
            self.cursor.write(urgent=True)

    def _end(self) -> None:
        self.close()
        self._tools.ended(self)

    def _plan(self) -> None:
        if self._timer is None and not self.closed and (self.window.is_busy or not self.cursor.is_stored):
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        row, now = self._row(), self._tools.now()
        if row is not None:
            self.window.policy = _policy_of(row)
        for failure in self.window.visit(now, self._tools.draw):
            self._failed(failure)
        for failure in self.window.giving_up():
            self._give_up(failure)
        if now - self._flushed_at >= FLUSH_S:
            self._flushed_at = now
            self.cursor.write()
        self._work()

    # Failures

    def _failed(self, failure: Failure) -> None:
        self.cursor.changed()
        self.cursor.write(urgent=True)  # a crash forgets at most one failure of a message
        self._count(failed=1)
        if failure.given_up:
            self._give_up(failure)

    def _give_up(self, failure: Failure) -> None:
        if failure.seq in self._lettered:
            return
        self._lettered.add(failure.seq)
        receiver, reason = Receiver(group=self.name), NO_ATTEMPTS_LEFT
        place = self.topic_id, self.epoch, failure.seq
        self._asker.ask(
            lambda req: GiveUp(req, *place, receiver, failure.attempts, reason, failure.error),
            partial(self._answered_give_up, failure.seq),
        )

    def _answered_give_up(self, seq: int, answer: link.Answer) -> None:
        """The dead letter is written; else it is asked for again at the next tick."""
        self._lettered.discard(seq)
        if isinstance(answer, GivenUp) and self.window.given_up(seq):
            self.cursor.changed()
            self.wake()

    def _count(self, failed: int = 0, retried: int = 0) -> None:
        self._tools.owner.tallies.delivered(TopicDelivered(self.topic_id, self.epoch, failed=failed, retried=retried))

    # Reading

    def _read_on(self, row: Row) -> None:
        """Asks for the next page, as much as the members have room for."""
        room = min(self.window.room(), link.PAGE_COUNT)
        if self._is_reading or not room or row.seq < self.window.next:
            return
        self._is_reading = True
        after = self.window.next - 1
        self._asker.ask(lambda req: link.Fetch(req, self.topic_id, self.epoch, after, room), self._take)

    def _take(self, answer: link.Answer) -> None:
        self._is_reading = False
        if not isinstance(answer, link.Page):
            self._plan_again()
            return
        begin = answer.seq if answer.frames else answer.first_seq
        if begin > self.window.next:
            self._lost(self.window.next, begin - 1)
        now, draw = self._tools.now(), self._tools.draw
        for seq, (ts, frame) in enumerate(zip(answer.ts, answer.frames, strict=True), answer.seq):
            if seq == self.window.next:
                self._read[seq] = ts, frame
                self.window.take(seq, self._key_of(frame), now, draw)
        row = self._row()
        if row is not None:
            self._send(row)  # at once: what is redacted later must not be sent as it was
        self.wake()
        if not answer.frames:
            self._plan_again()

    def _plan_again(self) -> None:
        """The history is late, or too many ask: it is asked again at the next tick."""
        if self._timer is None and not self.closed:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _key_of(self, frame: bytes) -> int:
        """Returns the number of a message's key; an event has that of the message it changed, where that is here."""
        for seq in targets_of([frame]):
            kept = self._tools.owner.history.get(self.epoch, seq)
            if kept is not None and kept.frame is not None:
                frame = kept.frame
        return hash_of(key_in(frame))

    def _lost(self, first: int, last: int) -> None:
        """The topic keeps these messages no longer: all members are told."""
        self.window.lose(last)
        self.cursor.changed()
        for member, peer in self.members.items():
            peer.send(GroupMessages(self.topic_id, self.epoch, self.name, member, [], [], [], lost=(first, last)))

    # Sending

    def _send(self, row: Row) -> None:
        """Sends what the members have room for. Behind one that has none, or whose frame is late, it gets no other."""
        now, draw, window = self._tools.now(), self._tools.draw, self.window
        batches: dict[str, GroupMessages] = {}
        held = {member for member, peer in self.members.items() if peer.congested}
        for member, seq in window.ready():
            if member in held or not window.has_room(member):
                held.add(member)
                continue
            found = self._read.get(seq) or self._find(row, seq, member)
            if found is None:
                held.add(member)
                continue
            ts, frame = found
            is_replay = bool(window.letter_of(seq))
            attempt = window.send(seq, len(frame), now, draw)
            batch = batches.get(member)
            if batch is None:
                batch = batches[member] = GroupMessages(self.topic_id, self.epoch, self.name, member, [], [], [])
            batch.seqs.append(seq)
            batch.ts.append(ts)
            batch.frames.append(replayed_frame(frame, attempt) if is_replay else frame_again(frame, attempt))
            batch.again += attempt > 1
        self._read.clear()
        self._caught_up(batches)
        for member, batch in batches.items():
            self.members[member].send(batch)
        retried = sum(batch.again for batch in batches.values())
        if retried:
            self._count(retried=retried)

    def _caught_up(self, batches: dict[str, GroupMessages]) -> None:
        for member, target in list(self._targets.items()):
            if not self.window.owes(member, target):
                del self._targets[member]
                batch = batches.get(member)
                if batch is None:
                    batch = batches[member] = GroupMessages(self.topic_id, self.epoch, self.name, member, [], [], [])
                batch.caught_up = max(self.window.next - 1, target)
                batch.is_empty = not batch.caught_up

    def _find(self, row: Row, seq: int, member: str) -> tuple[int, bytes] | None:
        """Returns a message that was not sent when it was read; None while it is on its way, or where it is gone."""
        if seq in self._loading:
            return None
        self._loading.add(seq)
        try:
            found = self._tools.messages.find(row, seq, self._asker, partial(self._loaded, seq))
        except Refusal:  # too many wait: at the next tick
            self._loading.discard(seq)
            return None
        if found is NoMessage.LATER:
            return None
        self._loading.discard(seq)
        if isinstance(found, bytes):
            kept = self._tools.owner.history.get(self.epoch, seq)
            return 0 if kept is None else kept.ts, found
        letter = self.window.letter_of(seq)
        if letter:
            self._tools.owner.letters.append(LetterEnded(letter, self.topic_id, GONE), lambda done: None)
        self.window.drop(seq)
        self.cursor.changed()
        gap = GroupMessages(self.topic_id, self.epoch, self.name, member, [], [], [], lost=(seq, seq))
        self.members[member].send(gap)
        self.wake()
        return None

    def _loaded(self, seq: int) -> None:
        self._loading.discard(seq)
        self.wake()


def _policy_of(row: Row) -> BackoffPolicy:
    return msgspec.convert(effective(row.settings)["retry"], BackoffPolicy)
