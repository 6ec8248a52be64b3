"""The window of a consumer group: who gets what, hand-over, retries, breakers, bounds, and that nothing is lost."""

from collections import defaultdict
from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from headgate.core.delivery.ack_window import NO_ANSWER
from headgate.core.delivery.breaker import BreakerPolicy
from headgate.core.delivery.group_window import GroupWindow
from headgate.core.delivery.retry import BackoffPolicy, fixed
from headgate.core.wire.link_groups import GROUP_WINDOW, MEMBER_WINDOW

POLICY = fixed(max_attempts=3, delay=1.0)


def window(*members: str, acked: int = 0, policy: BackoffPolicy = POLICY, failures: int = 100) -> GroupWindow:
    found = GroupWindow(acked, policy, BreakerPolicy(failures, open_s=30.0))
    for member in members:
        found.join(member)
    return found


def fill(group: GroupWindow, keys: Iterable[int]) -> None:
    for key in keys:
        group.take(group.next, key)


def send(group: GroupWindow, now: float = 0.0) -> list[tuple[str, int, int]]:
    """Sends all that may be sent; returns (member, seq, attempt)."""
    return [(member, seq, group.send(seq, 10, now)) for member, seq in group.ready()]


def test_each_message_goes_to_one_member_and_an_ack_moves_the_cursor_over_what_is_done() -> None:
    group = window("a", "b")
    fill(group, range(20))
    sent = send(group)
    assert [seq for _, seq, _ in sent] == list(range(1, 21))
    assert {member for member, _, _ in sent} == {"a", "b"}
    assert send(group) == []
    assert group.ack("a", [2, 3], 0.0).changed
    assert (group.acked, group.above()) == (0, [2, 3])
    assert group.ack("b", [1], 0.0).changed
    assert (group.acked, group.above()) == (3, [])
    assert not group.ack("b", [1, 2], 0.0).changed


def test_messages_of_a_key_stay_with_their_member_while_it_has_one_in_hand() -> None:
    group = window("a")
    fill(group, [7, 7])
    send(group)
    for name in map(str, range(20)):
        group.join(name)
    fill(group, [7])
    assert send(group) == [("a", 3, 1)]
    group.ack("a", [1, 2, 3], 0.0)
    fill(group, [7])
    ((member, _, _),) = send(group)
    assert member != "a", "one of 21 by its hash"


def test_who_joins_gets_keys_of_which_nothing_was_sent() -> None:
    group = window("a")
    fill(group, range(600))
    assert len(send(group)) == MEMBER_WINDOW
    group.join("b")
    found = {seq for member, seq, _ in send(group) if member == "b"}
    assert len(found) > 100 and min(found) > MEMBER_WINDOW


def test_what_a_member_had_goes_to_the_others_in_order_with_a_higher_attempt() -> None:
    group = window("a")
    fill(group, [1, 1, 2])
    send(group)
    group.ack("a", [1], 0.0)
    group.leave("a")
    assert send(group) == []
    group.join("b")
    assert send(group) == [("b", 2, 2), ("b", 3, 2)]
    group.leave("a")
    assert group.in_hand("b") == [2, 3]


def test_a_refused_message_comes_again_before_those_of_its_key_behind_it() -> None:
    group = window("a")
    fill(group, [1, 1, 2, 1])
    send(group)
    failure = group.nack("a", 1, "down", 0.0)
    assert failure is not None and (failure.attempts, failure.error, failure.given_up) == (1, "down", False)
    assert group.nack("a", 1, "down", 0.0) is None
    assert send(group, 0.5) == []
    assert group.ack("a", [2], 0.5).changed, "it was sent before"
    assert group.attempts() == [(1, 1)]
    group.visit(1.0)
    assert send(group, 1.0) == [("a", 1, 2), ("a", 4, 2)]


def test_after_max_attempts_it_waits_for_its_letter_and_the_cursor_passes_behind_that() -> None:
    group = window("a")
    fill(group, [1, 1])
    send(group)
    for at in (0.0, 1.0):
        assert group.nack("a", 1, "down", at)
        group.visit(at + 1.0)
        send(group, at + 1.0)
    failure = group.nack("a", 1, "down", 2.0)
    assert failure is not None and failure.given_up and group.giving_up() == [failure]
    assert group.ack("a", [1, 2], 2.0).changed
    assert (group.acked, group.above()) == (0, [2])
    assert group.given_up(1) and not group.given_up(1)
    assert group.acked == 2


def test_a_member_that_does_not_answer_gets_all_again_and_only_the_oldest_has_failed() -> None:
    group = window("a")
    fill(group, [1, 2, 3])
    send(group)
    assert group.visit(0.9) == []
    (failure,) = group.visit(1.0)
    assert (failure.seq, failure.error) == (1, NO_ANSWER)
    assert send(group, 1.0) == [("a", 1, 2), ("a", 2, 2), ("a", 3, 2)]
    assert group.attempts() == [(1, 1)]
    group.ack("a", [1], 1.5)
    assert group.visit(2.4) == []
    assert [each.seq for each in group.visit(2.5)] == [2]


def test_a_member_that_only_fails_gets_nothing_for_a_while_and_then_one() -> None:
    group = window("a", failures=2)
    fill(group, [1, 2, 3, 4])
    send(group)
    group.nack("a", 1, "", 0.0)
    group.nack("a", 2, "", 0.0)
    assert group.visit(29.0) == [] and send(group, 29.0) == []
    assert group.visit(30.0) == []
    assert [seq for _, seq, _ in send(group, 30.0)] == [1]
    assert group.room() == 0
    group.ack("a", [1], 30.0)
    assert [seq for _, seq, _ in send(group, 30.0)] == [2, 3, 4]


def test_it_goes_on_where_the_cursor_is_and_does_not_send_again_what_members_hold() -> None:
    group = window(acked=10)
    group.restore([12], [(13, 2), (14, 3)])
    group.join("a", [11, 15])
    fill(group, [1, 2, 3, 4, 5, 6])
    assert group.in_hand("a") == [11, 15]
    assert send(group) == [("a", 13, 3), ("a", 16, 1)]
    assert [(each.seq, each.attempts) for each in group.giving_up()] == [(14, 3)]
    assert group.attempts() == [(13, 2), (14, 3)]
    assert group.ack("a", [17, 11], 0.0).changed
    assert (group.acked, group.above()) == (12, [17])
    fill(group, [7, 8])
    assert send(group) == [("a", 18, 1)]


def test_a_replayed_letter_is_delivered_alone_and_does_not_move_the_cursor() -> None:
    group = window("a", acked=10)
    group.replay(4, 99, "letter")
    assert group.letter_of(4) == "letter" and send(group) == [("a", 4, 1)]
    assert group.ack("a", [4], 0.0) == (False, ["letter"])
    assert (group.acked, group.above(), group.is_busy) == (10, [], False)
    group.replay(4, 99, "letter")
    send(group)
    assert group.nack("a", 4, "", 0.0) and group.attempts() == []


def test_the_window_is_bounded() -> None:
    group = window("a", "b", "c", "d", "e", "f")
    assert group.room() == GROUP_WINDOW
    fill(group, range(1_000))
    assert group.room() == GROUP_WINDOW - 1_000
    assert window().room() == 0
    slow = window("a")
    fill(slow, range(MEMBER_WINDOW))
    assert slow.room() == 0


def test_lost_messages_are_passed() -> None:
    group = window("a")
    fill(group, [1, 2, 3])
    send(group)
    group.lose(2)
    assert (group.acked, group.in_hand("a")) == (2, [3])
    group.drop(3)
    assert group.acked == 3 and not group.is_busy
    group.lose(50)
    assert (group.acked, group.next) == (50, 51)


def test_a_member_is_owed_what_was_not_sent() -> None:
    group = window("a")
    assert group.owes("a", 1) and not group.owes("a", 0)
    fill(group, [1])
    assert group.owes("a", 1)
    send(group)
    assert not group.owes("a", 1)
    assert group.has_room("a") and not group.has_room("b")


class Shared(RuleBasedStateMachine):
    """A topic of numbered messages with few keys, members that come, go, answer, refuse or are silent."""

    members = Bundle("members")

    @initialize()
    def begin(self) -> None:
        self.group = window(policy=fixed(max_attempts=4, delay=1.0), failures=6)
        self.now = 0.0
        self.names = 0
        self.hands: dict[str, dict[int, None]] = {}
        self.done: set[int] = set()
        self.letters: set[int] = set()
        self.keys: dict[int, int] = {}
        self.attempts: dict[int, int] = defaultdict(int)

    @rule(target=members)
    def join(self) -> str:
        self.names += 1
        name = f"m{self.names}"
        self.hands[name] = {}
        self.group.join(name)
        return name

    @rule(name=consumes(members))
    def leave(self, name: str) -> None:
        self.group.leave(name)
        del self.hands[name]

    @rule(keys=st.lists(st.integers(0, 3), max_size=6))
    def publish(self, keys: list[int]) -> None:
        for key in keys[: self.group.room()]:
            self.keys[self.group.next] = key
            self.group.take(self.group.next, key)

    @rule()
    def send(self) -> None:
        for name, seq in self.group.ready():
            assert seq not in self.done and seq not in self.letters
            assert all(seq not in hand for hand in self.hands.values()), "two members have it"
            earlier = [at for at in self.keys if at < seq and self.keys[at] == self.keys[seq] and at not in self.done]
            held = self.hands[name]
            assert all(at in held or at in self.letters for at in earlier), "out of the order of its key"
            attempt = self.group.send(seq, 10, self.now)
            assert attempt == self.attempts[seq] + 1
            self.attempts[seq] = attempt
            held[seq] = None

    @rule(name=members, count=st.integers(1, 4))
    def ack(self, name: str, count: int) -> None:
        seqs = list(self.hands[name])[:count]
        self.group.ack(name, seqs, self.now)
        self.done.update(seqs)
        self._taken_back()

    @rule(name=members, at=st.integers(0, 3))
    def nack(self, name: str, at: int) -> None:
        seqs = list(self.hands[name])
        if at < len(seqs):
            failure = self.group.nack(name, seqs[at], "no", self.now)
            assert failure is not None
            if failure.given_up:
                self.letters.add(failure.seq)
        self._taken_back()

    @rule(seconds=st.sampled_from([0.3, 1.1, 31.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.letters.update(failure.seq for failure in self.group.visit(self.now) if failure.given_up)
        self._taken_back()

    @precondition(lambda self: self.letters)
    @rule()
    def letter_written(self) -> None:
        seq = min(self.letters)
        assert self.group.given_up(seq)
        self.letters.discard(seq)
        self.done.add(seq)

    def _taken_back(self) -> None:
        for name in self.hands:
            self.hands[name] = dict.fromkeys(self.group.in_hand(name))

    @invariant()
    def the_cursor_passes_only_what_is_done(self) -> None:
        if hasattr(self, "group"):
            done = set(range(1, self.group.acked + 1)) | set(self.group.above())
            assert done == self.done

    def teardown(self) -> None:
        """Whatever happened, a member that answers gets all that is left."""
        if not hasattr(self, "group"):
            return
        for name in list(self.hands):
            self.group.leave(name)
        self.hands = {"last": {}}
        self.group.join("last")
        for _ in range(50):
            self.wait(31.0)
            while self.letters:
                self.letter_written()
            self.send()
            self.ack("last", 1_000)
        assert not self.group.is_busy and self.group.acked == self.group.next - 1 == len(self.keys)


Shared.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestShared = Shared.TestCase
