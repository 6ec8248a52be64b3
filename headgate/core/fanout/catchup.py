"""How a subscription out of step comes back into step: from the ring, from pages of the owner, or over a gap.

A session whose socket is full is parked: each of its subscriptions keeps a cursor and nothing else. When its socket
takes bytes again the session is pumped, one piece at a time, until the socket is full again or every subscription is
in step. The hub sends the requests for pages and ends the sessions that are too slow: `pump` and `due` return both.
"""

import enum
from typing import Final, NamedTuple

from headgate.core.client import outbound
from headgate.core.client.limits import FETCHES, Limits
from headgate.core.fanout.feed import Piece, fitting
from headgate.core.fanout.ports import Acks, GatewayMetrics, Upstream
from headgate.core.fanout.replay_pieces import Replayed, ReplayPieces, replayed_of
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.fanout.subscription import SubscriptionEvent, SubscriptionState
from headgate.core.fanout.topic_counts import GatewayCounts
from headgate.core.wire.link import Answer, Page

HELD: Final = 16 * 1024  # bytes of a piece that is joined with the frames around it
# How many of the newest messages a parked session of an ephemeral topic still gets; by default those in the ring.
_KEPT: Final = {"drop_newest": 0, "conflate": 1}


class Pumped(NamedTuple):
    """What is left to do after a pump: ask the owners for pages, and end the session if it is too slow."""

    fetches: list[Subscription]
    too_slow: bool


class Due(enum.Enum):
    """What is due for a session out of step: nothing, a pump, or its end: it is too slow, or its socket is dead."""

    NOTHING = enum.auto()
    PUMP = enum.auto()
    END_SLOW = enum.auto()
    END_DEAD = enum.auto()


class CatchUp:
    """The sessions that are paused or have subscriptions out of step, each with those subscriptions.

    The subscriptions of a session take turns; the first of its dict is next.
    """

    def __init__(self, limits: Limits, upstream: Upstream, metrics: GatewayMetrics) -> None:
        self.counts = GatewayCounts(upstream)
        self._limits = limits
        self._upstream = upstream
        self.metrics = metrics
        self._replays = ReplayPieces(limits)
        self._behind: dict[Session, dict[Subscription, None]] = {}
        # Fenced while a page was on its way to them: the page may hold what came after the fence.
        self._stale_pages: set[Subscription] = set()
        # Released from a fence and not in step yet: they are not slow, they were held.
        self._released: set[Subscription] = set()
        # Out of step while their socket was full, and not in step since.
        self._slow: set[Subscription] = set()

    def sessions(self) -> list[Session]:
        """Returns the sessions that are paused or out of step."""
        return list(self._behind)

    def behind(self, session: Session) -> list[Subscription]:
        """Returns a session's subscriptions out of step."""
        return list(self._behind.get(session, ()))

    def park(self, session: Session, now: float) -> None:
        """The socket is full: every subscription in step gets a cursor."""
        session.pause(now)
        behind = self._behind.setdefault(session, {})
        for subscription in session.subscriptions.values():
            if subscription.in_step:
                subscription.step_out()
                behind[subscription] = None
            self._note_slow(subscription)

    def begin(self, subscription: Subscription) -> bool:
        """Takes a new subscription; true when it is in step at once, as one that begins live mostly is."""
        is_current = subscription.target is None and subscription.cursor == subscription.feed.sent
        if is_current and subscription.acks is None and subscription.session not in self._behind:
            subscription.step_in()
            return True
        self.admit(subscription)
        return False

    def admit(self, subscription: Subscription) -> None:
        """Takes a subscription out of step, to be pumped."""
        self._behind.setdefault(subscription.session, {})[subscription] = None
        if subscription.session.paused:
            self._note_slow(subscription)

    def set_back(self, subscription: Subscription, cursor: int) -> None:
        """Takes a subscription in step out of step at `cursor`."""
        subscription.step_out(cursor)
        counts = subscription.feed.counts
        if counts is not None:
            counts.set_back(cursor)
        self.admit(subscription)

    def hold(self, subscription: Subscription) -> None:
        """Holds a subscription at its cursor; a page on its way to it is dropped."""
        if subscription.state is SubscriptionState.FETCHING:
            self._stale_pages.add(subscription)
        subscription.fence()
        self.forget(subscription)

    def release(self, subscription: Subscription) -> None:
        """Continues a subscription that was held; to be pumped."""
        subscription.release()
        self._released.add(subscription)
        self.admit(subscription)

    def forget(self, subscription: Subscription) -> None:
        """The subscription ended, or is held."""
        self._released.discard(subscription)
        self._slow.discard(subscription)
        self._remove(subscription)

    def drop(self, session: Session) -> None:
        """The session ended."""
        self._slow.difference_update(self._behind.pop(session, ()))

    def pump(self, session: Session, wall_ms: int) -> Pumped:
        """Writes as much as the socket takes; returns the pages to ask for, and whether the session is too slow."""
        behind = self._behind.get(session)
        if behind is None:
            return _NOTHING
        fetches: list[Subscription] = []
        moved = True
        while moved and behind and not session.paused and not session.closed:
            moved = False
            for subscription in list(behind):
                if session.paused or session.closed:
                    break
                if subscription.state is not SubscriptionState.BEHIND:
                    continue
                if subscription.cursor < subscription.feed.sent and self._must_end(subscription):
                    return Pumped(fetches, True)
                moved |= self._advance(subscription, behind, fetches, wall_ms)
        if not behind and not session.paused:
            self._behind.pop(session, None)
        return Pumped(fetches, False) if fetches else _NOTHING

    def run_ahead(self, subscription: Subscription, wall_ms: int) -> None:
        """Writes a piece of the pending to a subscription in step, which then is above what others have."""
        feed = subscription.feed
        subscription.step_out()
        self.admit(subscription)
        count = fitting(feed.pending, 0, self._limits)
        piece = Piece(feed.sent + 1, feed.pending_ts[:count], feed.pending[:count])
        self._hold(subscription, replayed_of(feed, piece, subscription.session.framing), wall_ms)
        subscription.session.release()

    def page(self, subscription: Subscription, answer: Answer, wall_ms: int) -> bool:
        """Takes the answer to a fetch; true when the session should be pumped.

        False when the owner is away (the session is pumped when it is back), when the socket takes nothing (the page
        is asked for again), and when the page brought nothing (the owner's history is late; the next tick asks again).
        A page from before a fence is dropped, and asked for again once the subscription is released.
        """
        if subscription in self._stale_pages:
            self._stale_pages.discard(subscription)
            return subscription.state is SubscriptionState.BEHIND
        if subscription.is_over:
            return False
        subscription.move(SubscriptionEvent.PAGE)
        if subscription.acks is not None and subscription.acks.place != subscription.cursor:
            return True  # it went back meanwhile, or acknowledgements passed the page
        session = subscription.session
        if session.closed or session.paused:
            return False
        if not isinstance(answer, Page) or answer.epoch != subscription.feed.epoch:
            return False
        return self._take_page(subscription, answer, wall_ms)

    def due(self, session: Session, now: float) -> Due:
        """Returns what is due for a session out of step; called about once a second.

        A socket that took no byte for `dead_s` is dead; too slow is who is too far behind on a topic that disconnects.
        """
        if session.closed:  # parked by its own last frame, after `drop`
            self.drop(session)
            return Due.NOTHING
        if not session.paused:
            return Due.PUMP  # its page may not have come
        took = session.took(now)
        if any(map(self._must_end, self._behind.get(session, ()))):
            return Due.END_SLOW
        if not took and now - session.stalled_at >= self._limits.dead_s:
            return Due.END_DEAD
        if took and not session.queued:  # a byte left: the transport may be full, and would not say so again
            session.resume()
            return Due.PUMP
        return Due.NOTHING

    def tell_lost(self, feed: TopicFeed, seq: int) -> None:
        """Tells the subscribers in step that everything below `seq` is lost, and continues the feed there."""
        told = feed.live()
        for subscription in told:
            self._tell_gap(subscription, feed.sent + 1, seq - 1, "retention")
            if subscription.acks is not None:
                subscription.acks.lose(seq - 1)
        feed.skip(seq)
        for subscription in told:
            if subscription.state is SubscriptionState.BEHIND:  # parked by the gap frame: it was told
                subscription.skip_to(seq - 1)

    def _note_slow(self, subscription: Subscription) -> None:
        """Its socket is full: an ephemeral topic drops what comes now, as its `on_slow` says."""
        if not subscription.feed.durable and not subscription.in_step and not subscription.is_fenced:
            self._slow.add(subscription)

    def _remove(self, subscription: Subscription) -> None:
        behind = self._behind.get(subscription.session)
        if behind is not None:
            behind.pop(subscription, None)

    def _advance(
        self,
        subscription: Subscription,
        behind: dict[Subscription, None],
        fetches: list[Subscription],
        wall_ms: int,
    ) -> bool:
        """Takes one step; true when something was written and more may follow."""
        feed = subscription.feed
        if subscription.acks is not None and not subscription.acks.may_send():
            if subscription.target is not None and subscription.cursor >= max(subscription.target, feed.sent):
                self._end_replay(subscription, subscription.end_replay())  # the window has just the whole replay
            return False  # pumped again when acknowledgements come, or when its time has come
        if subscription.cursor >= feed.sent:
            self._reached(subscription, behind)
            return False
        if self._too_far(subscription):
            kept = self._kept(subscription)
            kept = self._limits.slow_messages if kept is None else kept
            self._skip(subscription, max(feed.ring.first - 1, feed.sent - kept))
            return True
        if self._write_next(subscription, behind, wall_ms):
            return True
        if feed.durable:
            self._fetch(subscription, behind, fetches)
            return False
        self._skip(subscription, feed.ring.first - 1)
        return True

    def _write_next(self, subscription: Subscription, behind: dict[Subscription, None], wall_ms: int) -> bool:
        """Writes the next piece of the ring; false when the ring does not have it."""
        feed, session = subscription.feed, subscription.session
        if subscription.acks is not None:
            piece = feed.after(subscription.cursor, self._limits)
            if piece is not None:
                self._write_acked(subscription, subscription.acks, piece, wall_ms)
            return piece is not None
        replayed = self._after(subscription)
        if replayed is None:
            return False
        self._hold(subscription, replayed, wall_ms)
        if subscription.cursor == feed.sent and not session.paused:
            self._reached(subscription, behind)  # its `caught_up` goes out with the last piece
        session.release()
        return True

    def _reached(self, subscription: Subscription, behind: dict[Subscription, None]) -> None:
        """Steps in if what was written covers the head at the time of the grant, else waits for the next flush."""
        feed, target = subscription.feed, subscription.target
        if subscription.cursor > feed.sent or (target is not None and target > feed.sent):
            subscription.wait()
            return
        if subscription.acks is not None and not subscription.acks.is_plain:
            self._end_replay(subscription, subscription.end_replay())
            subscription.wait()
            return
        behind.pop(subscription, None)
        self._released.discard(subscription)
        self._slow.discard(subscription)
        self._end_replay(subscription, subscription.step_in())

    def _end_replay(self, subscription: Subscription, target: int | None) -> None:
        feed = subscription.feed
        if target is not None:  # of an acknowledged one a page may have brought more than is written here
            subscription.session.emit(outbound.caught_up(feed.topic_id, max(feed.sent, target) if feed.durable else 0))

    def _after(self, subscription: Subscription) -> Replayed | None:
        """Returns what the ring has above the cursor, from where many may have come back with it in a replay."""
        feed, framing = subscription.feed, subscription.session.framing
        if subscription.target is not None:
            return self._replays.after(feed, subscription.cursor, framing)
        piece = feed.after(subscription.cursor, self._limits)
        return None if piece is None else replayed_of(feed, piece, framing)

    def _hold(self, subscription: Subscription, replayed: Replayed, wall_ms: int) -> None:
        """Has a piece written with what comes next, or by `Session.release`; a large one at once, without a copy."""
        feed, piece = subscription.feed, replayed.piece
        subscription.wrote(replayed.last, replayed.size)
        seconds = (wall_ms - piece.ts[0]) / 1000
        self.metrics.delivered(feed.profile, len(piece.frames), max(seconds, 0.0))
        self.counts.delivered(feed, piece.ts, 1, wall_ms)
        session = subscription.session
        if len(replayed.data) <= HELD:
            session.hold(replayed.data)
        else:
            session.release()
            session.put(replayed.data)
        if feed.counts is not None:
            feed.counts.wrote(piece.seq, replayed.last)

    def _write_acked(self, subscription: Subscription, acks: Acks, piece: Piece, wall_ms: int) -> None:
        """Writes as much of a piece as the window takes. What comes again counts as delivered once."""
        feed, session = subscription.feed, subscription.session
        before = acks.newest
        frames = acks.take(piece)
        subscription.wrote(acks.place, 0)
        if frames:
            self.metrics.delivered(feed.profile, len(frames), max((wall_ms - piece.ts[0]) / 1000, 0.0))
            if acks.newest > before:
                fresh = piece.ts[before + 1 - piece.seq : acks.newest + 1 - piece.seq]
                self.counts.delivered(feed, fresh, 1, wall_ms)
            session.put(session.framing.messages(feed.epoch, piece.seq, frames))
        if feed.counts is not None:
            feed.counts.wrote(before + 1, acks.newest)

    def _must_end(self, subscription: Subscription) -> bool:
        return subscription.feed.on_slow == "disconnect" and self._too_far(subscription)

    def _too_far(self, subscription: Subscription) -> bool:
        """Returns whether `on_slow` applies: never before a replay, or the wait at a fence, is made up for.

        Never to who acknowledges.
        """
        feed, limits = subscription.feed, self._limits
        if subscription.acks is not None:
            return False  # it waits at its cursor and holds no copies
        if subscription.target is not None or subscription in self._released:
            return False
        if feed.durable:
            lag = feed.sent - subscription.cursor
            return lag > limits.slow_messages or feed.size - subscription.mark > limits.slow_bytes
        kept = self._kept(subscription)
        return subscription.cursor < (feed.ring.first - 1 if kept is None else feed.sent - kept)

    def _kept(self, subscription: Subscription) -> int | None:
        """Returns how many of the newest messages its policy leaves a slow subscription; None: those in the ring."""
        return _KEPT.get(subscription.feed.on_slow) if subscription in self._slow else None

    def _skip(self, subscription: Subscription, cursor: int) -> None:
        """Continues above `cursor` and tells the client what it will not get."""
        if cursor > subscription.cursor:
            self._tell_gap(subscription, subscription.cursor + 1, cursor, "slow_consumer")
        subscription.skip_slow(cursor)

    def _tell_gap(self, subscription: Subscription, from_seq: int, to_seq: int, reason: str) -> None:
        """Writes a gap, both ends included; `reason` is `retention` or `slow_consumer`."""
        feed = subscription.feed
        count = to_seq - from_seq + 1
        self.metrics.gap(reason, count, missed=feed.durable)
        if feed.durable:
            again = reason == "slow_consumer"
            frame = outbound.gap(feed.topic_id, feed.epoch, from_seq, to_seq, reason=reason, recoverable=again)
        else:
            frame = outbound.volatile_gap(feed.topic_id, count, reason)
        subscription.session.emit(frame)

    def _fetch(self, subscription: Subscription, behind: dict[Subscription, None], fetches: list[Subscription]) -> None:
        under_way = sum(other.state is SubscriptionState.FETCHING for other in behind)
        if subscription in self._stale_pages:
            return  # its page comes first
        if under_way >= FETCHES or not self._upstream.linked(subscription.feed.shard):
            return  # tried again when a page came, or when the owner is back
        subscription.move(SubscriptionEvent.FETCH)
        fetches.append(subscription)

    def _take_page(self, subscription: Subscription, page: Page, wall_ms: int) -> bool:
        """Writes a page; false when it brought nothing."""
        begin = page.seq if page.frames else page.first_seq
        moved = begin > subscription.cursor + 1
        if moved:
            self._tell_gap(subscription, subscription.cursor + 1, begin - 1, "retention")
            subscription.skip_to(begin - 1)
            if subscription.acks is not None:
                subscription.acks.lose(begin - 1)
        known = subscription.cursor + 1 - page.seq
        if known < len(page.frames):
            piece = Piece(subscription.cursor + 1, page.ts[known:], page.frames[known:])
            if subscription.acks is not None:
                self._write_acked(subscription, subscription.acks, piece, wall_ms)
            else:
                self._hold(subscription, replayed_of(subscription.feed, piece, subscription.session.framing), wall_ms)
            moved = True
        if moved:
            self._remove(subscription)
            self.admit(subscription)  # at the end: the others' turn
            subscription.session.release()
        return moved


_NOTHING: Final = Pumped([], False)
