"""Requests about dead letters: a delivery is given up, a person lists, replays and purges."""

import asyncio
from collections.abc import Callable, Generator, Mapping
from functools import partial
from heapq import nsmallest
from typing import Final

import msgspec

from dispatcher.answering import answer_in_steps
from dispatcher.letter_messages import LetterMessages, NoMessage
from dispatcher.letter_replays import LetterReplays, receiver_of
from dispatcher.shard import Destination, ShardOwner
from dispatcher.sliced_work import SlicedWork
from headgate.core.delivery.dead_letter_record import (
    DONE,
    PURGED,
    DeadLetter,
    DeadLetterRecord,
    LetterAdded,
    LetterEnded,
    LetterReplayed,
    delivery_letter_id,
)
from headgate.core.sequencer.rows import Row
from headgate.core.wire import link_dead_letters as wire
from headgate.core.wire import rights
from headgate.core.wire.amended_frames import frame_members
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import topic_key
from headgate.core.wire.linkcodec import refused_with
from headgate.core.wire.rights import Caller

PAGE_LETTERS: Final = 200  # of one answer
SLICE_LETTERS: Final = 500  # that one step of a list looks at: most may be hidden from the caller
RETRY_MS: Final = 1_000
RETRY_S: Final = 1.0
MAX_REASON: Final = 64

Again = Callable[[Destination, wire.DeadLetterRequest], None]


class LetterRequests:
    """Answers them for one shard. `handlers` are by the type of the request; each raises Refusal.

    `again` handles a request once more when its link has room.
    """

    def __init__(
        self,
        owner: ShardOwner,
        messages: LetterMessages,
        again: Again,
        long_work: SlicedWork,
    ) -> None:
        self._owner = owner
        self._messages = messages
        self._again = again
        self._long_work = long_work
        self._ending: set[str] = set()
        self._replays = LetterReplays(owner, messages, self._ending)
        self.handlers: Mapping[type, Callable[..., None]] = {
            wire.GiveUp: self._give_up,
            wire.AskDeadLetters: self._list,
            wire.ChangeDeadLetter: self._change,
            wire.WantReplays: self._replays.want,
            wire.LetterDone: self._done,
        }

    # -- gateways

    def _give_up(self, peer: Destination, ask: wire.GiveUp) -> None:
        row = self._owner.rows.get(topic_key(ask.topic_id))
        if row is None or row.epoch != ask.epoch:
            raise rights.unknown_topic(ask.topic_id)
        if row.ephemeral or not 0 < ask.seq <= row.seq:
            raise Refusal("bad_request", f"topic {row.topic_id} has no message {ask.seq}")
        user, device, group = ask.receiver.user_id, ask.receiver.device_id, ask.receiver.group
        letter_id = delivery_letter_id(row.topic_id, (row.epoch, ask.seq), (user, device, group))
        log = self._owner.letters
        store = log.letters.store
        if log.is_complete and store.get(letter_id) is not None and not store.is_replayed(letter_id):
            peer.send(wire.GivenUp(ask.req))
            return
        found = self._messages.find(row, ask.seq, peer, partial(self._again, peer, ask))
        if found is NoMessage.LATER:
            return
        members = frame_members(found) if isinstance(found, bytes) else {}
        letter = DeadLetter(
            id=letter_id,
            topic=row.topic_id,
            reason=ask.reason[:MAX_REASON],
            at=self._owner.time.stamp_ms() / 1_000,
            message_id=_text(members.get("message_id")),
            attempts=ask.attempts,
            last_error="" if "redacted" in members else ask.last_error[: wire.MAX_ERROR],
            epoch=row.epoch,
            seq=ask.seq,
            user_id=user,
            device_id=device,
            group=group or None,
        )
        self._append(peer, ask, LetterAdded(letter), partial(peer.send, wire.GivenUp(ask.req)))

    def _done(self, peer: Destination, news: wire.LetterDone) -> None:
        log = self._owner.letters
        if not log.is_complete:
            log.hold(partial(self._done, peer, news))
            return
        letter = log.store.get(news.id)
        if letter is not None and letter.epoch == news.epoch and news.id not in self._ending:
            self._ending.add(news.id)
            self._end(news.id, letter.topic)

    def _end(self, letter_id: str, topic_id: str) -> None:
        """Writes that a replay was acknowledged, until the log has it."""

        def outcome(done: bool | None) -> None:
            if done or self._owner.closed:
                self._ending.discard(letter_id)
            else:
                asyncio.get_running_loop().call_later(RETRY_S, self._end, letter_id, topic_id)

        self._owner.letters.append(LetterEnded(letter_id, topic_id, DONE), outcome)

    # -- people: which letters

    def _list(self, peer: Destination, ask: wire.AskDeadLetters) -> None:
        if self._waits(peer, ask):
            return
        if ask.id:
            self._show(peer, ask)
            return
        store = self._owner.letters.store
        if ask.topic_id:
            self._require_admin(ask.caller, ask.topic_id)
        letters = store.of_topic(ask.topic_id) if ask.topic_id else list(store)
        answer_in_steps(self._long_work, peer, ask, self._page(peer, ask, letters))

    def _page(
        self, peer: Destination, ask: wire.AskDeadLetters, letters: list[DeadLetter]
    ) -> Generator[None, None, wire.DeadLettersAnswer]:
        """Makes a page of those with the lowest ids: letters are in the order of their times."""
        limit, seen = min(max(ask.limit, 1), PAGE_LETTERS), dict[str, bool]()
        found: list[DeadLetter] = []
        for at in range(0, len(letters), SLICE_LETTERS):
            if at:
                yield
            if not peer.open:
                break
            found += [letter for letter in letters[at : at + SLICE_LETTERS] if self._is_listed(ask, letter, seen)]
            found = nsmallest(limit + 1, found, key=lambda letter: letter.id)
        return wire.DeadLettersAnswer(ask.req, [self._shown(letter) for letter in found[:limit]], len(found) > limit)

    def _is_listed(self, ask: wire.AskDeadLetters, letter: DeadLetter, seen: dict[str, bool]) -> bool:
        """Returns whether a letter belongs on a page; `seen` is whether the caller may see those of a topic."""
        if letter.id <= ask.after or self._owner.letters.store.is_replayed(letter.id):
            return False
        if letter.topic not in seen:
            seen[letter.topic] = self._administers(ask.caller, letter.topic)
        return seen[letter.topic]

    def _show(self, peer: Destination, ask: wire.AskDeadLetters) -> None:
        """Answers with one letter and its message, also of one that is being replayed."""
        letter, row = self._letter(ask.caller, ask.id)
        found = self._messages.find(row, letter.seq, peer, partial(self._again, peer, ask))
        if found is not NoMessage.LATER:
            shown = self._shown(letter)
            shown.message = found if isinstance(found, bytes) else b""
            peer.send(wire.DeadLettersAnswer(ask.req, [shown]))

    def _shown(self, letter: DeadLetter) -> wire.LetterShown:
        letter = self._owner.letters.checked(letter)
        return wire.LetterShown(
            id=letter.id,
            topic_id=letter.topic,
            epoch=letter.epoch,
            seq=letter.seq,
            message_id=str(letter.message_id),
            receiver=receiver_of(letter),
            attempts=letter.attempts,
            reason=letter.reason,
            last_error=letter.last_error,
            at=round(letter.at * 1_000),
            replaying=self._owner.letters.store.is_replayed(letter.id),
        )

    # -- people: what becomes of them

    def _change(self, peer: Destination, ask: wire.ChangeDeadLetter) -> None:
        if self._waits(peer, ask):
            return
        letter, row = self._letter(ask.caller, ask.id)
        answer = partial(peer.send, wire.DeadLetterChanged(ask.req, letter.topic))
        if ask.purge:
            self._append(peer, ask, LetterEnded(letter.id, letter.topic, PURGED), answer)
            return
        found = self._messages.find(row, letter.seq, peer, partial(self._again, peer, ask))
        if found is NoMessage.GONE:
            first = self._messages.first_kept(row)
            raise Refusal("gone", f"message {letter.seq} of {row.topic_id} is no longer kept", first_seq=first)
        if found is NoMessage.LATER:
            return
        if self._owner.letters.store.is_replayed(letter.id):
            self._replays.start(letter.id)
            answer()
        else:
            self._append(peer, ask, LetterReplayed(letter.id, letter.topic), answer)

    # -- helpers

    def _waits(self, peer: Destination, ask: wire.DeadLetterRequest) -> bool:
        """Returns whether the log is not read yet: the request is handled again then. Raises Refusal."""
        log = self._owner.letters
        if log.is_complete:
            return False
        if not log.hold(partial(self._again, peer, ask)):
            raise Refusal("not_ready", "too many wait for this shard's dead letters", retry_after_ms=RETRY_MS)
        return True

    def _append(
        self, peer: Destination, ask: wire.DeadLetterRequest, record: DeadLetterRecord, answer: Callable[[], None]
    ) -> None:
        """Writes a record and answers once it is applied. Raises Refusal."""
        if self._owner.letters.is_crowded:
            raise Refusal("not_ready", "too many dead letters are on their way", retry_after_ms=RETRY_MS)

        def outcome(done: bool | None) -> None:
            if not peer.open:
                return
            if done:
                answer()
            elif done is None:
                detail = "the dead-letter log has not acknowledged it; it may be done, and may be asked for again"
                peer.send(refused_with(ask.req, Refusal("outcome_unknown", detail)))
            else:
                refusal = Refusal("not_ready", "the dead-letter log does not answer", retry_after_ms=RETRY_MS)
                peer.send(refused_with(ask.req, refusal))

        self._owner.letters.append(record, outcome)

    def _letter(self, caller: Caller, letter_id: str) -> tuple[DeadLetter, Row]:
        """Returns a letter that the caller may see. Raises Refusal: one of a hidden topic is as good as none."""
        letter = self._owner.letters.store.get(letter_id)
        row = None if letter is None else self._owner.rows.get(topic_key(letter.topic))
        if letter is None or row is None:
            raise _unknown(letter_id)
        try:
            self._require_admin(caller, letter.topic)
        except Refusal as refusal:
            raise _unknown(letter_id) if refusal.code == "topic_not_found" else refusal from None
        return letter, row

    def _require_admin(self, caller: Caller, topic_id: str) -> None:
        row = self._owner.rows.get(topic_key(topic_id))
        if row is None:
            raise rights.unknown_topic(topic_id)
        role = self._owner.shard.role(topic_key(topic_id), row, caller.user_id)
        allowed = rights.may_administer(caller, row, role)
        rights.require(allowed, caller, row, role, "see the dead letters of")

    def _administers(self, caller: Caller, topic_id: str) -> bool:
        try:
            self._require_admin(caller, topic_id)
        except Refusal:
            return False
        return True


def _text(member: bytes | None) -> str:
    try:
        return "" if member is None else msgspec.json.decode(member, type=str)
    except msgspec.DecodeError:  # a record written by hand
        return ""


def _unknown(letter_id: str) -> Refusal:
    return Refusal("not_found", f"there is no dead letter {letter_id}")
