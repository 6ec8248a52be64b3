"""How a subscription out of step comes back into step: ring, pages of the owner, gaps; knows neither sockets nor time.

A session that cannot take more is parked: each of its subscriptions keeps a cursor and nothing else. When its socket
takes bytes again the session is pumped: from the feed's ring, else from a page of the owner's (`Fetch`), one piece at
a time until the socket is full again or every subscription is in step.
"""

from functools import partial
from typing import Final, Protocol

from headgate.core.client import outbound
from headgate.core.client.limits import FETCHES, Limits
from headgate.core.fanout.feed import Feed, Piece, Subscription
from headgate.core.fanout.ports import GatewayMetrics, Upstream
from headgate.core.fanout.session import Session
from headgate.core.wire.link import Answer, Fetch, Page, Request


class Keeper(Protocol):
    """What catching up asks of the hub."""

    limits: Limits
    upstream: Upstream
    metrics: GatewayMetrics
    wall_ms: int

    def disconnect(self, session: Session, code: int) -> None:
        """Ends a session with a close code."""


class CatchUp:
    """Serves the sessions with subscriptions out of step. `parked` are all of them."""

    def __init__(self, hub: Keeper) -> None:
        self._hub = hub
        self.parked: dict[Session, None] = {}

    def park(self, session: Session, now: float) -> None:
        """The socket takes no more: everything that was in step stays where it is."""
        session.paused = True
        session.stalled_at = now
        session.queued = session.outlet.queued()
        for subscription in session.subscriptions.values():
            if subscription.group is not None:
                subscription.step_out()
                self.admit(subscription)
        self.parked[session] = None

    def resume(self, session: Session) -> None:
        """The socket takes bytes again."""
        session.paused = False
        self.pump(session)

    def admit(self, subscription: Subscription, cursor: int | None = None) -> None:
        """Takes a subscription that is not in step; with `cursor` also one that still is, and goes on there."""
        subscription.step_out(cursor)
        session = subscription.session
        if session.behind is None:
            session.behind = {}
        session.behind[subscription] = None
        self.parked[session] = None

    def forget(self, subscription: Subscription) -> None:
        """The subscription ended, or is in step."""
        if subscription.session.behind is not None:
            subscription.session.behind.pop(subscription, None)

    def drop(self, session: Session) -> None:
        """The session ended."""
        self.parked.pop(session, None)
        session.behind = None

    def pump(self, session: Session) -> None:
        """Writes what the socket takes; asks for pages where the rings do not reach back far enough."""
        moved = True
        while moved and session.behind and not session.paused and not session.closed:
            moved = False
            for subscription in list(session.behind):
                if session.paused or session.closed:
                    return
                moved |= subscription.group is None and self._advance(subscription)
        if not session.behind and not session.paused:
            self.drop(session)

    def overdue(self, session: Session) -> bool:
        """Says whether the session has fallen so far behind on a topic that disconnects slow consumers."""
        return any(
            subscription.feed.on_slow == "disconnect" and self._too_far(subscription)
            for subscription in session.behind or ()
        )

    def _advance(self, subscription: Subscription) -> bool:
        """Moves one step; true when something was written and more may be."""
        feed = subscription.feed
        if subscription.fetching:
            return False
        if subscription.cursor >= feed.sent:
            self._reached(subscription)
            return False
        if self._too_far(subscription):
            return self._give_up(subscription)
        piece = feed.ring.after(subscription.cursor, self._hub.limits)
        if piece is not None:
            self._write(subscription, piece)
            return True
        if feed.durable:
            self._fetch(subscription)
            return False
        self._skip(subscription, feed.ring.first - 1)
        return True

    def _reached(self, subscription: Subscription) -> None:
        """In step, if what was written covers the head at the time of the grant; else the next flush tells."""
        feed = subscription.feed
        if subscription.cursor > feed.sent or subscription.target > feed.sent:
            feed.waiting[subscription] = None
            return
        self.forget(subscription)
        subscription.step_in()
        if subscription.says_when:
            subscription.says_when = False
            seq = feed.sent if feed.durable else 0
            subscription.session.emit(outbound.caught_up(feed.topic_id, seq))

    def _write(self, subscription: Subscription, piece: Piece) -> None:
        feed, session = subscription.feed, subscription.session
        subscription.cursor = piece.seq + len(piece.frames) - 1
        subscription.mark += sum(map(len, piece.frames))
        seconds = (self._hub.wall_ms - piece.ts[0]) / 1000
        self._hub.metrics.delivered(feed.profile, len(piece.frames), max(seconds, 0.0))
        session.put(session.framing.messages(feed.epoch, piece.seq if feed.durable else 0, piece.frames))

    def _too_far(self, subscription: Subscription) -> bool:
        """Says whether `on_slow` applies: never to a replay that was asked for and has not reached the present."""
        feed, limits = subscription.feed, self._hub.limits
        if not subscription.was_in_step:
            return False
        if feed.durable:
            lag = feed.sent - subscription.cursor
            return lag > limits.slow_messages or feed.size - subscription.mark > limits.slow_bytes
        kept = _KEPT.get(feed.on_slow)
        return subscription.cursor < (feed.ring.first - 1 if kept is None else feed.sent - kept)

    def _give_up(self, subscription: Subscription) -> bool:
        """Does what the topic's `on_slow` says; false when the session ended."""
        feed = subscription.feed
        if feed.on_slow == "disconnect":
            self._hub.disconnect(subscription.session, 4508)
            return False
        kept = _KEPT.get(feed.on_slow, self._hub.limits.slow_messages)
        self._skip(subscription, max(feed.ring.first - 1, feed.sent - kept))
        return True

    def _skip(self, subscription: Subscription, cursor: int) -> None:
        """Goes on above `cursor` and says what the client will not get."""
        feed = subscription.feed
        if cursor > subscription.cursor:
            self.tell_gap(subscription, subscription.cursor + 1, cursor, "slow_consumer")
            subscription.cursor = cursor
        subscription.mark = feed.size

    def tell_gap(self, subscription: Subscription, from_seq: int, to_seq: int, reason: str) -> None:
        """Writes a gap, both ends included."""
        feed = subscription.feed
        count = to_seq - from_seq + 1
        self._hub.metrics.gap(reason, count)
        if feed.durable:
            again = reason == "slow_consumer"
            frame = outbound.gap(feed.topic_id, feed.epoch, from_seq, to_seq, reason=reason, recoverable=again)
        else:
            frame = outbound.volatile_gap(feed.topic_id, count, reason)
        subscription.session.emit(frame)

    def _fetch(self, subscription: Subscription) -> None:
        feed, upstream = subscription.feed, self._hub.upstream
        waiting = sum(other.fetching for other in subscription.session.behind or ())
        if waiting >= FETCHES or not upstream.linked(feed.shard):
            return  # tried again when a page came, or when the owner is back
        subscription.fetching = True
        build = partial(page_request, feed, subscription.cursor, self._hub.limits)
        upstream.request(feed.shard, build, partial(self._answered, subscription))

    def _answered(self, subscription: Subscription, answer: Answer) -> None:
        subscription.fetching = False
        session, feed = subscription.session, subscription.feed
        if session.closed or subscription not in feed.behind:
            return
        if not isinstance(answer, Page) or answer.epoch != feed.epoch:
            return  # the owner is away: the hub pumps again when it is back, or at the next tick
        if session.paused:
            return  # no room for it now; it is asked for again
        if self._take_page(subscription, answer):
            self.pump(session)

    def _take_page(self, subscription: Subscription, page: Page) -> bool:
        """Writes a page; false when it brought nothing (the owner's history is behind: the next tick asks again)."""
        begin = page.seq if page.frames else page.first_seq
        moved = begin > subscription.cursor + 1
        if moved:
            self.tell_gap(subscription, subscription.cursor + 1, begin - 1, "retention")
            subscription.cursor = begin - 1
        known = subscription.cursor + 1 - page.seq
        if known < len(page.frames):
            self._write(subscription, Piece(subscription.cursor + 1, page.ts[known:], page.frames[known:]))
            moved = True
        if subscription.session.behind is not None and moved:
            subscription.session.behind.pop(subscription, None)
            subscription.session.behind[subscription] = None  # the others' turn
        return moved


# How many of the newest messages a parked session of an ephemeral topic still gets; by default what the ring holds.
_KEPT: Final = {"drop_newest": 0, "conflate": 1}


def page_request(feed: Feed, after_seq: int, limits: Limits, req: int) -> Request:
    """Returns the request for one page above `after_seq`."""
    return Fetch(req, feed.topic_id, feed.epoch, after_seq, limits.piece_frames, limits.piece_bytes)
