"""The owners of a gateway's topics in memory: they number, keep, place and page honestly, and come and go."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from headgate.core.wire import (
    link,
    link_acks,
    link_dead_letters,
    link_inbox,
    link_members,
    link_presence,
    link_users,
    topic_settings,
)
from headgate.core.wire.errors import Refusal
from headgate.core.wire.frames import ephemeral_frame, message_frame
from headgate.core.wire.member_roles import Role
from headgate.core.wire.position import place
from headgate.core.wire.rights import (
    Caller,
    may_create,
    may_know_presence,
    may_publish,
    may_see,
    may_subscribe,
    require,
    unknown_topic,
)
from headgate.runtime.links.memory_directory import MemoryDirectory
from headgate.runtime.links.port import OnAnswer
from headgate.runtime.system import SystemClock
from tests.cursors_twin import CursorsTwin
from tests.marks_twin import MarksTwin
from tests.presence_twin import PresenceTwin

SHARDS = 4


@dataclass
class Topic:
    topic_id: str
    epoch: int
    owner_id: str = "alice"
    permissions: str = "PUBLIC"
    settings: dict[str, Any] = field(default_factory=dict)
    frames: list[bytes] = field(default_factory=list)
    ts: list[int] = field(default_factory=list)
    first_seq: int = 1
    count: int = 0
    members: dict[str, Role] = field(default_factory=dict)
    fence: int = 0

    @property
    def seq(self) -> int:
        return self.first_seq - 1 + len(self.frames)

    @property
    def durable(self) -> bool:
        return bool(self.settings["profile"] == "durable")


def _role(caller: Caller, topic: Topic) -> Role | None:
    return topic.members.get(caller.user_id) or (Role.OWNER if caller.user_id == topic.owner_id else None)


def _require_subscribe(caller: Caller, topic: Topic) -> None:
    role = _role(caller, topic)
    require(may_subscribe(caller, topic, role), caller, topic, role, "subscribe to")


class Owners(MemoryDirectory):
    """The directory of a gateway and the owner of every shard, in one. Everything happens at once, in link order."""

    def __init__(self) -> None:
        super().__init__(SHARDS, self.answer, self._sent)
        self.topics: dict[str, Topic] = {}
        self.asked: list[link.Message] = []
        self.users: dict[str, int] = {}  # how many connections each has here
        self.elsewhere: dict[str, int] = {}  # and on other gateways
        self.announced: list[link_users.AttachUsers | link_users.UsersChanged] = []
        self.presence = PresenceTwin(self.topics, self._push, _role, self.shard_of)
        self.cursors = CursorsTwin(self._push)
        self.marks = MarksTwin(self._find, _role)
        self.answers: list[link_users.SubscriptionsEnded | link_users.ConnectionsAnswer] = []
        self.lose = False  # the owner sends no live messages
        self.redeemed: set[str] = set()  # tickets that were used
        self.slow = False  # what the owners send waits on the link until `deliver`, in order
        self._link: list[tuple[Callable[[Any], None], Any]] = []
        self._next_epoch = 1 << 44

    # The link

    def request(self, shard: int, build: Callable[[int], link.Request], on_answer: OnAnswer) -> None:
        """Asks the owner; it must be that of what is named."""

        def checked(req: int) -> link.Request:
            request = build(req)
            self._check(shard, request)
            return request

        super().request(shard, checked, on_answer)

    def send(self, shard: int, message: link.Message) -> None:
        """Sends to the owner; it must be that of what is named."""
        self._check(shard, message)
        super().send(shard, message)

    def _check(self, shard: int, message: link.Message) -> None:
        if isinstance(message, link_acks.OpenCursor | link_acks.ReleaseCursor):
            assert shard == self.shard_of_user(message.user_id)
            return
        named = getattr(message, "topic_id", None)
        expected = getattr(message, "shard", shard) if named is None else self.shard_of(named)
        if isinstance(message, link_users.EndSubscriptions):
            expected = self.shard_of_user(message.user_id)
        assert shard == expected and (shard in range(SHARDS) or not self.shards), f"{message} goes to shard {shard}"

    def _ask(self, request: link.Request, on_answer: OnAnswer) -> None:
        self.asked.append(request)
        self._out(on_answer, self.answer(request))

    def _sent(self, message: link.Message) -> None:
        if isinstance(message, link_presence.PresenceAnnouncement):
            self.presence.take(message)
            return
        if isinstance(message, link_users.AttachUsers | link_users.UsersChanged):
            self._announced(message)
            return
        if isinstance(message, link_users.SubscriptionsEnded | link_users.ConnectionsAnswer):
            self.answers.append(message)
            return
        if self.cursors.take(message) or self.marks.take(message):
            return
        self.asked.append(message)
        if isinstance(message, link.Leave):
            topic = self.topics.get(message.topic_id)
            if topic is not None and topic.epoch == message.epoch:
                topic.count -= message.count
        elif isinstance(message, link.Attach):
            self._attach(message)

    # The owner

    def create(self, topic_id: str, **changes: Any) -> Topic:
        self._next_epoch += 1
        settings = topic_settings.effective(topic_settings.create(changes.pop("settings", {})))
        topic = Topic(topic_id, self._next_epoch, settings=settings, **changes)
        self.topics[topic_id] = topic
        return topic

    def publish(self, topic_id: str, *payloads: Any, ts: int | None = None) -> None:
        topic = self.topics[topic_id]
        stamp = SystemClock().wall_ms() if ts is None else ts
        seq = topic.seq + 1
        tails = [
            b'"message_id":"m","publisher_id":"p","payload":' + msgspec.json.encode(payload) + b"}"
            for payload in payloads
        ]
        if not topic.durable:
            frames = [ephemeral_frame(topic_id, stamp, tail) for tail in tails]
            self._push(link.EphemeralMessages(topic_id, topic.epoch, [stamp] * len(frames), frames))
            return
        frames = [message_frame(topic_id, seq + n, stamp, tail) for n, tail in enumerate(tails)]
        topic.frames += frames
        topic.ts += [stamp] * len(frames)
        self._push(link.Messages(topic_id, topic.epoch, seq, [stamp] * len(frames), frames))

    def delete(self, topic_id: str) -> None:
        topic = self.topics.pop(topic_id)
        self._push(link.Ended(topic_id, topic.epoch, "deleted"))

    def remove(self, topic_id: str, user_id: str) -> None:
        """A member is put out."""
        topic = self.topics[topic_id]
        del topic.members[user_id]
        self._fence(topic, user_id, ended=True)

    def demote(self, topic_id: str, user_id: str, role: Role) -> None:
        """A member gets a smaller role."""
        topic = self.topics[topic_id]
        topic.members[user_id] = role
        self._fence(topic, user_id)

    def permit(self, topic_id: str, permissions: str) -> None:
        """The topic's mode changes."""
        topic = self.topics[topic_id]
        topic.permissions = permissions
        self._fence(topic)

    def _fence(self, topic: Topic, user_id: str = "", *, ended: bool = False) -> None:
        topic.fence += 1
        self._push(link_members.Fence(topic.topic_id, topic.epoch, topic.fence, user_id, ended))

    def forget(self, topic_id: str, before: int) -> None:
        topic = self.topics[topic_id]
        gone = before - topic.first_seq
        del topic.frames[:gone], topic.ts[:gone]
        topic.first_seq = before

    def go(self) -> None:
        lost, self._link = self._link, []
        self.lose_owners()
        for handler, message in lost:
            if hasattr(message, "req"):
                handler(link.Refused(message.req, "not_ready", "the link was lost"))

    def come(self) -> None:
        self.shards = SHARDS
        self.regain_owners()

    def deliver(self, count: int = 1_000_000) -> None:
        """Lets the oldest messages on a slow link arrive."""
        while self._link and count:
            count -= 1
            handler, message = self._link.pop(0)
            handler(message)

    def _out(self, handler: Callable[[Any], None], message: Any) -> None:
        if self.slow:
            self._link.append((handler, message))
        else:
            handler(message)

    def answer(self, request: link.Request) -> link.Answer:
        try:
            if isinstance(request, link_acks.CursorRequest | link_dead_letters.GiveUp):
                return self.cursors.ask(request)
            if isinstance(request, link_inbox.ResolveMark | link_inbox.MoveMarks):
                return self.marks.ask(request)
            return getattr(self, "_" + type(request).__name__)(request)  # type: ignore[no-any-return]
        except Refusal as refusal:
            return link.Refused(request.req, refusal.code, refusal.detail, refusal.extra)

    def _Redeem(self, ask: link_users.Redeem) -> link.Answer:
        if ask.ticket_id in self.redeemed:
            raise Refusal("unauthenticated", "used")
        self.redeemed.add(ask.ticket_id)
        return link_users.Redeemed(ask.req)

    def _push(self, message: link.Message) -> None:
        if self.up and not self.lose:
            self._out(self.push, message)

    def _find(self, topic_id: str) -> Topic:
        topic = self.topics.get(topic_id)
        if topic is None:
            raise unknown_topic(topic_id)
        return topic

    def _attach(self, attach: link.Attach) -> None:
        for hosted in attach.topics:
            topic = self.topics.get(hosted.topic_id)
            if topic is None or topic.epoch != hosted.epoch:
                self._push(link.Ended(hosted.topic_id, hosted.epoch, "deleted"))
                continue
            topic.count = hosted.count
            if hosted.fence < topic.fence:
                self._push(link_members.Fence(topic.topic_id, topic.epoch, topic.fence))
            if topic.durable and hosted.cursor < topic.seq:
                at = hosted.cursor + 1 - topic.first_seq
                self._push(
                    link.Messages(hosted.topic_id, topic.epoch, hosted.cursor + 1, topic.ts[at:], topic.frames[at:])
                )
        if attach.last:
            self._push(link.Attached(attach.shard, 1))

    def _announced(self, message: link_users.AttachUsers | link_users.UsersChanged) -> None:
        self.announced.append(message)
        if isinstance(message, link_users.AttachUsers) and message.first:
            for user in [user for user in self.users if self.shard_of(user) == message.shard]:
                del self.users[user]
        rose = [route for route in message.users if route.connections > self.users.get(route.user_id, 0)]
        self.users |= {route.user_id: route.connections for route in message.users}
        self.users = {user: count for user, count in self.users.items() if count}
        told = [link_users.UserRoute(r.user_id, self.elsewhere[r.user_id]) for r in rose if r.user_id in self.elsewhere]
        if told:
            self._push(link_users.UsersElsewhere(told))

    def _EndSubscriptions(self, ask: link_users.EndSubscriptions) -> link.Answer:
        if ask.user_id not in self.users:
            return link_users.SubscriptionsEnded(ask.req, 0)
        self._push(link_users.EndSubscriptions(77, ask.user_id, ask.topic_id, ask.connection_id))
        return link_users.SubscriptionsEnded(ask.req, self.answers.pop().count)  # type: ignore[union-attr]

    def _Authorize(self, ask: link_members.Authorize) -> link.Answer:
        topic = self._find(ask.topic_id)
        _require_subscribe(ask.caller, topic)
        if ask.member and _role(ask.caller, topic) is None:
            raise Refusal("forbidden", "no longer a member")
        role = _role(ask.caller, topic)
        presence = may_know_presence(ask.caller, topic, role)
        return link_members.Authorized(ask.req, topic.fence, role is not None, presence)

    def _AskSubscribe(self, ask: link.AskSubscribe) -> link.Answer:
        if ask.topic_id not in self.topics and ask.create and may_create(ask.caller, ask.topic_id):
            self.create(ask.topic_id, owner_id=ask.caller.user_id)
        topic = self._find(ask.topic_id)
        _require_subscribe(ask.caller, topic)
        topic.count += 1
        users = self.presence.granted(ask, topic)
        named = ask.position is not None and ask.position.form == "seq"
        cursor, resumed, reason = 0, False if named else None, None if topic.durable else "ephemeral"
        if topic.durable:

            def seq_at(ms: int) -> int | None:
                return next((topic.first_seq + n for n, ts in enumerate(topic.ts) if ts >= ms), None)

            cursor, resumed, reason = place(ask.position, topic.epoch, topic.first_seq, topic.seq, seq_at)
        return link.Subscribed(
            ask.req,
            ask.topic_id,
            topic.epoch,
            topic.seq if topic.durable else 0,
            topic.first_seq if topic.durable else 0,
            cursor,
            topic.count,
            resumed,
            reason,
            topic.settings,
            topic.fence,
            _role(ask.caller, topic) is not None,
            users,
        )

    def _AskPresence(self, ask: link_presence.AskPresence) -> link.Answer:
        return self.presence.answer(ask, self._find(ask.topic_id))

    def _Typing(self, ask: link_presence.Typing) -> link.Answer:
        topic = self._find(ask.topic_id)
        role = _role(ask.caller, topic)
        require(may_publish(ask.caller, topic, role), ask.caller, topic, role, "type in")
        self._push(link_presence.Typed(topic.topic_id, topic.epoch, ask.caller.user_id))
        return link_presence.TypingTaken(ask.req)

    def _Fetch(self, ask: link.Fetch) -> link.Answer:
        topic = self._find(ask.topic_id)
        at = max(ask.after_seq + 1 - topic.first_seq, 0)
        frames = topic.frames[at : at + ask.max_count]
        ts = topic.ts[at : at + ask.max_count]
        return link.Page(ask.req, ask.topic_id, topic.epoch, topic.first_seq, topic.first_seq + at, ts, frames)

    def _AskTopic(self, ask: link.AskTopic) -> link.Answer:
        topic = self._find(ask.topic_id)
        if not may_see(ask.caller, topic, _role(ask.caller, topic)):
            raise unknown_topic(ask.topic_id)
        info = link.TopicInfo(
            ask.topic_id,
            topic.epoch,
            topic.seq,
            ask.topic_id,
            topic.permissions,
            topic.owner_id,
            0,
            topic.count,
            1,
            "direct",
            topic.settings,
        )
        return link.TopicAnswer(ask.req, info, _role(ask.caller, topic) or "")

    def _AskCount(self, ask: link.AskCount) -> link.Answer:
        return link.Counts(ask.req, [self._find(topic_id).count for topic_id in ask.topic_ids])
