"""Link messages about users: the owner of a user's shard knows on which gateways a user is, and reaches him there.

A user belongs to shard murmur2(user id) mod shards. A gateway announces its users to a shard's new owner (AttachUsers)
and then what changed (UsersChanged). Questions come from any ingest or gateway; the owner passes them to the gateways
that have the user, collects the answers, and answers.
"""

from headgate.core.wire.link_struct import LinkStruct


class UserRoute(LinkStruct):
    """How many connections a user has; 0: none any longer."""

    user_id: str
    connections: int


class AttachUsers(LinkStruct, tag=60):
    """The gateway announces its users of a shard, in chunks; `last` on the final one, which may be empty.

    At the `first` chunk the owner forgets what it knew of this gateway's users in the shard. No answer.
    """

    shard: int
    first: bool
    last: bool
    users: list[UserRoute]


class UsersChanged(LinkStruct, tag=61):
    """Users of a shard came, went, or have another number of connections on this gateway. No answer."""

    shard: int
    users: list[UserRoute]


class UsersElsewhere(LinkStruct, tag=62):
    """The owner answers news of more connections: how many the users have on all other gateways. No answer.

    Sent only where there are any. The gateway ends its newest connections of a user who has too many.
    """

    users: list[UserRoute]


class EndSubscriptions(LinkStruct, tag=63):
    """Ends a user's live subscriptions to a topic, on all gateways; those of one connection where one is named.

    Answer: SubscriptionsEnded or Refused.
    """

    req: int
    user_id: str
    topic_id: str
    connection_id: str | None = None


class SubscriptionsEnded(LinkStruct, tag=64):
    """Answer to EndSubscriptions: how many ended."""

    req: int
    count: int


class AskConnections(LinkStruct, tag=65):
    """Asks for a user's connections on all gateways. Answer: ConnectionsAnswer or Refused."""

    req: int
    user_id: str


class ConnectedTopic(LinkStruct):
    """A live subscription of a connection; the time is Unix milliseconds."""

    subscription_id: str
    topic_id: str
    subscribed_at: int


class Connection(LinkStruct):
    """A live connection; times are Unix milliseconds, `transport` is `websocket` or `sse`."""

    connection_id: str
    user_id: str
    device_id: str
    connected_at: int
    last_heartbeat: int
    gateway: str
    transport: str
    subscriptions: list[ConnectedTopic]


class ConnectionsAnswer(LinkStruct, tag=66):
    """Answer to AskConnections.

    `complete` is false where a gateway did not answer in time, or where there are more than are listed.
    """

    req: int
    connections: list[Connection]
    complete: bool = True


class Redeem(LinkStruct, tag=67):
    """Uses a single-use ticket of a user up. Answer: Redeemed, or Refused `unauthenticated` for the second use.

    `issued_ms` and `expires_ms` are Unix milliseconds.
    """

    req: int
    user_id: str
    ticket_id: str
    issued_ms: int
    expires_ms: int


class Redeemed(LinkStruct, tag=68):
    """The ticket was good and no longer is."""

    req: int


class Revocation(LinkStruct):
    """Tokens of a user, or the one token `jti`, that were issued before `not_before` (Unix milliseconds) are void.

    After `until` all of them have expired; 0: nobody knows when.
    """

    user_id: str
    jti: str
    not_before: int
    until: int = 0


class Revocations(LinkStruct, tag=69):
    """A dispatcher tells what is revoked: all of it at the beginning of a link, then what is new. No answer."""

    revocations: list[Revocation]


class Throttle(LinkStruct):
    """A topic's publishes are refused for `for_ms` milliseconds from now on."""

    topic_id: str
    for_ms: int


class Throttled(LinkStruct, tag=70):
    """A topic's owner tells every ingest which topics are above their rate. No answer."""

    topics: list[Throttle]


class Ingests(LinkStruct, tag=71):
    """A dispatcher tells every ingest how many of them are linked: each gives a user its share. No answer."""

    count: int


UserRequest = EndSubscriptions | AskConnections | Redeem
UserReply = SubscriptionsEnded | ConnectionsAnswer | Redeemed
UserAnnouncement = AttachUsers | UsersChanged  # of a gateway, to the owner of a user's shard
FromOwner = EndSubscriptions | AskConnections | UsersElsewhere  # of that owner, to a gateway
FromAnyDispatcher = Revocations | Ingests
