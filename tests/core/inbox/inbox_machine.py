"""A model of inboxes, written from the requirements, and a Hypothesis machine that compares.

The world is topics with members, messages and events. What happens there becomes records of the inbox log, which come
in any order, repeated and late. The owner of the users' shard may lose all but its last snapshot and read the records
after it again. At every step it must show what the records that it has say; once it has all, what the world says.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import structs

from headgate.core.inbox.users import UserTopics
from headgate.core.wire.inbox_record import HeadEntry, MembershipRecord, encode_inbox
from headgate.core.wire.link_acks import Cursor
from headgate.core.wire.link_inbox import InboxTopic, MissedTopic, ReadMark
from headgate.core.wire.records import Record
from tests.core.inbox.inbox_log import cursors, heads, inbox, marks, missed, pairs, placed

USERS: Final = ["ann", "bob"]
DEVICES: Final = ["phone", "web"]
TOPICS: Final = ["t", "u"]
NOW_MS: Final = 1_000_000
KEEP_MS: Final = 8 * 86_400_000
USER, DEVICE = st.sampled_from([*USERS, USERS[0]]), st.sampled_from([*DEVICES, DEVICES[0]])
TOPIC, PART = st.sampled_from([*TOPICS, TOPICS[0], TOPICS[0]]), st.sampled_from([0.3, 0.6, 1.0])

S = TypeVar("S", MembershipRecord, HeadEntry, Cursor, ReadMark)


@dataclass
class World:
    """One epoch of a topic. `kinds` has True for a message and False for an event, by seq from 1."""

    epoch: int
    kinds: list[bool] = field(default_factory=list)
    joined: dict[str, int] = field(default_factory=dict)  # by member: the seq at which he joined
    read: dict[str, int] = field(default_factory=dict)
    acked: dict[tuple[str, str], int] = field(default_factory=dict)
    hot: bool = False

    @property
    def seq(self) -> int:
        return len(self.kinds)

    def n(self, seq: int) -> int:
        return sum(self.kinds[:seq])

    def ts(self, seq: int) -> int:
        """The time of the newest message up to a seq."""
        return max([self.epoch * 1_000 + at for at, kind in enumerate(self.kinds[:seq], 1) if kind], default=0)


class Fact(NamedTuple):
    """A record that exists, and what it says: the membership and whose, or the entry."""

    record: Record
    user: str
    said: MembershipRecord | HeadEntry | Cursor | ReadMark


class InboxMachine(RuleBasedStateMachine):
    """Each assertion begins with the name of the invariant that it is about."""

    def __init__(self) -> None:
        super().__init__()
        self.users = UserTopics()
        self.topics: dict[str, World] = {}
        self.offset = 0  # of the topics' log
        self.made: list[Fact] = []
        self.log: list[tuple[Record, Fact]] = []  # as the owner reads it
        self.snapshot: tuple[dict[bytes, bytes | None], int] = {}, 0

    @initialize()
    def begin(self) -> None:
        self.create(TOPICS[0], USERS[0])
        self.publish(TOPICS[0], [True, True, False, True], pointer=True)

    # -- the world

    def _source(self) -> int:
        self.offset += 1
        return self.offset

    def _member(self, user: str, topic: str, epoch: int, role: str, seq: int, n: int) -> None:
        said = MembershipRecord(topic, epoch, self._source(), role, seq, n, NOW_MS)
        self.made.append(Fact(Record(0, NOW_MS, user.encode(), encode_inbox(said)), user, said))

    def _head(self, topic: str, *, gone: bool = False) -> None:
        world = self.topics[topic]
        said = HeadEntry(topic, world.epoch, world.seq, world.n(world.seq), world.ts(world.seq), world.hot, gone)
        self.made.append(Fact(heads(said, at=NOW_MS), "", said))

    @rule(topic=TOPIC, user=USER)
    def create(self, topic: str, user: str) -> None:
        if topic not in self.topics:
            self.topics[topic] = World(self._source())
            self.join(topic, user)

    @rule(topic=TOPIC)
    def delete(self, topic: str) -> None:
        if topic in self.topics:
            self._head(topic, gone=True)
            del self.topics[topic]

    @rule(topic=TOPIC, user=USER)
    def create_again(self, topic: str, user: str) -> None:
        self.delete(topic)
        self.create(topic, user)
        self.publish(topic, [True], pointer=True)

    @rule(topic=TOPIC, user=USER)
    def join(self, topic: str, user: str) -> None:
        world = self.topics.get(topic)
        if world is not None and user not in world.joined:
            world.joined[user] = world.seq
            self._member(user, topic, world.epoch, "member", world.seq, world.n(world.seq))

    @rule(topic=TOPIC, user=USER)
    def leave(self, topic: str, user: str) -> None:
        world = self.topics.get(topic)
        if world is not None and world.joined.pop(user, None) is not None:
            self._member(user, topic, world.epoch, "", 0, 0)

    @rule(topic=TOPIC, kinds=st.lists(st.booleans(), min_size=1, max_size=4), pointer=st.booleans())
    def publish(self, topic: str, kinds: list[bool], pointer: bool) -> None:
        if topic in self.topics:
            self.topics[topic].kinds += kinds
            if pointer:
                self._head(topic)

    @rule(topic=TOPIC)
    def heat(self, topic: str) -> None:
        if topic in self.topics:
            self.topics[topic].hot = not self.topics[topic].hot
            self._head(topic)

    @rule(topic=TOPIC, user=USER, device=DEVICE, part=PART, reads=st.booleans(), acknowledges=st.booleans())
    def use(self, topic: str, user: str, device: str, part: float, reads: bool, acknowledges: bool) -> None:
        world = self.topics.get(topic)
        if world is None or user not in world.joined:
            return
        seq = round(world.seq * part)
        if reads:
            world.read[user] = max(seq, world.read.get(user, 0))
            mark = ReadMark(user, topic, world.epoch, seq, world.n(seq))
            self.made.append(Fact(marks(mark, at=NOW_MS), user, mark))
        if acknowledges:
            world.acked[user, device] = max(seq, world.acked.get((user, device), 0))
            cursor = Cursor(user, device, topic, world.epoch, seq)
            self.made.append(Fact(cursors(cursor, at=NOW_MS), user, cursor))

    # -- the log and its reader

    def _deliver(self, fact: Fact) -> None:
        record = placed(fact.record, len(self.log))
        self.log.append((record, fact))
        self.users.apply(record)

    @precondition(lambda machine: machine.made)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """Any record comes, for the first time or again."""
        self._deliver(data.draw(st.sampled_from(self.made)))

    @rule()
    def deliver_all(self) -> None:
        """Everything comes once more, the oldest last; then the newest pointers."""
        for topic in self.topics:
            self._head(topic)
        for fact in [*reversed(self.made)]:
            self._deliver(fact)
        self._agrees_with_the_world()

    @rule()
    def write_snapshot(self) -> None:
        self.snapshot = pairs(self.users), len(self.log)

    @rule(twice=st.booleans())
    def crash(self, twice: bool) -> None:
        """A new owner has the last snapshot, and reads what came after it; what it has read it may read again."""
        found, at = self.snapshot
        self.users = UserTopics()
        for key, value in found.items():
            self.users.load(key, value)
        for record, _ in self.log[at:] * (1 + twice):
            self.users.apply(record)

    @rule()
    def sweep(self) -> None:
        """What no longer means anything ends; nobody sees it."""
        for _ in self.users.expire(NOW_MS + 1_000, KEEP_MS, lambda *ids: False):
            pass

    # -- what must be true

    @invariant()
    def agrees_with_the_records(self) -> None:
        for user in USERS:
            for device in DEVICES:
                expected = [topic for topic_id in TOPICS if (topic := self._by_records(user, device, topic_id))]
                assert inbox(self.users, user, device) == expected, f"join: {user} on {device}"
                behind = [
                    MissedTopic(topic.topic_id, topic.epoch, topic.cursor_seq, best.ts)
                    for topic in expected
                    for best in self._best(topic.topic_id)
                    if (best.epoch, best.seq) > (topic.epoch, topic.cursor_seq)
                ]
                behind.sort(key=lambda topic: (topic.head_ts, topic.topic_id))
                assert missed(self.users, user, device) == (behind, False), f"missed: {user} on {device}"
            assert self.users.count(user) == len(expected), "count"

    def _said(self, kind: type[S], topic: str) -> list[tuple[int, str, S]]:
        """What the log says of a topic, with its place and whose it is."""
        return [
            (at, fact.user, fact.said)
            for at, (_, fact) in enumerate(self.log)
            if isinstance(fact.said, kind) and fact.said.topic_id == topic
        ]

    def _best(self, topic: str) -> list[HeadEntry]:
        """The highest head of the highest epoch, of the same the one that came last; [] where there is none.

        Its time is the latest that one of the same says.
        """
        found = [(said.epoch, said.seq, at, said) for at, _, said in self._said(HeadEntry, topic)]
        if not found:
            return []
        best = max(found, key=lambda each: each[:3])[3]
        ts = max(said.ts for *place, _, said in found if place == [best.epoch, best.seq])
        return [structs.replace(best, ts=ts)]

    def _by_records(self, user: str, device: str, topic: str) -> InboxTopic | None:
        own = [said for at, user_id, said in self._said(MembershipRecord, topic) if user_id == user]
        newest = max(own, key=lambda said: (said.epoch, said.offset), default=None)
        told = [said for _, _, said in self._said(HeadEntry, topic)]
        if newest is None or not newest.role:
            return None
        if any(said.epoch > newest.epoch or (said.gone and said.epoch == newest.epoch) for said in told):
            return None
        best = next((said for said in self._best(topic) if said.epoch == newest.epoch), None)
        seq, n = (best.seq, best.n) if best is not None else (0, 0)
        read = [
            (said.seq, said.n)
            for _, user_id, said in self._said(ReadMark, topic)
            if (user_id, said.epoch) == (user, newest.epoch)
        ]
        acked = [
            said.seq
            for _, user_id, said in self._said(Cursor, topic)
            if (user_id, said.device_id, said.epoch) == (user, device, newest.epoch)
        ]
        joined = newest.joined_seq, newest.joined_n
        read_seq, read_n = max([joined, *read])
        mode = "inbox" if best is not None and best.hot else "direct"
        unread = max(0, max(n, joined[1]) - read_n)
        cursor_seq = max([joined[0], *acked])
        head_seq = max(seq, read_seq, cursor_seq)  # a mark may come before the pointer
        return InboxTopic(topic, newest.epoch, mode, head_seq, cursor_seq, read_seq, unread)

    def _agrees_with_the_world(self) -> None:
        for user in USERS:
            for device in DEVICES:
                expected = []
                for topic, world in sorted(self.topics.items()):
                    if user in world.joined:
                        joined = world.joined[user]
                        read = max(joined, world.read.get(user, 0))
                        cursor = max(joined, world.acked.get((user, device), 0))
                        unread = sum(world.kinds[read:])
                        expected.append((topic, world.epoch, world.seq, cursor, read, unread))
                found = [
                    (each.topic_id, each.epoch, each.head_seq, each.cursor_seq, each.read_seq, each.unread)
                    for each in inbox(self.users, user, device)
                ]
                assert found == expected, f"world: {user} on {device}"
