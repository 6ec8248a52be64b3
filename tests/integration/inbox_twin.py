"""The owner of `ingest_twin` with inboxes: it joins what it knows of members and messages with cursors and marks."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

from headgate.core.sequencer.effects import Deliver
from headgate.core.sequencer.rows import Row
from headgate.core.wire import link, link_acks
from headgate.core.wire import link_inbox as inbox
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import shard_of, topic_key, user_shard
from headgate.core.wire.rights import Caller, may_be_told_of, may_subscribe, require, unknown_topic
from headgate.runtime.logs.memory_store import MemoryStore
from tests.contract.virtual import VirtualLoop, run
from tests.integration.ingest_twin import Owner, World

INBOX = "/api/v1/inbox"
MESSAGES = f"{INBOX}/messages"
ACK = f"{INBOX}/ack"
SHARDS = 4


class InboxOwner(Owner):
    """Owns every shard, of users too. What follows is what tests set."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.cursors: dict[tuple[str, str, str], tuple[int, int]] = {}  # epoch, seq by user, device, topic
        self.marks: dict[tuple[str, str], tuple[int, int, int]] = {}  # epoch, seq, n by user, topic
        self.told: list[inbox.ReadStored] = []
        self.refused: dict[type[Any], Refusal] = {}  # answers to questions of a kind
        self.away: set[int] = set()  # shards whose topics cannot be read now
        self.page_topics = inbox.MISSED_TOPICS
        self.missed_bytes = inbox.MISSED_BYTES
        self.empty = False  # the owners of topics find nothing, and say that there is more
        self.before: Callable[[link.Request], None] = lambda request: None

    def answer(self, request: link.Request) -> link.Answer:
        self.before(request)
        refusal = self.refused.get(type(request))
        if refusal is not None:
            return link.Refused(request.req, refusal.code, refusal.detail)
        return super().answer(request)

    def take(self, message: link.Message) -> None:
        if isinstance(message, inbox.ReadStored):
            self.told.append(message)
        super().take(message)

    # -- the owner of the user's shard

    def _AskInbox(self, ask: inbox.AskInbox) -> link.Answer:
        assert ask.limit <= inbox.PAGE_TOPICS
        rows, caller = self._topics_of(ask.user_id), ask.caller
        told = [row for row in rows if caller is None or may_be_told_of(caller, row.topic_id)]
        topics = [self._joined(row, ask.user_id, ask.device_id) for row in told]
        return inbox.InboxAnswer(ask.req, [topic for topic in topics if topic.topic_id > ask.after][: ask.limit])

    def _AskMissedTopics(self, ask: inbox.AskMissedTopics) -> link.Answer:
        topics = []
        for row in self._topics_of(ask.user_id):
            joined = self._joined(row, ask.user_id, ask.device_id)
            if joined.head_seq > joined.cursor_seq:
                head_ts = self.frames[row.topic_id][-1].ts
                topics.append(inbox.MissedTopic(row.topic_id, row.epoch, joined.cursor_seq, head_ts))
        topics.sort(key=lambda topic: (topic.head_ts, topic.topic_id))
        topics = [topic for topic in topics if (topic.head_ts, topic.topic_id) > (ask.after_ts, ask.after_id)]
        return inbox.MissedTopics(ask.req, topics[: self.page_topics], len(topics) > self.page_topics)

    def _MoveCursors(self, ask: link_acks.MoveCursors) -> link.Answer:
        for cursor in ask.cursors:
            key = (cursor.user_id, cursor.device_id, cursor.topic_id)
            self.cursors[key] = max(self.cursors.get(key, (0, 0)), (cursor.epoch, cursor.seq))
        return link_acks.CursorsMoved(ask.req)

    def _MoveMarks(self, ask: inbox.MoveMarks) -> link.Answer:
        for mark in ask.marks:
            key = (mark.user_id, mark.topic_id)
            self.marks[key] = max(self.marks.get(key, (0, 0, 0)), (mark.epoch, mark.seq, mark.n))
        return inbox.MarksMoved(ask.req)

    def _topics_of(self, user_id: str) -> list[Row]:
        rows = [row for rows in self.rows for row in rows.values() if self.role(Caller(user_id), row) is not None]
        return sorted(rows, key=lambda row: row.topic_id)

    def _joined(self, row: Row, user_id: str, device_id: str) -> inbox.InboxTopic:
        key = topic_key(row.topic_id)
        member = self._state(row).membership(key, row, user_id)
        assert member is not None
        epoch, cursor = self.cursors.get((user_id, device_id, row.topic_id), (row.epoch, 0))
        read_epoch, read_seq, read_n = self.marks.get((user_id, row.topic_id), (row.epoch, 0, 0))
        cursor_seq = max(member.joined_seq, cursor if epoch == row.epoch else 0)
        read_seq = max(member.joined_seq, read_seq if read_epoch == row.epoch else 0)
        joined_n = self._n(row, member.joined_seq)
        unread = row.n - max(joined_n, read_n if read_epoch == row.epoch else 0)
        return inbox.InboxTopic(row.topic_id, row.epoch, "direct", row.seq, cursor_seq, read_seq, unread)

    def _n(self, row: Row, seq: int) -> int:
        return sum(self.book.is_message(d) and d.seq <= seq for d in self.frames.get(row.topic_id, []))

    # -- the owners of topics

    def _AskMissed(self, ask: inbox.AskMissed) -> link.Answer:
        if ask.shard in self.away:
            raise Refusal("not_ready", f"the owner of shard {ask.shard} is away")
        if self.empty:
            return inbox.Missed(ask.req, [], False)
        assert 1 <= len(ask.topics) <= inbox.MISSED_TOPICS
        found = []
        for topic in ask.topics:
            row = self.row(topic.topic_id)
            if may_subscribe(ask.caller, row, self.role(ask.caller, row)) and row.epoch == topic.epoch:
                above = self._above(topic)
                found += [(above[0].ts, topic.topic_id, above)] if above else []
        topics: list[inbox.MissedMessages] = []
        count = size = 0
        for ts, topic_id, messages in sorted(found, key=lambda one: one[:2]):
            frames: list[bytes] = []
            for message in messages:
                frame = self.book.now(message)
                if count == ask.limit or (count and size + len(frame) > self.missed_bytes):
                    topics += [inbox.MissedMessages(topic_id, ts, frames)] if frames else []
                    return inbox.Missed(ask.req, topics, False)
                frames.append(frame)
                count, size = count + 1, size + len(frame)
            topics.append(inbox.MissedMessages(topic_id, ts, frames))
        return inbox.Missed(ask.req, topics, True)

    def _above(self, topic: inbox.MissedTopic) -> list[Deliver]:
        return [d for d in self.frames[topic.topic_id] if d.seq > topic.after_seq and self.book.is_message(d)]

    def _ResolveMark(self, ask: inbox.ResolveMark) -> link.Answer:
        row = self._permitted(ask.topic_id, ask.caller, lambda *_: True)
        role = self.role(ask.caller, row)
        if role is None:
            raise unknown_topic(ask.topic_id)
        require(may_subscribe(ask.caller, row, role), ask.caller, row, role, "mark messages of")
        if row.settings.get("profile") == "ephemeral":
            raise Refusal("not_in_profile", "ephemeral")
        seq = min(ask.seq, row.seq)
        return inbox.ResolvedMark(ask.req, ask.topic_id, row.epoch, seq, self._n(row, seq))


class InboxWorld(World):
    """An ingest whose owner has inboxes."""

    owner_type = InboxOwner
    owner: InboxOwner


def play(scene: Any, mode: str = "jwt", **options: Any) -> None:
    """Runs a scene on virtual time."""

    async def main() -> None:
        world = InboxWorld(mode, **options)
        await world.log.open()
        async with world.client:
            await scene(world)

    run(VirtualLoop(), main())


async def join(world: InboxWorld, topic_id: str, user: str = "bo", role: str = "member") -> None:
    answer = await world.call("PUT", f"/api/v1/topics/{topic_id}/members/{user}", json={"role": role})
    assert answer.status_code == 200, answer.text


async def filled(world: InboxWorld, topic_id: str, *payloads: Any, user: str = "bo", **members: Any) -> list[str]:
    """Makes a topic of ana's with a member; returns the ids of its messages."""
    await world.create(topic_id, **members)
    await join(world, topic_id, user)
    return [await published(world, topic_id, payload) for payload in payloads]


async def published(world: InboxWorld, topic_id: str, payload: Any) -> str:
    answer = await world.publish(topic_id, payload=payload)
    assert answer.status_code == 200, answer.text
    await asyncio.sleep(0.01)  # so that each has a time of its own
    message_id: str = answer.json()["message_id"]
    return message_id


async def topics(world: InboxWorld, query: str = "", user: str = "bo") -> dict[str, dict[str, Any]]:
    answer = await world.call("GET", INBOX + query, world.token(user))
    assert answer.status_code == 200, answer.text
    return {topic["topic_id"]: topic for topic in answer.json()["topics"]}


async def missed(world: InboxWorld, query: str = "", user: str = "bo") -> tuple[list[Any], bool]:
    """Returns (topic, payload) of each message, and whether there is more."""
    answer = await world.call("GET", MESSAGES + query, world.token(user))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"messages", "more"}
    return [(frame["topic_id"], frame["payload"]) for frame in body["messages"]], body["more"]


async def ack(world: InboxWorld, user: str = "bo", path: str = ACK, **body: Any) -> httpx.Response:
    return await world.call("POST", path, world.token(user), json=body)


def topic_in(shard: int) -> str:
    """Returns the id of a topic in a shard."""
    return next(f"t{n}" for n in range(1_000) if shard_of(topic_key(f"t{n}"), SHARDS) == shard)


def user_in(shard: int) -> str:
    """Returns a user of a shard."""
    return next(f"u{n}" for n in range(1_000) if user_shard(f"u{n}", SHARDS) == shard)
