"""A Hypothesis machine of inboxes: after each step, once pointers have settled, everybody's is what the model says.

Each assertion begins with the name of the invariant that it is about: `places` (heads, cursors, read marks, unread),
`missed` (what a device gets), `monotonic` (no place goes back, also while pointers are under way).
"""

import asyncio
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from headgate.core.wire.inbox_record import CursorsRecord, HeadsRecord, MarksRecord, MembershipRecord
from tests.inbox.bed import POLL_S, ROOT, SETTLE_S, SHARDS, SimulatedInboxes, names
from tests.inbox.model import Device, Model, ModelMessage, ModelTopic

TOPICS: Final = tuple(sorted(names("t", 0, 2) + names("t", 1, 1)))
USERS: Final = tuple(sorted(names("c", 0, 2, of_users=True) + names("c", 1, 1, of_users=True)))
DEVICES: Final = ("desk", "phone")
TOPIC = st.sampled_from(TOPICS)
USER = st.sampled_from(USERS)
DEVICE = st.sampled_from(DEVICES)
SHARD = st.integers(0, SHARDS - 1)
PLACE = st.integers(0, 40)
MAX_COPIES: Final = 20
RECORDS: Final = (object, CursorsRecord, HeadsRecord, MarksRecord, MembershipRecord)
FAULTS: Final = ("killed", "killed and half written", "log refused", "log silent", "log slow")
PLACES: Final = ("head_seq", "cursor_seq", "read_seq")


class InboxMachine(RuleBasedStateMachine):
    """Two dispatchers and an ingest on virtual time; three users with two devices each; three topics."""

    def __init__(self) -> None:
        super().__init__()
        self.bed = SimulatedInboxes()
        self.model = Model()
        self.seen: dict[tuple[Device, str], dict[str, Any]] = {}  # the newest that was right, of each membership
        self.count = 0
        self.at = 0

    def teardown(self) -> None:
        """Ends the world."""
        self.bed.close()

    # What happens

    @initialize()
    def begin(self) -> None:
        for user in USERS:
            self.bed.do(self._create(TOPICS[0], user) if user == USERS[0] else self._join(TOPICS[0], user))
        self._settled()

    @rule(topic=TOPIC, user=USER)
    def create_or_delete(self, topic: str, user: str) -> None:
        self.bed.do(self._delete(topic) if topic in self.model.topics else self._create(topic, user))
        self._settled()

    @rule(topic=TOPIC, user=USER, again=st.booleans())
    def recreate(self, topic: str, user: str, again: bool) -> None:
        """Deletes and creates at once; with `again` its messages come at once too."""

        async def at_once() -> None:
            if topic in self.model.topics:
                await self._delete(topic)
            await self._create(topic, user)
            if again:
                await self._publish(topic, 2)

        self.bed.do(at_once())
        self._settled()

    @rule(topic=TOPIC, user=USER)
    def join(self, topic: str, user: str) -> None:
        if topic in self.model.topics:
            self.bed.do(self._join(topic, user))
        self._settled()

    @rule(topic=TOPIC, user=USER)
    def leave(self, topic: str, user: str) -> None:
        if topic in self.model.topics and user != self.model.topics[topic].owner:
            self.bed.do(self._leave(topic, user))
        self._settled()

    @rule(topic=TOPIC, count=st.integers(1, 4))
    def publish(self, topic: str, count: int) -> None:
        if topic in self.model.topics:
            self.bed.do(self._publish(topic, count))
        self._settled()

    @rule(topic=TOPIC, count=st.sampled_from((2, 7, 30)))
    def publish_batch(self, topic: str, count: int) -> None:
        if topic in self.model.topics:
            self.bed.do(self._publish_batch(topic, count))
        self._settled()

    @rule(topic=TOPIC, at=PLACE, what=st.sampled_from(("edit", "edit", "react", "unreact", "redact")), user=USER)
    def change(self, topic: str, at: int, what: str, user: str) -> None:
        found = self.model.topics.get(topic, ModelTopic("")).messages
        live = [message for message in found if not message.redacted]
        if live:
            self.bed.do(self._change(topic, live[at % len(live)], what, user))
        self._settled()

    @rule(
        topic=TOPIC, user=USER, device=DEVICE, seqs=st.lists(PLACE, min_size=1, max_size=3),
        kind=st.sampled_from(("delivered", "read")),
    )  # fmt: skip
    def acknowledge(self, topic: str, user: str, device: str, seqs: list[int], kind: str) -> None:
        """Acknowledges places in any order."""
        for seq in seqs:
            self.bed.do(self._acknowledge(topic, (user, device), seq, kind))
        self._settled()

    @rule(user=USER, device=DEVICE, limit=st.integers(1, 40))
    def reconnect(self, user: str, device: str, limit: int) -> None:
        """Reads and acknowledges pages until nothing is left: each missed message once."""
        self.bed.do(self._reconnect((user, device), limit))
        self._settled()

    @rule(shard=SHARD, first=PLACE, kind=st.sampled_from(RECORDS), backwards=st.booleans())
    def repeat_records(self, shard: int, first: int, kind: type, backwards: bool) -> None:
        """Old bundles, memberships, cursors and marks come again, late and in another order: that changes nothing."""
        kept = [record for record, found in self.bed.inbox_records(shard) if isinstance(found, kind)]
        at = first % len(kept) if kept else 0
        chosen = kept[at : at + MAX_COPIES]
        for record in reversed(chosen) if backwards else chosen:
            self.bed.append(shard, record)
        self.bed.do(asyncio.sleep(1.0))  # else the answers come before the records
        self._settled()

    @rule(shard=SHARD, extra=st.sampled_from((0.0, 0.5, 0.99)), calm_s=st.sampled_from((0.0, 3.0)))
    def kill_owner(self, shard: int, extra: float, calm_s: float) -> None:
        """With `calm_s` there are snapshots of all that happened."""

        async def kill() -> None:
            await asyncio.sleep(calm_s)
            await self.bed.kill(shard, extra)

        self.bed.do(kill())
        self._settled()

    @precondition(lambda self: self.model.topics)
    @rule(shard=SHARD, at=st.integers(0, 5), fault=st.sampled_from(FAULTS))
    def fault_at_work(self, shard: int, at: int, fault: str) -> None:
        """Something happens to an owner while messages, joins and marks of all topics are under way to it."""
        topics = sorted(self.model.topics)

        async def work(topic: str) -> None:
            user = USERS[at % len(USERS)]
            await self._publish(topic, 2)
            await self._join(topic, user)
            await self._publish_batch(topic, 3)
            await self._acknowledge(topic, (user, DEVICES[0]), self.model.topics[topic].head - 1, "read")

        async def both() -> None:
            working = asyncio.gather(*(work(topic) for topic in topics))
            await asyncio.sleep(at * 0.02)
            await self.bed.inflict(shard, fault)
            await working

        self.bed.do(both())
        self._settled()

    @rule(shard=SHARD)
    def forget(self, shard: int) -> None:
        """The inbox log forgets what stands before a snapshot: who owns the shard next has it from there only."""
        self.bed.forget_inbox(shard)

    @rule(seconds=st.sampled_from((0.0, 0.05, 0.3, 2.0)))
    def wait(self, seconds: float) -> None:
        self.bed.do(asyncio.sleep(seconds))
        self._settled()

    # One thing each, with the model

    async def _create(self, topic: str, user: str) -> None:
        reply = await self.bed.asked(user, "POST", "/api/v1/topics", {"name": topic, "topic_id": topic})
        assert reply.status in (201, 409), reply  # 409: an attempt that got no answer had created it
        info = await self.bed.asked(ROOT, "GET", f"/api/v1/topics/{topic}")
        self.model.create(topic, user, info.body["epoch"])

    async def _delete(self, topic: str) -> None:
        reply = await self.bed.asked(ROOT, "DELETE", f"/api/v1/topics/{topic}")
        assert reply.status in (204, 404), reply
        del self.model.topics[topic]
        self._forget(topic)

    async def _join(self, topic: str, user: str) -> None:
        path = f"/api/v1/topics/{topic}/members/{user}"
        role = "owner" if user == self.model.topics[topic].owner else "member"
        reply = await self.bed.asked(ROOT, "PUT", path, {"role": role})
        assert reply.status == 200, reply
        self.model.join(topic, user)
        assert reply.body["joined_seq"] == self.model.topics[topic].joined[user], f"places: {reply}"

    async def _leave(self, topic: str, user: str) -> None:
        reply = await self.bed.asked(ROOT, "DELETE", f"/api/v1/topics/{topic}/members/{user}")
        assert reply.status in (204, 404), reply
        self.model.leave(topic, user)
        self._forget(topic, user)

    async def _publish(self, topic: str, count: int) -> None:
        for _ in range(count):
            payload = self._payload()
            reply = await self.bed.publish(ROOT, topic, payload)
            assert reply.status == 200, reply
            self.model.publish(topic, reply.body["seq"], reply.body["message_id"], payload)

    async def _publish_batch(self, topic: str, count: int) -> None:
        payloads = [self._payload() for _ in range(count)]
        results = await self.bed.publish_batch(ROOT, topic, payloads)
        for result, payload in zip(results, payloads, strict=True):
            self.model.publish(topic, result["seq"], result["message_id"], payload)

    def _payload(self) -> dict[str, int]:
        self.count += 1
        return {"n": self.count}

    async def _change(self, topic: str, message: ModelMessage, what: str, user: str) -> None:
        path = f"/api/v1/topics/{topic}/messages/{message.message_id}"
        before = self.model.topics[topic].head
        if what == "edit":
            payload = self._payload()
            reply = await self.bed.asked(ROOT, "PATCH", path, {"payload": payload, "version": message.version})
            message.payload, message.version = payload, message.version + 1
        elif what == "redact":
            reply = await self.bed.asked(ROOT, "DELETE", path)
            message.redacted = True
        else:
            reply = await self.bed.asked(user, "PUT" if what == "react" else "DELETE", f"{path}/reactions/ok")
            message.reactions ^= (message.reactions & {(user, "ok")}) ^ ({(user, "ok")} if what == "react" else set())
        assert reply.status in (200, 204), reply
        info = await self.bed.asked(ROOT, "GET", f"/api/v1/topics/{topic}")
        self.model.topics[topic].head = info.body["seq"]  # whether a repeat is an event the topic decides
        assert info.body["seq"] - before in ((0, 1) if "react" in what else (1,)), f"places: {what} moves {info}"

    async def _acknowledge(self, topic: str, device: Device, seq: int, kind: str) -> None:
        body = {"topic_id": topic, "device_id": device[1], "seq": seq, "kind": kind}
        reply = await self.bed.asked(device[0], "POST", "/api/v1/inbox/ack", body)
        found = self.model.topics.get(topic)
        if found is None or device[0] not in found.joined:
            assert reply.status == 404, f"places: no member may mark: {reply}"
            return
        assert reply.status == 204, reply
        if kind == "read":
            self.model.mark(topic, device[0], seq)
        else:
            self.model.acknowledge(topic, device, seq)
        name = f"{kind}_seq" if kind == "read" else "cursor_seq"
        for now, expected in await self._one_inbox(device, topic):  # none while the membership is under way
            assert now[name] == expected[name], f"places: after its 204 {name} is {now}, not {expected}"

    async def _one_inbox(self, device: Device, topic: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        entry = self.model.topics[topic].entry(topic, device)
        now = [found for found in await self._inbox(device) if found["topic_id"] == topic]
        return [(found, entry) for found in now if found["epoch"] == entry["epoch"]]

    async def _reconnect(self, device: Device, limit: int) -> None:
        wanted = {(t, m.seq) for t, found in self.model.missed(device).items() for m in found}
        got: list[tuple[str, int]] = []
        for _ in range(SHARDS * len(wanted) + 20):
            body = await self._messages(device, limit)
            page = [(frame["topic_id"], frame["seq"]) for frame in body["messages"]]
            got += page
            for topic in dict.fromkeys(topic for topic, _ in page):
                await self._acknowledge(topic, device, max(seq for t, seq in page if t == topic), "delivered")
            if not page and not body["more"]:
                break
        else:
            raise AssertionError(f"missed: {device} never has all: {len(got)} of {len(wanted)}")
        assert sorted(got) == sorted(wanted), f"missed: {device} came back and got {got}, not {wanted}"

    # What must hold

    def _settled(self) -> None:
        """Everybody's places; the messages of one device, another one after each step."""
        devices = self._devices()
        self.at += 1
        self.bed.do(self._check(devices[self.at % len(devices) :][:1]))

    def _devices(self) -> list[Device]:
        return [(user, device) for user in USERS for device in DEVICES]

    async def _check(self, whose_messages: list[Device]) -> None:
        for user in USERS:
            await self._places((user, DEVICES[self.at % 2]))
        for device in whose_messages:
            await self._places(device)
            await self._missed(device)

    async def _places(self, device: Device) -> None:
        """Waits until the inbox is right; until then nothing in it may be too high, or go back."""
        expected = self.model.inbox(device)
        deadline = self.bed.loop.now() + SETTLE_S
        while True:
            found = await self._inbox(device)
            if found == expected:
                self.seen |= {(device, entry["topic_id"]): entry for entry in expected}
                return
            assert self.bed.loop.now() < deadline, f"places: {device}: {found}, expected {expected}"
            await asyncio.sleep(POLL_S)

    async def _inbox(self, device: Device) -> list[dict[str, Any]]:
        reply = await self.bed.asked(device[0], "GET", "/api/v1/inbox", device_id=device[1])
        assert reply.status == 200, reply
        found: list[dict[str, Any]] = reply.body["topics"]
        for entry in found:
            self._between(device, entry)
        return found

    def _between(self, device: Device, entry: dict[str, Any]) -> None:
        """An answer is between what the same membership was answered once it had settled, and the model."""
        before = self.seen.get((device, entry["topic_id"]))
        if before is None:
            return  # it may still be about a membership that has just ended
        now = self.model.topics[entry["topic_id"]].entry(entry["topic_id"], device)
        for place in PLACES:
            assert before[place] <= entry[place], f"monotonic: {device}: {entry} after {before}"
            assert entry[place] <= now[place], f"places: {device}: {entry} is ahead of {now}"

    def _forget(self, topic: str, user: str = "") -> None:
        """A membership has ended, or all of a topic."""
        for device, of in [key for key in self.seen if key[1] == topic and user in ("", key[0][0])]:
            del self.seen[device, of]

    async def _messages(self, device: Device, limit: int) -> dict[str, Any]:
        reply = await self.bed.asked(device[0], "GET", "/api/v1/inbox/messages", device_id=device[1], limit=limit)
        assert reply.status == 200, reply
        body: dict[str, Any] = reply.body
        return body

    async def _missed(self, device: Device) -> None:
        """Waits until what is missed is right, whole and in pages."""
        wanted = self.model.missed(device)
        expected = {topic: [_told(message) for message in found] for topic, found in wanted.items()}
        deadline = self.bed.loop.now() + SETTLE_S
        while True:
            body = await self._messages(device, 1_000)
            frames = body["messages"]
            found: dict[str, list[dict[str, Any]]] = {}
            for frame in frames:
                found.setdefault(frame["topic_id"], []).append(_as_told(frame))
            if found == expected and not body["more"]:
                break
            assert self.bed.loop.now() < deadline, f"missed: {device}: {found}, expected {expected}"
            await asyncio.sleep(POLL_S)
        topics = list(dict.fromkeys(frame["topic_id"] for frame in frames))
        oldest = [next((f["ts"], t) for f in frames if f["topic_id"] == t) for t in topics]
        assert oldest == sorted(oldest), f"missed: topics by their oldest missed message: {oldest}"
        blocks = [f["topic_id"] for n, f in enumerate(frames) if n == 0 or frames[n - 1]["topic_id"] != f["topic_id"]]
        assert blocks == topics, f"missed: a topic's messages stand together: {blocks}"
        half = max(1, len(frames) // 2)
        page = await self._messages(device, half)
        assert page["messages"] == frames[:half], f"missed: a page of {half} is the beginning: {page}"
        assert page["more"] or len(frames) <= half, f"missed: {len(frames)} messages, a page of {half} says no more"


def _told(message: ModelMessage) -> dict[str, Any]:
    payload = None if message.redacted else message.payload
    told = {"seq": message.seq, "message_id": message.message_id, "payload": payload, "redacted": message.redacted}
    return told if message.redacted else told | {"version": message.version, "reactions": message.counts}


def _as_told(frame: dict[str, Any]) -> dict[str, Any]:
    assert "kind" not in frame, f"missed: an event is no message: {frame}"
    told = {name: frame[name] for name in ("seq", "message_id", "payload")} | {"redacted": bool(frame.get("redacted"))}
    if told["redacted"]:
        return told
    return told | {"version": frame.get("version", 1), "reactions": frame.get("reactions", {})}
