"""One subscribe that is not granted yet: what it asks for, of whom, and since when."""

from headgate.core.client.inbound import Subscribe
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.session import Session
from headgate.core.fanout.subscription import Life, SubscriptionState
from headgate.core.wire.link import AskSubscribe, Refused, Request, Subscribed
from headgate.core.wire.link_acks import CursorAnswer, CursorLease
from headgate.core.wire.position import Position


class PendingSubscribe(Life):
    """A subscribe of a session, ASKED or HELD since `begun`; `shard` is None while the number of shards is unknown.

    `asked_at` is when it was first asked for, later than `begun` where it waited. Both are monotonic seconds.
    `early` is the owner's answer where it came before the turn of the topic in its query, `must_ask` whether that
    holds no longer and the owner is to be asked again then (`headgate.core.fanout.query_turns`).
    """

    __slots__ = (
        "asked_at", "begun", "caller", "deadline", "early", "frame_id", "lease", "level", "may_lease", "must_ask",
        "opened", "position", "session", "shard", "subscribe", "topic_id",
    )  # fmt: skip

    def __init__(
        self,
        session: Session,
        subscribe: Subscribe,
        frame_id: FrameId,
        begun: float,
        hold_s: float,
        asked_at: float = 0.0,
    ) -> None:
        self.asked_at = asked_at
        self.state = SubscriptionState.ASKED
        self.session = session
        self.caller = session.caller  # with whose rights the owner was asked
        self.subscribe = subscribe
        self.topic_id = subscribe.topic_id
        self.frame_id = frame_id
        self.begun = begun
        self.deadline = begun + hold_s
        self.shard: int | None = None
        self.level = 0  # what the owner was asked to tell of presence, see AskSubscribe
        self.position = subscribe.position  # where it begins: that of the cursor, once it is `opened`
        self.opened: CursorAnswer | None = None
        self.lease: CursorLease | None = None
        self.may_lease = not subscribe.leases  # whether the owner of the topic has been asked first
        self.early: Subscribed | Refused | None = None
        self.must_ask = False

    @property
    def asked(self) -> bool:
        """Whether the owner's answer is awaited."""
        return self.state is SubscriptionState.ASKED

    @property
    def is_answered(self) -> bool:
        """Whether its owner has answered before its turn."""
        return self.early is not None or self.must_ask

    @property
    def wants_cursor(self) -> bool:
        """Whether the owner of the user's shard is to be asked before the topic's."""
        return self.opened is None and self.subscribe.needs_cursor

    @property
    def may_create(self) -> bool:
        """Whether it may make the topic: a ticket for topics is for reading them."""
        return self.session.topics is None

    def place(self, shard: int) -> None:
        """Takes the shard whose owner is asked next: the user's, then the topic's."""
        self.shard = shard

    def open(self, answer: CursorAnswer, position: Position | None) -> None:
        """Takes the device's cursor."""
        self.opened = answer
        self.position = position

    def close(self) -> None:
        """Forgets what was answered: when it is asked again the cursor may have moved, and the rights changed."""
        self.opened = None
        self.may_lease = not self.subscribe.leases

    def allow(self) -> None:
        """The caller may subscribe: the lease of the device may be taken."""
        self.may_lease = True

    def put_off(self, answer: Subscribed | Refused) -> None:
        """Keeps an answer until the turn of the topic."""
        self.early = answer

    def ask_in_turn(self) -> None:
        """Has the owner asked again at the turn of the topic."""
        self.early, self.must_ask = None, True

    def take_turn(self) -> Subscribed | Refused | None:
        """It is its turn: returns the answer that was kept, None where the owner is to be asked."""
        answer, self.early, self.must_ask = self.early, None, False
        return answer

    def request(self, req: int, *, create: bool, level: int = 0) -> Request:
        """Returns the request to the owner, with the rights that the session has now."""
        caller = self.caller = self.session.caller
        assert caller is not None
        create = create and self.may_create
        self.level = level
        group = self.subscribe.group
        member = self.session.connection_id if group else ""
        return AskSubscribe(req, self.topic_id, caller, self.position, create, level, group, member)
