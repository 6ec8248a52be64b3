"""Sends messages that are replayed to the gateways that host their topics, until they are acknowledged."""

from collections.abc import Collection
from functools import partial
from typing import Final

import structlog

from dispatcher.letter_messages import LetterMessages, NoMessage
from dispatcher.shard import Destination, ShardOwner
from headgate.core.delivery.dead_letter_record import GONE, DeadLetter, DeadLetterRecord, LetterEnded, LetterReplayed
from headgate.core.delivery.replays import REPLAYS
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_dead_letters import Receiver, Redeliver, WantReplays

REPLAYS_FROM: Final = 2  # the link version that knows replays

logger = structlog.get_logger("dispatcher")


class LetterReplays:
    """The letters of one shard that are being replayed.

    Each is sent when its replay begins, when the log has been read by a new owner, and to a gateway that attaches or
    wants it. Those of a congested link wait for room.
    """

    def __init__(self, owner: ShardOwner, messages: LetterMessages, ending: Collection[str]) -> None:
        """`ending` are the letters whose replays were acknowledged; the log does not have that yet."""
        self._owner = owner
        self._messages = messages
        self._ending = ending
        owner.letters.listener = self.read
        owner.on_attach = self.attached
        if not owner.letters.is_complete:  # otherwise every gateway attaches after this
            owner.letters.hold(self.resume)

    def read(self, record: DeadLetterRecord) -> None:
        """Takes a record of the log: a replay begins."""
        if isinstance(record, LetterReplayed):
            self.start(record.id)

    def start(self, letter_id: str) -> None:
        """Sends a letter's message to every gateway that hosts the topic."""
        letter = self._owner.letters.store.get(letter_id)
        if letter is not None and letter.group:
            self._owner.on_group_replay(letter)
        elif letter is not None:
            for route in list(self._owner.routes.hosts(letter.topic)):
                self._send_later(route.gateway, letter)

    def resume(self) -> None:
        """Sends all of them: this owner knows them from now on."""
        store = self._owner.letters.store
        for topic in store.topics():
            for letter in store.replayed(topic):
                self.start(letter.id)

    def attached(self, peer: Destination, topic_id: str) -> None:
        """A gateway hosts a topic from now on."""
        if self._owner.letters.is_complete:  # otherwise `resume` sends them
            for letter in self._owner.letters.store.replayed(topic_id):
                self._send_later(peer, letter)

    def want(self, peer: Destination, ask: WantReplays) -> None:
        """A gateway has a receiver's subscription from now on, or it has room for more of its replays.

        It gets the oldest, one more than it takes at a time. So it knows that there are others, and asks again when it
        has room; it also asks once when none is left.
        """
        row = self._owner.rows.get(topic_key(ask.topic_id))
        if row is None or row.epoch != ask.epoch:
            return
        first, room = self._messages.first_kept(row), REPLAYS + 1
        for letter in self._owner.letters.store.replayed(ask.topic_id):
            if letter.epoch != ask.epoch or receiver_of(letter) != ask.receiver or letter.id in self._ending:
                continue
            self._send_later(peer, letter)
            room -= letter.seq >= first  # one whose message is gone comes to nothing
            if not room:
                return

    def _send_later(self, peer: Destination, letter: DeadLetter) -> None:
        if peer.version >= REPLAYS_FROM and not letter.group:
            peer.later(partial(self._send, peer, letter.id))  # where too many wait it comes with the next attach

    def _send(self, peer: Destination, letter_id: str) -> None:
        owner, store = self._owner, self._owner.letters.store
        letter = store.get(letter_id)
        row = None if letter is None else owner.rows.get(topic_key(letter.topic))
        if owner.closed or not peer.open or letter is None or row is None or not store.is_replayed(letter_id):
            return
        try:
            found = self._messages.find(row, letter.seq, peer, partial(self._send, peer, letter_id))
        except Refusal:  # it comes with the next attach
            return
        if found is NoMessage.GONE:
            logger.warning("a replayed message is gone", shard=owner.number, topic=letter.topic, letter=letter_id)
            owner.letters.append(LetterEnded(letter_id, letter.topic, GONE), lambda done: None)
        elif isinstance(found, bytes):
            place = letter.topic, letter.epoch, letter.seq
            peer.send(Redeliver(*place, receiver_of(letter), letter_id, found))


def receiver_of(letter: DeadLetter) -> Receiver:
    """Returns whom a letter's delivery was for."""
    return Receiver(letter.user_id, letter.device_id, letter.group or "")
