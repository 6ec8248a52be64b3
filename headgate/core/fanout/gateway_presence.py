"""Presence on this gateway: who follows here is announced to the owners, and clients get what the owners tell."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from headgate.core.client import outbound
from headgate.core.client.framing import ClientFrame
from headgate.core.client.inbound import NO_PRESENCE, PRESENCE_CHANGES, PRESENCE_ONCE
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.local_users import LocalUsers
from headgate.core.fanout.pending_subscribe import PendingSubscribe
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.presence_questions import PresenceQuestions
from headgate.core.fanout.presence_replica import PresenceReplica
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.fanout.side_frames import SideFrames
from headgate.core.wire.link import Answer, Leave, Refused, Request, Subscribed
from headgate.core.wire.link_members import TopicSettings
from headgate.core.wire.link_presence import AskPresence, PresenceAnswer, PresenceMoved, PresenceState, UserPresence
from headgate.core.wire.linkcodec import refusal_of
from headgate.core.wire.rights import Caller

LISTED: Final = 10_000  # asked for where this gateway has no list; the owner's bound may be lower
EARLY: Final = 100  # states that came before their grants
NOT_TOLD: Final = -1  # `Subscribed.users` where presence is off, or not for this caller


class Presence:
    """The presence of all topics that are followed here.

    A replica is kept of each topic that the gateway watches: those in mode `list`, and those in which a client said
    `presence:true`. `want` asks for a call of `announce`. `questions` are the requests for a frame.
    """

    def __init__(
        self,
        feeds: Mapping[str, TopicFeed],
        upstream: Upstream,
        want: Callable[[], None],
        side: SideFrames,
    ) -> None:
        self._feeds = feeds
        self._upstream = upstream
        self._side = side
        self._local = LocalUsers(upstream, want, self._watches)
        self.questions = PresenceQuestions(self._ask, self._answer)
        self._replicas: dict[str, PresenceReplica] = {}
        self._early: OrderedDict[str, PresenceReplica] = OrderedDict()  # their grants are the owners' next messages
        self._watching: dict[str, dict[Subscription, bool]] = {}  # True: the next frame to it is a whole `presence`
        self._barred: dict[str, dict[Subscription, bool]] = {}  # they want changes and may not know them
        self._dirty: dict[str, None] = {}
        self._away: dict[Session, None] = {}
        self._permissions: dict[str, str] = {}  # of topics whose settings have changed since they are followed here

    # Subscriptions

    def prepare(self, pending: PendingSubscribe) -> int:
        """Tells the owner who else has come or gone here, so that it counts them in its answer to a subscribe.

        Returns `AskSubscribe.presence`: 0 where the gateway watches the topic already.
        """
        feed = self._feeds.get(pending.topic_id)
        if feed is not None:
            self._local.announce_small(feed)
        return NO_PRESENCE if pending.topic_id in self._replicas else pending.subscribe.presence

    def gives_back(self, pending: PendingSubscribe, answer: Answer) -> bool:
        """Gives a grant back that is of no use: the replica that its first frame needs has gone since it was asked."""
        if pending.level == pending.subscribe.presence or not isinstance(answer, Subscribed):
            return False
        if not pending.asked or not self._lacks(pending, answer):
            return False
        assert pending.shard is not None, "the owner of a shard has answered"
        self._upstream.send(pending.shard, Leave(pending.topic_id, answer.epoch))
        self._replicas.pop(pending.topic_id, None)  # of an older epoch, or none
        return True

    def begin(self, subscription: Subscription, pending: PendingSubscribe, answer: Subscribed) -> ClientFrame | None:
        """A subscription has begun; returns its first `presence` frame."""
        mode, level, topic_id = answer.settings.get("presence", "count"), pending.subscribe.presence, pending.topic_id
        session = subscription.session
        early = self._early.pop(topic_id, None) if self._early else None
        if early is not None and early.epoch == answer.epoch and _brings_state(pending.level, mode):
            self._replicas[topic_id] = early  # else it came for a client who has gone, and nobody kept it up to date
        self._count_in(subscription, mode)
        if level == NO_PRESENCE:
            return None
        caller = session.caller
        assert caller is not None, "only a known caller follows a topic"
        own = UserPresence(caller.user_id, 1, subscription.begun_ms, session in self._away)
        if level == PRESENCE_CHANGES:
            self._want_changes(subscription, answer, own)
        if mode == "none" or answer.users == NOT_TOLD:
            return None
        if answer.users is None:  # an owner of an older version counts subscriptions
            return outbound.presence(topic_id, answer.count)
        replica = self._replicas.get(topic_id)
        if replica is None:
            return outbound.presence(topic_id, answer.users)
        return replica.frame(topic_id, answer.users, own)

    def end(self, subscription: Subscription) -> None:
        """A subscription has ended."""
        topic_id = subscription.feed.topic_id
        self._local.leave(subscription, away=self._is_away(subscription))
        _take_out(self._barred, subscription)
        replica = self._replicas.get(topic_id)
        if not _take_out(self._watching, subscription):
            return
        if topic_id not in self._watching:
            self._dirty.pop(topic_id, None)
            if replica is not None:
                replica.end_telling()
        elif replica is not None and replica.leave(subscription.session.user_id):
            self._dirty[topic_id] = None

    def forget(self, topic_id: str) -> None:
        """Nobody here follows a topic any longer: its owner tells nothing more of it."""
        self._forget_replica(topic_id)
        self._permissions.pop(topic_id, None)

    def drop(self, session: Session) -> None:
        """A session has ended, after its subscriptions."""
        self._away.pop(session, None)
        self.questions.drop(session)

    def set_status(self, session: Session, *, away: bool) -> None:
        """The user of a connection is away, or online."""
        if away == (session in self._away):
            return
        if away:
            self._away[session] = None
        else:
            del self._away[session]
        for subscription in session.subscriptions.values():
            self._local.turn(subscription, away=away)

    def permit(self, subscription: Subscription, allowed: bool) -> None:
        """Its user may know who follows the topic, or may no longer."""
        before, after = (self._barred, self._watching) if allowed else (self._watching, self._barred)
        if not _take_out(before, subscription):
            return
        topic_id = subscription.feed.topic_id
        after.setdefault(topic_id, {})[subscription] = True
        if allowed:
            self._dirty[topic_id] = None
            self._local.wake(subscription.feed)

    # Owners

    def configure(self, feed: TopicFeed, change: TopicSettings) -> list[Subscription]:
        """A topic's settings or permissions have changed; returns the subscriptions to authorise again."""
        mode = change.settings.get("presence", "count")
        if mode == "none":
            self._turn_off(feed)
        elif feed not in self._local:
            self._local.begin(feed, self._is_away)
        elif self._watches(feed.topic_id):
            self._local.wake(feed)
        if change.permissions == self._permissions.get(feed.topic_id, ""):
            return []
        self._permissions[feed.topic_id] = change.permissions
        return [*self._watching.get(feed.topic_id, ()), *self._barred.get(feed.topic_id, ())]

    def attach(self, shard: int) -> None:
        """Tells a new owner of a shard who follows its topics here."""
        self._local.attach(shard)

    def announce(self) -> None:
        """Tells the owners what has changed since the last call."""
        self._local.announce()

    def receive(self, message: PresenceState | PresenceMoved) -> None:
        """Takes what an owner tells of a topic; the first state of one comes right before the grant that needs it."""
        topic_id = message.topic_id
        feed, replica = self._feeds.get(topic_id), self._replicas.get(topic_id)
        if isinstance(message, PresenceMoved):
            if replica is not None and replica.epoch == message.epoch:
                replica.move(message)
        elif feed is None or feed.epoch != message.epoch:
            self._early[topic_id] = PresenceReplica(message)
            if len(self._early) > EARLY:
                self._early.popitem(last=False)
        elif replica is None:
            self._replicas[topic_id] = PresenceReplica(message)
            self._show_all(topic_id)
        elif replica.replace(message):
            self._show_all(topic_id)
        if topic_id in self._watching:
            self._dirty[topic_id] = None

    # Clients

    def tick(self, now: float) -> None:
        """Tells the clients what has changed, each topic at most once a second."""
        for topic_id in list(self._dirty):
            replica, watching = self._replicas.get(topic_id), self._watching.get(topic_id)
            if replica is None or watching is None:
                del self._dirty[topic_id]
            elif replica.is_due(now):
                del self._dirty[topic_id]
                self._tell(topic_id, replica, watching, now)

    def _tell(self, topic_id: str, replica: PresenceReplica, watching: dict[Subscription, bool], now: float) -> None:
        diff = replica.take_diff(topic_id, now)
        whole = [subscription for subscription, is_whole in watching.items() if is_whole]
        rest = [subscription for subscription, is_whole in watching.items() if not is_whole]
        if whole:
            replica.begin_telling()
            watching.update(dict.fromkeys(whole, False))
            self._write(replica.frame(topic_id, replica.count), whole)
        if diff is not None:
            frame, alone = diff
            self._write(frame, [each for each in rest if not alone or not _is_of(each.session, alone)])

    def _write(self, frame: ClientFrame, subscriptions: list[Subscription]) -> None:
        if not self._side.add(frame, subscriptions, self._missed):
            for subscription in subscriptions:
                self._missed(subscription)

    def _missed(self, subscription: Subscription) -> None:
        """A frame was not written: the next one is whole."""
        topic_id = subscription.feed.topic_id
        watching = self._watching.get(topic_id)
        if watching is not None and subscription in watching:
            watching[subscription] = True
            self._dirty[topic_id] = None

    def _ask(self, session: Session, subscription: Subscription, on_answer: Callable[[Answer], None]) -> None:
        """Asks the owner whether the client may have what it asked for."""
        caller, topic_id = session.caller, subscription.feed.topic_id
        assert caller is not None, "only a known caller follows a topic"
        replica = self._replicas.get(topic_id)
        self._local.announce_changes()  # the question must not overtake them
        limit = LISTED if replica is None or replica.mode != "list" else 0
        build = partial(_question, topic_id, caller, limit)
        self._upstream.request(subscription.feed.shard, build, on_answer)

    def _answer(self, topic_id: str, answer: Answer, frame_id: FrameId) -> ClientFrame | None:
        if isinstance(answer, Refused):
            return outbound.error(refusal_of(answer), frame_id, topic_id)
        if not isinstance(answer, PresenceAnswer):
            return None
        replica = self._replicas.get(topic_id)
        if answer.users or replica is None:
            replica = PresenceReplica(PresenceState(topic_id, 0, "list", answer.count, answer.users))
        return replica.frame(topic_id, answer.count, None, frame_id)

    def _count_in(self, subscription: Subscription, mode: str) -> None:
        feed = subscription.feed
        if mode == "none":
            self._turn_off(feed)
        elif feed in self._local or feed.count == 1:
            self._local.join(subscription, away=self._is_away(subscription))
        else:  # it was off when the others came, and nothing was heard of the change
            self._local.begin(feed, self._is_away)

    def _forget_replica(self, topic_id: str) -> None:
        self._replicas.pop(topic_id, None)
        self._dirty.pop(topic_id, None)

    def _turn_off(self, feed: TopicFeed) -> None:
        self._local.end(feed)
        self._forget_replica(feed.topic_id)

    def _is_away(self, subscription: Subscription) -> bool:
        return subscription.session in self._away

    def _want_changes(self, subscription: Subscription, answer: Subscribed, own: UserPresence) -> None:
        topic_id = subscription.feed.topic_id
        if answer.users == NOT_TOLD and answer.settings.get("presence") != "none":
            self._barred.setdefault(topic_id, {})[subscription] = True
            return
        self._watching.setdefault(topic_id, {})[subscription] = False
        replica = self._replicas.get(topic_id)
        if replica is not None:
            replica.begin_telling(own, answer.users)

    def _lacks(self, pending: PendingSubscribe, answer: Subscribed) -> bool:
        level = pending.subscribe.presence
        if answer.users in (None, NOT_TOLD):
            return False
        if not _brings_state(level, answer.settings.get("presence", "count")):
            return False
        replica = self._replicas.get(pending.topic_id)
        return replica is None or replica.epoch != answer.epoch

    def _watches(self, topic_id: str) -> bool:
        return topic_id in self._replicas or topic_id in self._watching

    def _show_all(self, topic_id: str) -> None:
        """All clients that are told changes get a whole frame next."""
        watching = self._watching.get(topic_id)
        if watching is not None:
            self._watching[topic_id] = dict.fromkeys(watching, True)


def _question(topic_id: str, caller: Caller, limit: int, req: int) -> Request:
    return AskPresence(req, topic_id, caller, "", limit)


def _brings_state(level: int, mode: str) -> bool:
    """Returns whether an owner that was asked so sends the whole state in front of its grant (`AskSubscribe`)."""
    return level == PRESENCE_CHANGES or (level == PRESENCE_ONCE and mode == "list")


def _is_of(session: Session, user_id: str) -> bool:
    return session.caller is not None and session.caller.user_id == user_id


def _take_out(place: dict[str, dict[Subscription, bool]], subscription: Subscription) -> bool:
    """Removes a subscription; returns whether it was there."""
    topic_id = subscription.feed.topic_id
    found = place.get(topic_id)
    if found is None or subscription not in found:
        return False
    del found[subscription]
    if not found:
        del place[topic_id]
    return True
