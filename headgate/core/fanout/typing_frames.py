"""`typing` frames: a client's goes to the owner of the topic; what the owner passes on goes to the others here."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from headgate.core.client import outbound
from headgate.core.client.framing import WEBSOCKET
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.fanout.side_frames import SideFrames
from headgate.core.wire.link import Answer, Refused
from headgate.core.wire.link_presence import Typed, Typing
from headgate.core.wire.linkcodec import refusal_of
from headgate.core.wire.token_buckets import Rate, TokenBuckets

ONE_USER: Final = Rate(1, 1)  # in one topic; the owner counts those of other gateways too


class TypingFrames:
    """Serves the sessions of one gateway; `feeds` are the topics followed here."""

    def __init__(self, feeds: Mapping[str, TopicFeed], upstream: Upstream, side: SideFrames) -> None:
        self._feeds = feeds
        self._upstream = upstream
        self._side = side
        self._pace = TokenBuckets()

    def say(self, session: Session, subscription: Subscription, frame_id: FrameId, now: float) -> None:
        """Passes a client's `typing` on to the owner, at most one a second; the others are merged with it."""
        caller, feed = session.caller, subscription.feed
        assert caller is not None, "only a known caller follows a topic"
        key = (feed.topic_id, caller.user_id)
        if self._pace.wait(key, ONE_USER, now):
            _answer(session, frame_id)
            return
        self._pace.take(key, ONE_USER, now)
        self._upstream.request(
            feed.shard,
            lambda req: Typing(req, feed.topic_id, feed.epoch, caller),
            partial(_answered, session, feed.topic_id, frame_id),
        )

    def receive(self, typed: Typed) -> None:
        """Tells the other users who follow the topic here; one whose socket is full misses it."""
        feed = self._feeds.get(typed.topic_id)
        if feed is None or feed.epoch != typed.epoch:
            return
        others = [each for each in feed.subscriptions() if _is_other(each.session, typed.user_id)]
        self._side.add(outbound.typing(typed.topic_id, typed.user_id), others, _missed)


def _is_other(session: Session, user_id: str) -> bool:
    return session.framing is WEBSOCKET and session.caller is not None and session.caller.user_id != user_id


def _missed(subscription: Subscription) -> None:
    """It was a hint."""


def _answered(session: Session, topic_id: str, frame_id: FrameId, answer: Answer) -> None:
    if isinstance(answer, Refused):
        session.emit(outbound.error(refusal_of(answer), frame_id, topic_id))
    else:
        _answer(session, frame_id)


def _answer(session: Session, frame_id: FrameId) -> None:
    if frame_id is not None:
        session.emit(outbound.ok(frame_id))
