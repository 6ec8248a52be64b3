"""The window of one consumer group: which member has which message in hand, what comes again, and when.

The group is one receiver with one cursor, `acked`. Its messages are taken in the order of their numbers (`take`), each
for one member: the one that has messages of the same key in hand, else the one that its key's hash names. The caller
sends what `ready` names, says so with `send`, and calls `visit` a few times a second.

Five rules:

1. A message has one member at a time, until it is acknowledged, given up or lost. Only then may `acked` pass it.
2. The messages of one key are sent in order. One that failed comes again before those of its key behind it, and they
   come again after it, where they are not acknowledged meanwhile.
3. Without an acknowledgement of a member for the retry delay the oldest message in its hand has failed, and all that it
   has in hand comes again.
4. When a member leaves, the others get what it had. A member that joins gets keys of which nothing was sent yet.
5. At most `GROUP_WINDOW` numbers are above `acked`, and a member has at most MEMBER_WINDOW messages in hand.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from headgate.core.delivery.ack_window import NO_ANSWER, Failure
from headgate.core.delivery.breaker import BreakerPolicy, BreakerState
from headgate.core.delivery.delivery import Delivery, Status, restored
from headgate.core.delivery.group_keys import hash_of, member_of
from headgate.core.delivery.group_members import MemberHand, OpenMessage, Place
from headgate.core.delivery.retry import Draw, RetryPolicy, no_jitter
from headgate.core.wire.link_groups import GROUP_WINDOW

_NO_ONE: Final = ""  # the member of a message while the group has none


class Acked(NamedTuple):
    """What an acknowledgement changed: whether the cursor is another one, and which replayed letters are done."""

    changed: bool
    letters: list[str]


class GroupWindow:
    """The window of a group that is done with all messages up to `acked`; `next` is the next one to `take`.

    Times are seconds on the caller's clock, `draw` is the randomness of the retry policy, which may be replaced.
    """

    def __init__(self, acked: int, policy: RetryPolicy, breaker: BreakerPolicy) -> None:
        self.acked = acked
        self.next = acked + 1
        self.policy = policy
        self._breaker = breaker
        self._above: set[int] = set()
        self._failures: dict[int, int] = {}  # of messages that are not taken yet, as the cursor has them
        self._held: dict[int, str] = {}  # of messages that are not taken yet: who has them in hand already
        self._open: dict[int, OpenMessage] = {}
        self._queued: set[int] = set()
        self._waiting: set[int] = set()
        self._members: dict[str, MemberHand] = {}
        self._keys: dict[int, list[OpenMessage]] = {}  # those of the open ones

    def restore(self, above: Iterable[int], attempts: Iterable[tuple[int, int]]) -> None:
        """Continues at a stored cursor; see `headgate.core.wire.link_acks.Cursor`. Nothing was taken yet."""
        last = self.acked + GROUP_WINDOW
        self._above = {seq for seq in above if self.acked < seq <= last}
        self._failures = {seq: count for seq, count in attempts if self.acked < seq <= last and count > 0}
        self._pass()

    # What others may know

    @property
    def is_busy(self) -> bool:
        """Whether there are messages that are not done."""
        return bool(self._open)

    def above(self) -> list[int]:
        """Returns the numbers above `acked` that are done, ascending."""
        return sorted(self._above)

    def attempts(self) -> list[tuple[int, int]]:
        """Returns the messages above `acked` that failed and how often, ascending."""
        found = {seq: count for seq, count in self._failures.items() if seq not in self._above}
        for seq, message in self._open.items():
            if message.failed is not None and not message.is_extra:
                found[seq] = message.failed.attempts - (message.failed.status is Status.DELIVERING)
        return sorted((seq, count) for seq, count in found.items() if count)

    def giving_up(self) -> list[Failure]:
        """Returns the messages that wait for their dead letters, ascending."""
        return [
            Failure(seq, message.failed.attempts, message.failed.last_error, True)
            for seq, message in sorted(self._open.items())
            if message.place is Place.GIVEN_UP and message.failed is not None
        ]

    def in_hand(self, member: str) -> list[int]:
        """Returns what a member has in hand, in the order of sending."""
        found = self._members.get(member)
        return [] if found is None else list(found.in_hand)

    def owes(self, member: str, last: int) -> bool:
        """Whether a message up to `last` was not sent to a member yet."""
        return self.next <= last or any(
            seq <= last and self._open[seq].member == member and not self._open[seq].deliveries for seq in self._queued
        )

    def room(self) -> int:
        """Returns how many messages may be taken now."""
        room = {name: max(member.room, 0) for name, member in self._members.items()}
        for seq in self._queued:
            name = self._open[seq].member
            if room.get(name):
                room[name] -= 1
        return max(min(self.acked + GROUP_WINDOW + 1 - self.next, sum(room.values())), 0)

    # Members

    def join(self, name: str, held: Iterable[int] = (), now: float = 0.0, draw: Draw = no_jitter) -> None:
        """Takes a member, with the messages that it has in hand from the owner before."""
        if name not in self._members:
            self._members[name] = MemberHand(hash_of(name.encode()), self._breaker)
            started = {message.key for message in self._open.values() if message.deliveries and message.member}
            for key in [key for key in self._keys if key not in started]:
                self._assign(key)
        for seq in held:
            message = self._open.get(seq)
            if message is None and self.next <= seq <= self.acked + GROUP_WINDOW:
                self._held[seq] = name
            elif message is not None and message.place is Place.QUEUED and not message.deliveries:
                message.member = name
                self.send(seq, 0, now, draw)

    def leave(self, name: str) -> None:
        """A member is gone: the others get what it had."""
        member = self._members.pop(name, None)
        if member is None:
            return
        self._held = {seq: holder for seq, holder in self._held.items() if holder != name}
        self._requeue(list(member.in_hand), member)
        for key in {message.key for message in self._open.values() if message.member == name}:
            self._assign(key, name)

    # Messages

    def take(self, seq: int, key: int, now: float = 0.0, draw: Draw = no_jitter) -> None:
        """Takes the message number `next`; `key` is the number of its key."""
        self.next = seq + 1
        holder = self._held.pop(seq, None)
        if seq in self._above or seq <= self.acked:
            return
        message = self._add(seq, key)
        failures = self._failures.pop(seq, 0)
        if failures:
            message.failed = restored(failures, self.policy)
            message.deliveries = failures
        if message.failed is not None and message.failed.status is Status.DEAD_LETTER:
            self._put(message, Place.GIVEN_UP)
        elif holder in self._members and not failures:
            message.member = holder
            self.send(seq, 0, now, draw)

    def replay(self, seq: int, key: int, letter: str) -> None:
        """Takes the message of a dead letter that is to be delivered again, alone and in no order."""
        message = self._open.get(seq)
        if message is None:
            message = self._add(seq, key)
            message.is_extra = True
        message.letter = letter

    def ready(self) -> list[tuple[str, int]]:
        """Returns who may be sent which message now, in order. Once a member has no room it gets none behind it."""
        blocked: dict[int, int] = {}
        for seq in self._waiting:
            key = self._open[seq].key
            blocked[key] = min(seq, blocked.get(key, seq))
        room = {name: member.room for name, member in self._members.items()}
        found: list[tuple[str, int]] = []
        for seq in sorted(self._queued):
            message = self._open[seq]
            if blocked.get(message.key, seq) < seq:
                continue
            if room.get(message.member, 0) <= 0:
                blocked.setdefault(message.key, seq)
                continue
            room[message.member] -= 1
            found.append((message.member, seq))
        return found

    def has_room(self, member: str) -> bool:
        """Whether a member may be sent one message more."""
        return member in self._members and self._members[member].room > 0

    def send(self, seq: int, size: int, now: float, draw: Draw = no_jitter) -> int:
        """Notes that a message of `size` bytes is sent to its member; returns which delivery it is."""
        message = self._open[seq]
        member = self._members[message.member]
        if message.failed is not None and message.failed.status is Status.QUEUED:
            message.failed.start()
        message.deliveries += 1
        message.size = size
        self._put(message, Place.SENT)
        member.in_hand[seq] = None
        member.bytes += size
        if member.breaker.state is BreakerState.HALF_OPEN:
            member.probe = seq
        if member.timeout_at is None:
            self._wait(member, now, draw)
        return message.deliveries

    def letter_of(self, seq: int) -> str:
        """Returns the id of the dead letter for which a message is sent, "" for none."""
        return self._open[seq].letter if seq in self._open else ""

    # Answers

    def ack(self, member: str, seqs: Iterable[int], now: float, draw: Draw = no_jitter) -> Acked:
        """Takes acknowledgements of exactly these messages. Whoever had one has done its work, so it counts."""
        changed = False
        letters: list[str] = []
        for seq in seqs:
            message = self._open.get(seq)
            if message is None:
                changed |= self._done_before(seq)
            elif message.place is not Place.GIVEN_UP:
                if message.failed is not None:
                    message.failed.succeed()
                if message.letter:
                    letters.append(message.letter)
                changed |= not message.is_extra
                self._done(message)
        found = self._members.get(member)
        if found is not None and (changed or letters):
            found.breaker.record(True, 0.0, 0.0)
            found.probe = None
            self._wait(found, now, draw)
        return Acked(changed, letters)

    def nack(self, member: str, seq: int, reason: str, now: float, draw: Draw = no_jitter) -> Failure | None:
        """Takes a refusal of one message in a member's hand; None where it has it not."""
        found = self._members.get(member)
        if found is None or seq not in found.in_hand:
            return None
        failure = self._fail(self._open[seq], found, reason, now, draw)
        if not failure.given_up:
            behind = [each.seq for each in self._keys[self._open[seq].key] if each.seq > seq and not each.is_extra]
            self._requeue([each for each in behind if each in found.in_hand], found)
        self._wait(found, now, draw)
        return failure

    def given_up(self, seq: int) -> bool:
        """Its dead letter is written. True: something changed."""
        message = self._open.get(seq)
        if message is None or message.place is not Place.GIVEN_UP:
            return False
        self._done(message)
        return True

    def lose(self, seq: int) -> None:
        """The messages up to `seq` are kept no longer, and the members were told so."""
        for message in [each for each in self._open.values() if each.seq <= seq and not each.is_extra]:
            self._done(message)
        self.acked = max(self.acked, seq)
        self.next = max(self.next, seq + 1)
        self._pass()

    def drop(self, seq: int) -> None:
        """One message is kept no longer."""
        if seq in self._open:
            self._done(self._open[seq])

    # Time

    def visit(self, now: float, draw: Draw = no_jitter) -> list[Failure]:
        """Does what time does: retries are due, members did not answer, breakers let one message through."""
        for seq in list(self._waiting):
            failed = self._open[seq].failed
            if failed is not None and (failed.due is None or failed.due <= now):
                failed.requeue(now)
                self._put(self._open[seq], Place.QUEUED)
        failures = []
        for member in self._members.values():
            if member.probe_at is not None:
                if now >= member.probe_at:
                    member.probe_at, member.timeout_at = None, None
                    member.breaker.probe()
                    self._requeue(list(member.in_hand), member)
            elif member.timeout_at is not None and now >= member.timeout_at:
                oldest = self._open[next(iter(member.in_hand))]
                failures.append(self._fail(oldest, member, NO_ANSWER, now, draw, waited=True))
                self._requeue(list(member.in_hand), member)
                self._wait(member, now, draw)
        return failures

    # Private

    def _add(self, seq: int, key: int) -> OpenMessage:
        others = self._keys.setdefault(key, [])
        member = others[-1].member if others else _NO_ONE
        if member == _NO_ONE:
            member = self._chosen(key)
        message = self._open[seq] = OpenMessage(seq, key, member)
        others.append(message)
        self._queued.add(seq)
        return message

    def _chosen(self, key: int) -> str:
        found = member_of(key, ((member.number, name) for name, member in self._members.items()))
        return _NO_ONE if found is None else found

    def _assign(self, key: int, of_member: str | None = None) -> None:
        """Gives the messages of a key, or those that `of_member` had, to the member that its hash names now."""
        chosen = self._chosen(key)
        for message in self._keys[key]:
            if of_member in (None, message.member):
                message.member = chosen

    def _put(self, message: OpenMessage, place: Place) -> None:
        message.place = place
        for kind, seqs in ((Place.QUEUED, self._queued), (Place.WAITS, self._waiting)):
            if place is kind:
                seqs.add(message.seq)
            else:
                seqs.discard(message.seq)

    def _requeue(self, seqs: Iterable[int], member: MemberHand) -> None:
        """Takes messages out of a member's hand: they come again. Those that failed go on with their try."""
        for seq in seqs:
            message = self._open[seq]
            member.give_back(message)
            self._put(message, Place.QUEUED)

    def _fail(
        self, message: OpenMessage, member: MemberHand, error: str, now: float, draw: Draw, *, waited: bool = False
    ) -> Failure:
        delivery = message.failed
        if delivery is None:
            delivery = message.failed = Delivery()
            delivery.enqueue()
            delivery.start()
        delivery.fail(error)
        delay = delivery.resolve(self.policy, now, draw, waited=waited)
        member.give_back(message)
        opened = member.breaker.record(False, 0.0, now)
        if opened is not None:
            member.probe_at = opened
        if delay is None:
            self._put(message, Place.GIVEN_UP)
        elif waited:
            delivery.requeue(now)
            self._put(message, Place.QUEUED)
        else:
            self._put(message, Place.WAITS)
        return Failure(message.seq, delivery.attempts, delivery.last_error, delay is None)

    def _wait(self, member: MemberHand, now: float, draw: Draw) -> None:
        """Begins to wait for an acknowledgement of the oldest message in a member's hand."""
        oldest = next(iter(member.in_hand), None)
        if oldest is None:
            member.timeout_at = None
            return
        failed = self._open[oldest].failed
        member.timeout_at = now + self.policy.compute_delay(1 if failed is None else failed.attempts, draw)

    def _done(self, message: OpenMessage) -> None:
        member = self._members.get(message.member)
        if member is not None:
            member.give_back(message)
            if not member.in_hand:
                member.timeout_at = None
        del self._open[message.seq]
        self._queued.discard(message.seq)
        self._waiting.discard(message.seq)
        others = self._keys[message.key]
        others.remove(message)
        if not others:
            del self._keys[message.key]
        if not message.is_extra:
            self._above.add(message.seq)
            self._pass()

    def _done_before(self, seq: int) -> bool:
        """Takes an acknowledgement of a message that is not taken yet: the owner before had sent it."""
        if not self.next <= seq <= self.acked + GROUP_WINDOW or seq in self._above:
            return False
        self._above.add(seq)
        self._pass()
        return True

    def _pass(self) -> None:
        """Moves `acked` over what is done, and forgets what is below it."""
        while self.acked + 1 in self._above:
            self.acked += 1
            self._above.discard(self.acked)
        self.next = max(self.next, self.acked + 1)
        for known in (self._failures, self._held):
            for seq in [each for each in known if each <= self.acked]:
                del known[seq]
