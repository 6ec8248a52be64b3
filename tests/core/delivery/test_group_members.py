"""What a member may have in hand."""

from headgate.core.delivery.breaker import BreakerPolicy
from headgate.core.delivery.group_members import MemberHand, OpenMessage, Place
from headgate.core.wire.link_groups import MEMBER_BYTES, MEMBER_WINDOW


def test_a_member_has_room_for_so_many_messages_and_bytes() -> None:
    hand = MemberHand(1, BreakerPolicy(1, 30.0))
    assert hand.room == MEMBER_WINDOW
    hand.in_hand[1] = None
    assert hand.room == MEMBER_WINDOW - 1
    hand.bytes = MEMBER_BYTES
    assert hand.room == 0


def test_an_open_breaker_leaves_none_and_a_half_open_one_room_for_one() -> None:
    hand = MemberHand(1, BreakerPolicy(1, 30.0))
    hand.breaker.record(False, 0.0, 0.0)
    assert hand.room == 0
    hand.breaker.probe()
    assert hand.room == 1
    hand.probe = 3
    assert hand.room == 0


def test_what_is_given_back_is_not_counted() -> None:
    hand = MemberHand(1, BreakerPolicy(1, 30.0))
    message = OpenMessage(3, 9, "a")
    assert message.place is Place.QUEUED
    message.size = 10
    hand.in_hand[3], hand.bytes, hand.probe = None, 10, 3
    hand.give_back(message)
    assert (list(hand.in_hand), hand.bytes) == ([], 0) and hand.probe is None
    hand.give_back(message)
    assert hand.bytes == 0
