"""The API of one shard: answers the requests of gateways and ingests."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import structlog
from msgspec import structs

from dispatcher.announcements import Announcements
from dispatcher.answering import answer_with, refuse
from dispatcher.consumer_groups import ConsumerGroups
from dispatcher.event_watchers import EventWatchers
from dispatcher.history import ANY_TOPIC
from dispatcher.letter_messages import LetterMessages
from dispatcher.letter_requests import LetterRequests
from dispatcher.log_end import refuse_late
from dispatcher.mark_requests import MarkRequests
from dispatcher.member_requests import MemberRequests
from dispatcher.message_requests import MessageRequests
from dispatcher.missed_requests import MissedRequests
from dispatcher.page_builder import SeqRange
from dispatcher.ports import DispatcherMetrics
from dispatcher.read_receipts import ReadReceipts
from dispatcher.reading import Reading
from dispatcher.redeemed_tickets import RedeemedTickets
from dispatcher.relays import Relays
from dispatcher.shard import Destination, ShardOwner
from dispatcher.shard_presence import ShardPresence
from dispatcher.sliced_work import SlicedWork
from dispatcher.stats_requests import StatsRequests
from dispatcher.topic_creations import TopicCreator
from dispatcher.topic_list_requests import TopicListRequests
from dispatcher.typing_relay import TypingRelay
from headgate.core.sequencer.load import Load
from headgate.core.sequencer.rows import Row
from headgate.core.wire import link, link_direct, link_ephemeral, link_users, rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import EPOCH_OFFSET_BITS, check_topic_id, make_epoch, topic_key
from headgate.core.wire.member_roles import Role
from headgate.core.wire.position import Placed
from headgate.core.wire.rights import Caller
from headgate.core.wire.topic_settings import effective
from headgate.core.wire.verdict import Code, Verdict
from headgate.runtime.ports import Shell

RETRY_MS: Final = 1_000
OFFSET_MASK: Final = (1 << EPOCH_OFFSET_BITS) - 1
logger = structlog.get_logger("dispatcher")


class ShardApi:
    """The requests about the topics of one shard that is live here."""

    def __init__(
        self,
        owner: ShardOwner,
        shell: Shell[DispatcherMetrics],
        creator: TopicCreator,
        announcements: Announcements[Destination],
        presence: ShardPresence,
        load: Load,
    ) -> None:
        self.announcements = announcements
        self.presence = presence
        self.event_watchers = EventWatchers(owner)
        self._owner = owner
        self._shell = shell
        self._creator = creator
        self._reading = Reading(owner, shell.clock)
        self._tickets = RedeemedTickets(shell.clock.wall_ms())
        messages = LetterMessages(owner, self._reading)
        self.groups = ConsumerGroups(owner, self._reading, messages, shell, announcements, self.handle)
        self._receipts = ReadReceipts(owner)
        self._long_work = SlicedWork()
        letters = LetterRequests(owner, messages, self.handle_later, self._long_work)
        self._handlers: dict[type, Callable[..., None]] = {
            link.Attach: self._attach,
            link.AskSubscribe: self._subscribe,
            link.Leave: self._leave,
            link.Fetch: self._fetch,
            link.AskTopic: self._topic,
            link.AskCount: self._counts,
            link.AskVerdict: self._verdict,
            link.AskHistory: self._history,
            **TopicListRequests(owner, self.info, self._long_work).handlers,
            **MemberRequests(owner).handlers,
            **presence.handlers,
            **self.event_watchers.handlers,
            **TypingRelay(owner, shell.clock).handlers,
            **MessageRequests(owner, self._reading, self.handle_later, answer_with).handlers,
            **MarkRequests(owner, self._reading, self.handle_later, answer_with).handlers,
            **MissedRequests(owner, self._reading).handlers,
            **self._receipts.handlers,
            **letters.handlers,
            **self.groups.handlers,
            **Relays(owner, shell, load, self._row, self._subscribers_known).handlers,
            **StatsRequests(owner, self._row, shell.clock).handlers,
            link_users.Redeem: self._redeem,
            link_direct.AskLogic: self._logic,
        }

    def handle(self, peer: Destination, message: link.Message) -> None:
        """Answers one message, now or later. It never raises: a refusal is an answer too."""
        if not peer.open:
            return  # the message had to wait, and its link was closed meanwhile
        if self._owner.closed:
            refuse(peer, message, self._given_up())
            return
        handler = self._handlers.get(type(message))
        if handler is None:
            refuse(peer, message, Refusal("bad_request", f"{type(message).__name__} is no request of a client"))
            return
        answer_with(handler, peer, message)

    def handle_later(self, peer: Destination, message: link.Message) -> None:
        """Answers one message when its link has room for a large answer."""
        if not peer.later(lambda: self.handle(peer, message)):
            refuse(peer, message, Refusal("overloaded", "too many requests wait on this link"))

    def close(self) -> None:
        """The shard is no longer served here: messages that wait are refused."""
        self.groups.close()
        self._long_work.close(self._given_up())
        self._owner.close()
        self.announcements.close()
        self.presence.close()
        self.event_watchers.close()
        self._receipts.close()

    def _given_up(self) -> Refusal:
        return Refusal("not_ready", f"shard {self._owner.number} was given up")

    # -- users

    def _redeem(self, peer: Destination, ask: link_users.Redeem) -> None:
        self._tickets.redeem(ask, self._shell.clock.wall_ms())
        peer.send(link_users.Redeemed(ask.req))

    # -- topics

    def _row(self, topic_id: str) -> Row:
        row = self._owner.rows.get(topic_key(topic_id))
        if row is None:
            raise rights.unknown_topic(topic_id)
        return row

    def info(self, row: Row) -> link.TopicInfo:
        """Returns the public description of a topic."""
        return link.TopicInfo(
            topic_id=row.topic_id,
            epoch=row.epoch,
            seq=row.seq,
            name=row.name,
            permissions=row.permissions,
            owner_id=row.owner_id,
            created_at=row.created_at,
            subscriber_count=self._owner.routes.count(row.topic_id),
            member_count=self._owner.shard.member_count(topic_key(row.topic_id)),
            mode=self._owner.heats.get(row).mode,
            settings=effective(row.settings, self._owner.heats.usual),
            version=row.version,
        )

    def _role(self, caller: Caller, row: Row) -> Role | None:
        return self._owner.shard.role(topic_key(row.topic_id), row, caller.user_id)

    def _require_subscribe(self, caller: Caller, row: Row, action: str) -> Role | None:
        """Returns the role of a caller who may subscribe. Raises Refusal."""
        role = self._role(caller, row)
        rights.require(rights.may_subscribe(caller, row, role), caller, row, role, action)
        return role

    def _topic(self, peer: Destination, ask: link.AskTopic) -> None:
        row = self._row(ask.topic_id)
        role = self._role(ask.caller, row)
        rights.require(True, ask.caller, row, role, "see")
        peer.send(link.TopicAnswer(ask.req, self.info(row), role or "", self._owner.shard.logic))

    def _logic(self, peer: Destination, ask: link_direct.AskLogic) -> None:
        peer.send(link_direct.ShardLogic(ask.req, self._owner.shard.logic))

    def _counts(self, peer: Destination, ask: link.AskCount) -> None:
        if not self._subscribers_known(peer, ask, 0):
            return
        peer.send(link.Counts(ask.req, [self._owner.routes.count(t) for t in ask.topic_ids]))

    # -- subscriptions

    def _attach(self, peer: Destination, attach: link.Attach) -> None:
        owner = self._owner
        if attach.first:
            owner.routes.drop_gateway(peer)
            owner.heats.lost_gateway()
            owner.arrivals.left(peer)
            self.event_watchers.attached(peer)
        for topic in attach.topics:
            created_at = topic.epoch & OFFSET_MASK
            if created_at >= owner.shard.next_offset:  # by a record that this owner has not read yet
                owner.arrivals.expect(peer, topic, created_at)
            else:
                owner.attach(peer, topic)
        if attach.last:
            peer.send(link.Attached(attach.shard, owner.epoch))
            self.announcements.heard(peer)

    def _leave(self, peer: Destination, leave: link.Leave) -> None:
        if not self._owner.arrivals.leave(peer, leave.topic_id, leave.epoch, leave.count):
            self._owner.routes.leave(peer, leave.topic_id, leave.epoch, leave.count)
            self._owner.heats.changed_id(leave.topic_id)

    def _subscribe(self, peer: Destination, ask: link.AskSubscribe, *, at_end: bool = False) -> None:
        check_topic_id(ask.topic_id)
        row = self._owner.rows.get(topic_key(ask.topic_id))
        if row is None and ask.create and rights.may_create(ask.caller, ask.topic_id):
            self._subscribe_once_created(peer, ask)
            return
        if row is None:
            raise rights.unknown_topic(ask.topic_id)
        role = self._require_subscribe(ask.caller, row, "subscribe to")
        self._owner.send_open()
        if ask.group and self.groups.waits(peer, ask):
            return
        if row.ephemeral and not ask.group:
            resumed = False if ask.position is not None and ask.position.form == "seq" else None
            self._grant(peer, ask, row, role, 0, Placed(0, resumed, "ephemeral" if resumed is False else None))
            return
        placed = self.groups.place(ask, row) if ask.group else self._reading.place(row, ask.position)
        if placed is None:
            self._wait_for_history(peer, ask, row)
        elif placed[1].reason == "ahead" and not at_end:
            self._subscribe_at_end(peer, ask)
        else:
            self._grant(peer, ask, row, role, *placed)

    def _subscribe_at_end(self, peer: Destination, ask: link.AskSubscribe) -> None:
        """Looks at a position above the head again, once all that is in the log now is applied."""

        def again(applied: bool) -> None:
            answer_with(partial(self._subscribe, at_end=True) if applied else refuse_late, peer, ask)

        if not self._owner.log_end.wait(peer, again):
            raise Refusal("not_ready", "too many wait for the end of this shard's log", retry_after_ms=RETRY_MS)

    def _wait_for_history(self, peer: Destination, ask: link.AskSubscribe | link.Fetch, row: Row) -> None:
        """Handles a request again once more of the topic's history is here."""
        if self._owner.history.crowded:
            raise Refusal("not_ready", "too many wait for this shard's history", retry_after_ms=RETRY_MS)
        self._owner.history.wait(row.epoch, peer, lambda: self.handle_later(peer, ask))

    def _subscribe_once_created(self, peer: Destination, ask: link.AskSubscribe) -> None:
        """Creates the topic, unless that is under way, and subscribes when it is there. Raises Refusal."""
        pending, topic_id = self._owner.pending_topics, ask.topic_id
        again = structs.replace(ask, create=False)

        def decided(exists: bool) -> None:
            if exists:
                self.handle(peer, again)
            else:
                peer.send(link.Refused(ask.req, "not_ready", f"topic {topic_id} could not be made now"))

        if topic_id not in pending:
            failed = partial(pending.decided, topic_id, exists=False)
            self._creator.create(self._owner.number, topic_id, ask.caller, failed)
        pending.wait(topic_id, peer, decided)

    def _grant(
        self, peer: Destination, ask: link.AskSubscribe, row: Row, role: Role | None, first: int, placed: Placed
    ) -> None:
        """Adds the route and answers: what is applied so far is before the answer, everything later behind it."""
        owner = self._owner
        owner.routes.add(peer, row.topic_id, row.epoch, row.seq)
        owner.heats.changed(row)
        users = self.presence.granted(peer, ask, row, role)
        owner.owner_events.subscribed(row, ask.caller.user_id, self._shell.clock.wall_ms())
        peer.send(
            link.Subscribed(
                req=ask.req,
                topic_id=row.topic_id,
                epoch=row.epoch,
                seq=row.seq,
                first_seq=first,
                cursor=placed.cursor,
                count=owner.routes.count(row.topic_id),
                resumed=placed.resumed,
                reason=placed.reason,
                settings=effective(row.settings, owner.heats.usual),
                fence=row.fence,
                member=role is not None,
                users=users,
                group=ask.group,
                heat=str(owner.heats.get(row)),
            )
        )
        if ask.group:
            self.groups.joined(peer, ask, row, placed)

    # -- history

    def _fetch(self, peer: Destination, ask: link.Fetch) -> None:
        row = self._row(ask.topic_id)
        if row.epoch != ask.epoch:
            raise rights.unknown_topic(ask.topic_id)
        page = self._reading.page(row, ask)
        if page is None:
            self._wait_for_history(peer, ask, row)
        else:
            self._send_page(peer, ask, row, page)

    def _history(self, peer: Destination, ask: link.AskHistory) -> None:
        row = self._row(ask.topic_id)
        self._require_subscribe(ask.caller, row, "read the history of")
        if row.ephemeral:
            raise Refusal("not_in_profile", f"topic {row.topic_id} is ephemeral: nothing of it is kept")
        self._send_page(peer, ask, row, self._reading.history(row, ask))

    def _send_page(
        self,
        peer: Destination,
        ask: link.Fetch | link.AskHistory,
        row: Row,
        page: link.Page | link.HistoryPage | SeqRange,
    ) -> None:
        """Sends a page now, or once its frames have been read from the log again. Raises Refusal."""
        if not isinstance(page, SeqRange):
            peer.send(page)
        elif self._owner.pages.crowded:
            raise Refusal("not_ready", "too many wait for old messages of this shard", retry_after_ms=RETRY_MS)
        else:
            self._owner.pages.want(row, page.absent, peer, lambda: self.handle_later(peer, ask))

    # -- verdicts

    def _verdict(self, peer: Destination, ask: link.AskVerdict) -> None:
        owner = self._owner
        kept = owner.verdicts.get(ask.offset)
        if kept is not None:
            _send_verdicts(peer, ask, kept)
        elif ask.offset >= owner.shard.next_offset:
            if not owner.verdicts.wait(ask.offset, peer, partial(_send_verdicts, peer, ask)):
                raise Refusal("not_ready", "too many publishes of this shard wait for their verdict")
        else:
            left = self._what_is_left(ask.offset)
            if left[0].code == Code.UNKNOWN and not owner.history.holds(ask.offset):
                owner.history.wait(ANY_TOPIC, peer, lambda: self.handle_later(peer, ask))
            else:
                _send_verdicts(peer, ask, left)

    def _what_is_left(self, offset: int) -> list[Verdict]:
        """Returns the verdicts of an older record, as far as the topics and the history still show them."""
        epoch = make_epoch(self._owner.shard.generation, offset)
        if self._owner.topics.has_epoch(epoch):
            return [Verdict(Code.CREATED, 0, epoch)]
        found = self._owner.history.at_offset(offset)
        if not found:
            return [Verdict(Code.UNKNOWN)]
        verdicts = [Verdict(Code.UNKNOWN)] * (found[-1][0] + 1)
        for item, topic_epoch, seq in found:
            kept = self._owner.history.get(topic_epoch, seq)
            is_event = kept is not None and kept.change
            verdicts[item] = Verdict(Code.CHANGED if is_event else Code.ACCEPTED, seq, topic_epoch)
        return verdicts

    # -- ephemeral

    def _subscribers_known(self, peer: Destination, ask: link_ephemeral.Relay | link.AskCount, size: int) -> bool:
        """Returns whether every gateway has announced its subscriptions; if not, handles the request once they have.

        Raises Refusal when too many wait.
        """
        if self.announcements.complete:
            return True
        if not self.announcements.hold(lambda: self.handle(peer, ask), size):
            raise Refusal("not_ready", "the gateways have not announced their subscriptions yet")
        return False


def _send_verdicts(peer: Destination, ask: link.AskVerdict, verdicts: Sequence[Verdict]) -> None:
    peer.send(link.Verdicts(ask.req, list(verdicts)))
