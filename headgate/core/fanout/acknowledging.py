"""All acknowledged subscriptions of a gateway: their windows, timeouts, retries, dead letters and cursors.

The window of a subscription decides what may be sent (`headgate.core.delivery.ack_window`), flush and catch-up send it,
and here is done what follows. A message costs nothing here; a subscription has one entry in the gateway's wheel.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from headgate.core.client import outbound
from headgate.core.client.inbound import Ack, Nack
from headgate.core.client.limits import Limits
from headgate.core.client.outbound import FrameId
from headgate.core.delivery.ack_window import AckWindow, Failure, Ignored
from headgate.core.delivery.breaker import BreakerPolicy
from headgate.core.delivery.retry import BackoffPolicy, Draw
from headgate.core.fanout.ack_events import AckEvents
from headgate.core.fanout.catchup import CatchUp
from headgate.core.fanout.cursor_reports import CursorReports
from headgate.core.fanout.deadlines import Deadlines
from headgate.core.fanout.feed import Piece
from headgate.core.fanout.give_ups import GiveUps
from headgate.core.fanout.group_member import GroupMember, MemberTools
from headgate.core.fanout.grouping import Grouping
from headgate.core.fanout.pending_subscribe import PendingSubscribe
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.replaying import Replaying
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.fanout.subscription import SubscriptionState
from headgate.core.fanout.subscription_acks import AckTools, SubscriptionAcks
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Subscribed
from headgate.core.wire.link_acks import LEASES, AttachCursors, Cursor, CursorLease
from headgate.core.wire.link_dead_letters import Redeliver
from headgate.core.wire.link_groups import GroupMessages
from headgate.core.wire.position import CURSOR

_HORIZON_S: Final = 60.0  # an item due later is visited twice: the wheel's turn is 64 s


class AckActions(NamedTuple):
    """What the hub does: `pump` writes to a session, `replace` ends a subscription, `schedule` asks for a flush.

    `clock` returns the time of the call in seconds, `wall_ms` in Unix milliseconds.
    """

    pump: Callable[[Session], None]
    replace: Callable[[Subscription], None]
    schedule: Callable[[], None]
    clock: Callable[[], float]
    wall_ms: Callable[[], int]


class Acknowledging:
    """The acknowledged subscriptions of one gateway, by user, device and topic, by feed and by the user's shard."""

    def __init__(
        self,
        limits: Limits,
        upstream: Upstream,
        events: AckEvents,
        catchup: CatchUp,
        deadlines: Deadlines,
        draw: Draw,
        do: AckActions,
    ) -> None:
        self._size = limits.ack_window
        self._breaker = BreakerPolicy(limits.ack_breaker_failures, limits.ack_breaker_s)
        self._upstream = upstream
        self._catchup = catchup
        self._deadlines = deadlines
        self._do = do
        self._clock = do.clock
        self._events = events
        self._tools = AckTools(do.clock, draw, events.sent)
        self._acks: dict[tuple[str, str, str], SubscriptionAcks] = {}
        self._by_feed: dict[TopicFeed, dict[SubscriptionAcks, None]] = {}
        self._by_shard: dict[int, dict[SubscriptionAcks, None]] = {}
        self._open: set[SubscriptionAcks] = set()
        self.reports = CursorReports(upstream, do.schedule)
        self._give_ups = GiveUps(upstream, self._given_up)
        self._replaying = Replaying(upstream, self._give_ups, self._tools, events)
        self.groups = Grouping(upstream, MemberTools(catchup.metrics, catchup.counts, do.wall_ms))

    def __len__(self) -> int:
        """Returns the number of subscriptions."""
        return len(self._acks)

    def __iter__(self) -> Iterator[SubscriptionAcks]:
        """Yields all of them, to be read at once."""
        return iter(self._acks.values())

    @property
    def open_breakers(self) -> int:
        """How many subscriptions get nothing now."""
        return len(self._open)

    # The beginning and the end

    def begin(self, subscription: Subscription, pending: PendingSubscribe, answer: Subscribed) -> None:
        """Takes a subscription that was granted; with `ack` its start is stored as its cursor."""
        if pending.subscribe.group:
            self.groups.begin(subscription, pending, answer)
        if pending.subscribe.group or not pending.subscribe.ack:
            return
        opened, lease, feed = pending.opened, pending.lease, subscription.feed
        assert opened is not None and lease is not None, "the cursor was opened before the topic's owner was asked"
        shard = self._upstream.shard_of_user(lease.user_id)
        older = self._acks.get((lease.user_id, lease.device_id, lease.topic_id))
        if older is not None:
            self._do.replace(older.subscription)
        others = self._by_feed.setdefault(feed, {})
        policy = next(iter(others)).window.policy if others else _policy_of(feed)
        window = AckWindow(answer.cursor, policy, self._breaker, self._size)
        stored = opened.cursor if opened.cursor is not None and opened.cursor.epoch == answer.epoch else None
        if stored is not None and _continues(pending, stored, answer):
            window.restore(stored.above, stored.attempts)
        acks = SubscriptionAcks(subscription, window, lease, shard, self, self._tools)
        subscription.acknowledge(acks)
        self._acks[acks.key] = acks
        others[acks] = None
        self._by_shard.setdefault(shard, {})[acks] = None
        if not window.is_plain:  # the session before may have told its owner of failures that the log does not know yet
            self._note_failure(acks)
        elif stored is None or stored.seq < answer.cursor:
            self.reports.changed(acks, urgent=True)
        self._give_ups.ask_all(acks)
        self._replaying.want(acks)

    def end(self, subscription: Subscription) -> None:
        """A subscription is about to end: its cursor is stored, and its lease is free."""
        acks = subscription.acks
        if isinstance(acks, GroupMember):
            self.groups.end(acks)
        if not isinstance(acks, SubscriptionAcks):
            return
        if self._acks.get(acks.key) is acks:
            del self._acks[acks.key]
        _take_out(self._by_feed, subscription.feed, acks)
        _take_out(self._by_shard, acks.shard, acks)
        self._open.discard(acks)
        self._give_ups.forget(acks)
        self._replaying.forget(acks)
        self.reports.ended(acks)

    def configure(self, feed: TopicFeed) -> None:
        """The topic's settings changed: its `retry` counts from the next failure on."""
        found = self._by_feed.get(feed)
        if found is None:  # called with each grant, of which most have no acknowledgements
            return
        policy = _policy_of(feed)
        for acks in found:
            acks.window.policy = policy
            if acks.replays is not None:
                acks.replays.policy = policy

    # Frames of the client

    def ack(self, session: Session, command: Ack, frame_id: FrameId) -> None:
        """Takes an acknowledgement; with an id it is answered once the log has it. Raises Refusal."""
        acks = _acks_of(session, command.topic_id)
        if isinstance(acks, GroupMember):
            self.groups.ack(acks, command, frame_id)
            return
        if self._replaying.ack(acks, command.seq):
            _ok(session, frame_id)
            self._settle(acks)
            return
        if self._events.ack(acks, command.seq, self._clock(), self._tools.draw):
            self.reports.changed(acks)
            self._settle(acks)
        if frame_id is not None:
            self.reports.confirm(acks, frame_id)

    def nack(self, session: Session, command: Nack, frame_id: FrameId) -> None:
        """Takes a refusal of one message in flight. Raises Refusal."""
        acks = _acks_of(session, command.topic_id)
        if isinstance(acks, GroupMember):
            self.groups.nack(acks, command, frame_id)
            return
        now, draw, seq = self._clock(), self._tools.draw, command.seq
        if acks.replays is not None and seq in acks.replays:
            failed = acks.replays.nack(seq, command.reason, now, draw)
            if isinstance(failed, Failure):
                self._failed(acks, failed, failed.attempts)
        else:
            failed = acks.window.nack(seq, command.reason, now, draw)
            if failed is Ignored.NOT_SENT:
                raise Refusal("not_found", f"message {seq} of {command.topic_id} was not sent to this subscription")
            if isinstance(failed, Failure):
                self._note_failure(acks)
                self._failed(acks, failed, acks.window.deliveries(seq))
        _ok(session, frame_id)
        self._settle(acks)

    # The flush

    def fit(self, feed: TopicFeed, members: Collection[Subscription], piece: Piece) -> list[Session]:
        """Counts the piece that `feed` writes to `members` now as sent. Who has no room leaves the step.

        Returns their sessions; `members` are one of the feed's groups or blocks.
        """
        last, now, draw = piece.seq + len(piece.frames) - 1, self._clock(), self._tools.draw
        full: list[SubscriptionAcks] = []
        for subscription in members:
            acks = subscription.acks
            assert isinstance(acks, SubscriptionAcks)
            if not acks.window.send_new(last, now, draw):
                full.append(acks)
            elif acks.planned is None:
                self.plan(acks)
        for acks in full:
            self._go_back(acks)
        self._events.sent_new(feed, members, piece)
        return [acks.subscription.session for acks in full]

    # Time

    def plan(self, acks: SubscriptionAcks) -> None:
        """Plans the next visit in the wheel, where there is none that comes earlier."""
        now = self._clock()
        due = acks.due(now)
        if due is not None and (acks.planned is None or due < acks.planned):
            acks.planned = min(due, now + _HORIZON_S)
            acks.entries += 1
            self._deadlines.plan(acks, acks.planned)

    def visit(self, acks: SubscriptionAcks) -> None:
        """Does what is due for one subscription."""
        now, draw = self._clock(), self._tools.draw
        failure = acks.window.visit(now, draw)
        if failure is not None:
            self._note_failure(acks)
            self._failed(acks, failure, acks.window.deliveries(failure.seq))
        self._replaying.visit(acks)
        self._settle(acks)

    def look(self) -> None:
        """Sends the cursors that moved, and asks again what was not answered; called about once a second."""
        self.reports.look()
        self._give_ups.look()
        self._replaying.look()
        self.groups.look()

    # Owners

    def attach(self, shard: int, pending: Iterable[CursorLease]) -> None:
        """Announces the leases of a shard's users, and the members of groups, to its new owner.

        `pending` are the leases of subscribes on their way.
        """
        self.groups.attach(shard)
        leases = [acks.lease for acks in self._by_shard.get(shard, ())]
        leases += [lease for lease in pending if self._upstream.shard_of_user(lease.user_id) == shard]
        chunks = [leases[at : at + LEASES] for at in range(0, len(leases), LEASES)]
        for at, chunk in enumerate(chunks):
            self._upstream.send(shard, AttachCursors(shard, at == 0, at == len(chunks) - 1, chunk))

    def replace(self, lease: CursorLease) -> Cursor | None:
        """Ends the subscription that has a lease, and returns its cursor; None where there is none."""
        acks = self._acks.get((lease.user_id, lease.device_id, lease.topic_id))
        if acks is None or acks.lease.connection_id != lease.connection_id:
            return None
        cursor = acks.cursor()
        self._do.replace(acks.subscription)
        return cursor

    def redeliver(self, feed: TopicFeed, message: Redeliver | GroupMessages) -> None:
        """Takes a message that is replayed, or those for a member of a group, where its receiver is here."""
        if isinstance(message, GroupMessages):
            self.groups.receive(message)
            return
        receiver = message.receiver
        acks = self._acks.get((receiver.user_id, receiver.device_id, feed.topic_id))
        if acks is not None and acks.subscription.feed is feed and not receiver.group:
            self._replaying.take(acks, message)
            self.plan(acks)

    # Private

    def _failed(self, acks: SubscriptionAcks, failure: Failure, attempts: int) -> None:
        """A message that was sent so often failed."""
        self._events.failed(acks, failure, attempts)
        if failure.given_up:
            self._give_ups.ask(acks, failure)

    def _note_failure(self, acks: SubscriptionAcks) -> None:
        """A message comes again once the log knows that it failed, so that no crash forgets it."""
        self.reports.changed(acks, urgent=True)
        acks.failed = acks.version

    def _given_up(self, acks: SubscriptionAcks, seq: int) -> None:
        """The dead letter is in the log."""
        passed = acks.window.given_up(seq, self._clock(), self._tools.draw)
        if passed:
            self.reports.changed(acks)
        if not passed or acks.replays is None or seq in [failure.seq for failure in acks.replays.giving_up()]:
            self._replaying.given_up(acks, seq)
        if not acks.subscription.is_over:
            self._settle(acks)

    def _settle(self, acks: SubscriptionAcks) -> None:
        """Does what follows from a change of the window."""
        subscription, window = acks.subscription, acks.window
        waits = subscription.state is SubscriptionState.WAITING and window.next <= subscription.cursor
        if waits or (subscription.in_step and not window.is_plain):
            self._go_back(acks)
        if window.is_open:
            self._open.add(acks)
        else:
            self._open.discard(acks)
        if subscription.state is SubscriptionState.BEHIND:
            self._do.pump(subscription.session)
        self.plan(acks)

    def _go_back(self, acks: SubscriptionAcks) -> None:
        acks.subscription.go_back(acks.window.next - 1)
        self._catchup.admit(acks.subscription)


def _continues(pending: PendingSubscribe, stored: Cursor, answer: Subscribed) -> bool:
    """Whether the subscription begins at its device's cursor, or behind it where retention has cut the topic."""
    position = pending.subscribe.position
    asked_for_it = position is not None and position.form == CURSOR
    return stored.seq == answer.cursor or (asked_for_it and stored.seq < answer.cursor)


def _policy_of(feed: TopicFeed) -> BackoffPolicy:
    return msgspec.convert(feed.retry, BackoffPolicy)


def _acks_of(session: Session, topic_id: str) -> SubscriptionAcks | GroupMember:
    subscription = session.subscriptions.get(topic_id)
    if subscription is None:
        raise Refusal("not_found", f"this connection does not follow {topic_id}")
    acks = subscription.acks
    if not isinstance(acks, SubscriptionAcks | GroupMember):
        raise Refusal("bad_request", f"{topic_id} is followed without ack; subscribe with ack:true to acknowledge")
    return acks


def _ok(session: Session, frame_id: FrameId) -> None:
    if frame_id is not None:
        session.emit(outbound.ok(frame_id))


def _take_out(index: dict[Any, dict[SubscriptionAcks, None]], key: Any, acks: SubscriptionAcks) -> None:
    group = index.get(key)
    if group is not None:
        group.pop(acks, None)
        if not group:
            del index[key]
