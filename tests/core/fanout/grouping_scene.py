"""A scene with members of consumer groups; the owner says what a test tells it to say."""

from typing import Any

import msgspec

from headgate.core.client.framing import WEBSOCKET
from headgate.core.wire import link
from headgate.core.wire.frames import frame_again, message_frame
from headgate.core.wire.link_groups import GroupAck, GroupAcked, GroupJoined, GroupMessages, GroupNack, JoinGroup
from headgate.core.wire.rights import Caller
from tests.core.scene import Pipe, Scene


class GroupScene(Scene):
    """One topic, `a`. `refuses` makes the owner refuse what members say, as one does that has not heard of them."""

    def __init__(self) -> None:
        super().__init__()
        self.topic = self.owners.create("a")
        self.refuses = False
        self.told: list[link.Request] = []
        self._ids = 0
        for kind in (JoinGroup, GroupAck, GroupNack):
            setattr(self.owners, f"_{kind.__name__}", self._hear)
        subscribe = self.owners._AskSubscribe

        def joined(ask: link.AskSubscribe) -> link.Answer:
            answer = subscribe(ask)
            assert isinstance(answer, link.Subscribed)
            return msgspec.structs.replace(answer, group=ask.group)

        self.owners._AskSubscribe = joined  # type: ignore[method-assign]

    def _hear(self, ask: Any) -> link.Answer:
        if self.refuses:
            return link.Refused(ask.req, "not_ready", "who?")
        self.told.append(ask)
        return GroupJoined(ask.req) if isinstance(ask, JoinGroup) else GroupAcked(ask.req)

    def member(self, user: str = "bob", **frame: Any) -> Pipe:
        """Opens a connection of its own, and joins the group `w`."""
        self._ids += 1
        pipe = self.open(WEBSOCKET, raw_id=self._ids.to_bytes(2, "big"))
        self.admit(pipe, Caller(user, service=True))
        self.say(pipe, **{"type": "subscribe", "topic_id": "a", "ack": True, "group": "w"} | frame)
        return pipe

    def hand(self, pipe: Pipe, *seqs: int, attempt: int = 1, **more: Any) -> None:
        """The owner hands messages to a member."""
        assert pipe.session is not None
        frames = [
            frame_again(message_frame("a", seq, 1, b'"message_id":"m","publisher_id":"p","payload":%d}' % seq), attempt)
            for seq in seqs
        ]
        name = pipe.session.connection_id
        times = [1_000_000] * len(seqs)
        self.on_push(1, GroupMessages("a", self.topic.epoch, "w", name, list(seqs), times, frames, **more))

    def heard(self, kind: type[Any]) -> list[Any]:
        """What members told the owner since the last call."""
        found = [message for message in self.told if isinstance(message, kind)]
        self.told = [message for message in self.told if not isinstance(message, kind)]
        return found
