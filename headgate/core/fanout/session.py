"""One client connection and its subscriptions, as values: who it is, what it follows, how far its socket has come."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from headgate.core.client.framing import WEBSOCKET, ClientFrame, Framing
from headgate.core.client.inbound import Allowance
from headgate.core.client.limits import Limits
from headgate.core.client.outbound import CLOSE_REASONS, FrameId, disconnect, welcome
from headgate.core.fanout.blocks import Group
from headgate.core.fanout.feed import Feed
from headgate.core.fanout.ports import Acks, Moment, Outlet
from headgate.core.fanout.subscription import Life, SubscriptionEvent, SubscriptionState
from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller, Identity, may_be_told_of


class Session:
    """A connection that was admitted, or (`caller` None) one whose `auth` frame is awaited.

    `paused`: its socket is full at the moment. `preface` goes before the next frame, in one write: the answer to the
    request, and what was held; one in step has none at the end of its loop turn, or when a feed is written. `queued`
    are the bytes its socket had not taken when `took` was last called, and our own since then. `frames_until` is when
    the frames that came would have come at the allowed rate. `deadline` ends the wait for `auth`, `expires` the token.
    `topics` are the only ones it may follow, None for all. `issued_ms` and `jti` are those of
    `headgate.core.wire.rights.Identity`. Times are monotonic seconds, but for `issued_ms` and `opened_ms`, Unix
    milliseconds. Read the fields, change them by the methods only.
    """

    __slots__ = (
        "_followed", "_id", "allowance", "beat_at", "caller", "closed", "deadline", "expires", "frames_until",
        "framing", "heard_at", "issued_ms", "jti", "opened_ms", "outlet", "paused", "preface", "queued", "stalled_at",
        "topics", "warned",
    )  # fmt: skip

    def __init__(self, outlet: Outlet, framing: Framing, raw_id: bytes, now: float, preface: bytes = b"") -> None:
        """`raw_id` is the connection's id as bytes: the text would need twice the memory."""
        self.outlet = outlet
        self.framing = framing
        self._id = raw_id
        self.caller: Caller | None = None
        self._followed: _Followed = None
        self.allowance: Allowance | None = None
        self.preface = preface
        self.paused = False
        self.closed = False
        self.warned = False
        self.heard_at = now
        self.beat_at = now
        self.stalled_at = now
        self.frames_until = now
        self.queued = 0
        self.opened_ms = 0
        self.deadline: float | None = None
        self.expires: float | None = None
        self.topics: frozenset[str] | None = None
        self.issued_ms = 0
        self.jti = ""

    # Who it is

    @property
    def connection_id(self) -> str:
        """The name of the connection, as the client is told it."""
        return self._id.hex()

    def opened(self, at_ms: int) -> None:
        """Notes when it was opened, in Unix milliseconds."""
        self.opened_ms = at_ms

    @property
    def user_id(self) -> str:
        """The user's id; "" while it is not known."""
        return "" if self.caller is None else self.caller.user_id

    @property
    def is_unknown(self) -> bool:
        """Whether it is being found out who opened it: then no frame of the client's is taken."""
        return self.caller is None and self.deadline is None and not self.closed

    def may_be_told_of(self, topic_id: str) -> bool:
        """Whether hints may name a topic of the user's: a ticket for topics, or a token with `only`, must name it."""
        if self.caller is None or (self.topics is not None and topic_id not in self.topics):
            return False
        return may_be_told_of(self.caller, topic_id)

    def await_auth(self, deadline: float) -> None:
        """Gives the client until `deadline` to send `auth`."""
        self.deadline = deadline

    def identify(self, identity: Identity, moment: Moment) -> None:
        """Takes the rights and the expiry of a token, the first or a fresh one."""
        self.caller = identity.caller
        self.issued_ms = identity.issued_ms
        self.jti = identity.jti
        self.topics = identity.topics
        self.deadline = None
        self.warned = False
        self.expires = None
        if identity.expires_at is not None:
            self.expires = moment.now + identity.expires_at - moment.wall_ms / 1000

    # What it writes

    def greet(self, wall_ms: int, jitter: float, end: bytes, frame_id: FrameId) -> None:
        """Writes `welcome` with its `welcome_end`, but behind an answer to the request that was not written yet.

        An SSE stream's waits for the owner's answer.
        """
        assert self.caller is not None
        hello = welcome(self.connection_id, self.caller.user_id, wall_ms, jitter, end, frame_id)
        if self.framing is WEBSOCKET and not self.preface:
            self.emit(hello)
        else:
            self.hold(self.framing.control(hello))

    def emit(self, frame: ClientFrame) -> None:
        """Writes a frame that is no message."""
        self.put(self.framing.control(frame))

    def hold(self, data: bytes) -> None:
        """Takes bytes that are written with what comes next, or by `release`; both in the same call of the hub."""
        self.preface += data

    def release(self) -> None:
        """Writes what is held."""
        if self.preface:
            self.put(b"")

    def put(self, data: bytes) -> None:
        """Writes bytes that only this session gets."""
        if self.closed:
            return
        if self.preface:
            data, self.preface = self.preface + data, b""
        self.queued += len(data)  # our own bytes are no progress of the socket
        self.outlet.write(data)

    def beat(self, now: float) -> None:
        """Writes a heartbeat."""
        self.beat_at = now
        self.put(self.framing.heartbeat)

    def warn(self, frame: ClientFrame) -> None:
        """Writes `token_expiring`, once a token."""
        self.warned = True
        self.emit(frame)

    # Its end

    def leave(self, code: int, retry_after_ms: int | None = None) -> None:
        """Sends `disconnect` and ends the connection. The hub has let go of the session before."""
        self.emit(disconnect(code, retry_after_ms=retry_after_ms))
        self.finish(code, CLOSE_REASONS[code])

    def finish(self, code: int, reason: str) -> None:
        """Ends the connection without a `disconnect` frame."""
        if not self.closed:
            self.closed = True
            self.outlet.end(code, reason)

    def refuse(self, refusal: Refusal) -> None:
        """Answers an SSE request that never became a stream."""
        self.closed = True
        self.outlet.refuse(refusal)

    def lose(self) -> None:
        """The connection is gone: nothing is written any more."""
        self.closed = True

    # Its socket

    def hear(self, now: float) -> None:
        """Bytes came from the client."""
        self.heard_at = now

    def pause(self, now: float) -> None:
        """The socket is full; a heartbeat that fills it further does not make it younger."""
        if not self.paused:
            self.stalled_at = now
        self.paused = True
        self.queued = self.outlet.queued()

    def resume(self) -> None:
        """The socket takes bytes again."""
        self.paused = False

    def took(self, now: float) -> bool:
        """Returns whether the socket has taken a byte since the last call, or had none to take."""
        queued = self.outlet.queued()
        moved = queued == 0 or queued < self.queued
        self.queued = queued
        if moved:
            self.stalled_at = now
        return moved

    # How much it may send

    def counts_frame(self, now: float, limits: Limits) -> bool:
        """Counts a frame that is no whole message (ping, pong, fragment); false when there are too many of them.

        The generic cell rate algorithm (ITU-T I.371): a token bucket in one number, as every session has it.
        """
        self.frames_until = max(self.frames_until, now) + 1 / limits.frames_per_s
        return self.frames_until - now <= limits.frames_burst / limits.frames_per_s

    def allowed(self, now: float, limits: Limits) -> Allowance:
        """Returns the session's allowance of control frames, made when the first frame comes."""
        if self.allowance is None:
            self.allowance = Allowance(now, limits)
        return self.allowance

    # What it follows

    @property
    def subscriptions(self) -> Mapping[str, "Subscription"]:
        """Its subscriptions by topic, to be read at once: it may be a copy."""
        followed = self._followed
        if followed is None:
            return _NO_SUBSCRIPTIONS
        return followed if isinstance(followed, dict) else {followed.feed.topic_id: followed}

    @property
    def follows(self) -> int:
        """How many subscriptions it has."""
        followed = self._followed
        if followed is None:
            return 0
        return len(followed) if isinstance(followed, dict) else 1

    def follow(
        self, feed: "TopicFeed", cursor: int, target: int | None, *, member: bool = False, at_ms: int = 0
    ) -> "Subscription":
        """Begins a subscription out of step at `cursor`; see `Subscription`."""
        subscription = Subscription(self, feed, cursor, target, member=member, at_ms=at_ms)
        followed = self._followed
        if followed is None:
            self._followed = subscription
            return subscription
        if not isinstance(followed, dict):
            followed = self._followed = {followed.feed.topic_id: followed}
        followed[feed.topic_id] = subscription
        if len(followed) == 2:
            _share(followed.values())
        return subscription

    def unfollow(self, subscription: "Subscription") -> None:
        """Forgets a subscription that ended."""
        if isinstance(self._followed, dict):
            del self._followed[subscription.feed.topic_id]
        else:
            self._followed = None


class Subscription(Life):
    """A session's place in a feed, after the grant.

    Out of step, `cursor` is the number of the last message handed to the socket and `mark` the feed's byte count at
    the cursor; in step both are stale. `target` is the head at the grant of a position that was asked for: until the
    cursor has reached it the client is in a replay, `caught_up` is due and `on_slow` does not apply. After that, and
    for a live subscription from its beginning, it is None. `member` is whether its user was a member of the topic when
    he was last authorised, `begun_ms` when it began in Unix milliseconds. `acks` are the acknowledgements of a
    subscription with `ack`.
    """

    __slots__ = ("acks", "begun_ms", "cursor", "feed", "mark", "member", "session", "target")

    def __init__(
        self, session: Session, feed: "TopicFeed", cursor: int, target: int | None, *, member: bool, at_ms: int
    ) -> None:
        self.state = SubscriptionState.BEHIND
        self.session = session
        self.feed = feed
        self.cursor = cursor
        self.target = target
        self.member = member
        self.begun_ms = at_ms
        self.mark = feed.size
        self.acks: Acks | None = None
        feed.begin(self)

    def acknowledge(self, acks: Acks) -> None:
        """From its beginning on the client acknowledges what it gets."""
        self.acks = acks

    @property
    def in_step(self) -> bool:
        """Whether each flush of the feed writes to it."""
        return self.state is SubscriptionState.IN_STEP

    @property
    def is_fenced(self) -> bool:
        """Whether it is held until its user is authorised again."""
        return self.state is SubscriptionState.FENCED

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state is SubscriptionState.ENDED

    def step_in(self) -> int | None:
        """Joins the subscribers in step; returns the target of a replay that is over with it."""
        self.move(SubscriptionEvent.CATCH_UP)
        feed, session = self.feed, self.session
        if self.acks is not None:
            group = Group.ACKED
        elif session.framing is not WEBSOCKET:
            group = Group.STREAMS
        else:
            group = Group.SOCKETS if session.follows == 1 else Group.SHARED
        feed.step_in(self, group, session.outlet.write)
        target, self.target = self.target, None
        return target

    def step_out(self, cursor: int | None = None) -> None:
        """Parks at the newest message written, or at `cursor` when the last piece was not written to it."""
        self.move(SubscriptionEvent.PARK)
        self.cursor = self.feed.cursor_of(self) if cursor is None else cursor
        self.feed.step_out(self)
        self.mark = self.feed.size

    def go_back(self, cursor: int) -> None:
        """Continues at `cursor`: its window is full, or something in it is to be sent again."""
        in_step = self.in_step
        self.move(SubscriptionEvent.GO_BACK)
        if in_step:
            self.feed.step_out(self)
        else:
            self.feed.waiting.pop(self, None)
        self.cursor = cursor
        self.mark = self.feed.size

    def end_replay(self) -> int | None:
        """Returns the target of a replay that is over, once; it stays out of step."""
        target, self.target = self.target, None
        return target

    def wait(self) -> None:
        """Waits for the feed's next flush."""
        self.move(SubscriptionEvent.WAIT)
        self.feed.waiting[self] = None

    def flushed(self) -> None:
        """The feed was flushed: ends the wait. The bytes written meanwhile are no lag: the cursor was above them."""
        self.move(SubscriptionEvent.FLUSH)
        self.feed.waiting.pop(self, None)
        self.mark = self.feed.size

    def fence(self) -> None:
        """Holds it behind the newest message written to it; its feed has nothing pending."""
        if self.in_step:
            self.cursor = self.feed.cursor_of(self)
            self.mark = self.feed.size
        self.move(SubscriptionEvent.FENCE)
        self.feed.step_out(self)

    def release(self) -> None:
        """Continues at the cursor: its user may still follow the topic."""
        self.move(SubscriptionEvent.AUTHORIZE)

    def authorised(self, *, member: bool) -> None:
        """Its owner allows it; see `member`."""
        self.member = member

    def end(self) -> None:
        """Ends the subscription: neither its session nor its feed know it any longer."""
        self.move(SubscriptionEvent.END)
        self.feed.remove(self)
        self.session.unfollow(self)

    def wrote(self, cursor: int, size: int) -> None:
        """Messages up to `cursor`, `size` bytes, were handed to the socket."""
        self.cursor = cursor
        self.mark += size

    def skip_to(self, cursor: int) -> None:
        """Continues above `cursor`; a gap was told for the messages between."""
        self.cursor = cursor

    def skip_slow(self, cursor: int) -> None:
        """Continues above `cursor`, as near to the head as a slow subscriber may be."""
        self.cursor = max(cursor, self.cursor)
        self.mark = self.feed.size


TopicFeed = Feed[Subscription]
_Followed = Subscription | dict[str, Subscription] | None  # who follows one topic, as most do, needs no dict
_NO_SUBSCRIPTIONS: Final[Mapping[str, Subscription]] = MappingProxyType({})


def _share(subscriptions: Iterable[Subscription]) -> None:
    """The session follows a second topic: its first moves to the group whose writes are joined."""
    for subscription in subscriptions:
        subscription.feed.share(subscription)
