"""The decisions of the Python client, on values: places, acknowledgements, tokens, what is sent when."""

from typing import Any

import pytest

from headgate_client.acks import RECENT, Acks
from headgate_client.credentials import Credential, credential, expiry
from headgate_client.frames import Message, encode, read
from headgate_client.outbox import MAX_FRAMES, RATE_SHARE, Outbox, OutboxFull
from headgate_client.position import Position, check_from, form_of
from tests.vectors.tokens import sign

EPOCH = 7


def granted(seq: int, epoch: int = EPOCH, **more: Any) -> dict[str, Any]:
    return {"type": "subscribed", "topic_id": "a", "profile": "durable", "epoch": epoch, "seq": seq, **more}


class TestPosition:
    def test_live_goes_on_behind_the_head_that_it_began_at(self) -> None:
        place = Position()
        assert place.wanted() == "live"
        assert not place.subscribed(granted(4))
        assert place.wanted() == {"epoch": EPOCH, "seq": 4}
        assert place.message(5) and place.wanted() == {"epoch": EPOCH, "seq": 5}

    @pytest.mark.parametrize("start", ["earliest", {"ts": 5}, {"last": 3}, {"seq": 2}, "cursor"])
    def test_a_place_that_has_seen_nothing_asks_again_as_it_did(self, start: Any) -> None:
        place = Position(start)
        place.subscribed(granted(4))
        assert place.wanted() == start
        place.passed(4)  # caught_up
        assert place.wanted() == {"epoch": EPOCH, "seq": 4}

    def test_repeats_are_none(self) -> None:
        place = Position("earliest")
        place.subscribed(granted(4))
        assert [place.message(seq) for seq in (1, 2, 2, 1, 3)] == [True, True, False, False, True]

    def test_a_gap_moves_on_and_never_back(self) -> None:
        place = Position("earliest")
        place.subscribed(granted(9))
        place.passed(5)
        place.passed(3)
        assert (place.message(5), place.message(6)) == (False, True)

    def test_a_topic_that_was_created_again_is_new_from_its_first_message(self) -> None:
        place = Position()
        place.subscribed(granted(4))
        assert place.subscribed(granted(2, epoch=9, resumed=False, reason="epoch_changed"))
        assert place.wanted() == "earliest"
        assert place.message(1)

    def test_an_old_position_of_the_application_is_told_too(self) -> None:
        place = Position({"epoch": 3, "seq": 90})
        assert place.subscribed(granted(2, reason="epoch_changed"))
        assert place.wanted() == "earliest"

    def test_a_head_that_went_back_is_where_it_goes_on(self) -> None:
        place = Position()
        place.subscribed(granted(40))
        place.subscribed(granted(10, resumed=False, reason="ahead"))
        assert place.message(11)

    def test_nothing_is_resumed_or_dropped_in_an_ephemeral_topic(self) -> None:
        place = Position({"last": 3})
        place.subscribed({"type": "subscribed", "profile": "ephemeral", "epoch": 1, "seq": 0})
        assert place.message(None) and place.message(None)
        assert place.wanted() == "live"

    def test_the_server_keeps_the_place_of_an_acknowledged_subscription(self) -> None:
        place = Position("earliest", at_cursor=True)
        assert place.wanted() == "earliest"
        place.subscribed(granted(4))
        assert place.wanted() == "cursor"

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            ("live", "live"),
            ("cursor", "cursor"),
            ("7:12", {"epoch": 7, "seq": 12}),
            ("seq:3", {"seq": 3}),
            ("last:0", {"last": 0}),
            ({"ts": 5}, {"ts": 5}),
        ],
    )
    def test_forms_of_from(self, given: Any, sent: Any) -> None:
        assert check_from(given) == sent

    @pytest.mark.parametrize("given", ["now", "", "last:", "x:1", {}, {"seq": -1}, {"last": True}, {"epoch": 1}, 5])
    def test_what_is_no_from(self, given: Any) -> None:
        with pytest.raises(ValueError, match="from_ is"):
            check_from(given)


class TestAcks:
    def test_a_redelivery_of_what_is_in_hand_is_dropped(self) -> None:
        acks = Acks()
        assert acks.arrived(1, None, new=True) == "deliver"
        assert acks.arrived(1, 2, new=False) == "drop"

    def test_a_redelivery_of_what_the_application_took_and_forgot_is_passed_on(self) -> None:
        acks = Acks()
        acks.arrived(1, None, new=True)
        acks.handed_out(1)
        assert acks.arrived(1, None, new=False) == "drop", "after a reconnect: the application still has it"
        assert acks.arrived(1, 2, new=False) == "deliver"

    def test_what_is_settled_is_acknowledged_again(self) -> None:
        acks = Acks()
        for seq in (1, 2, 3):
            acks.arrived(seq, None, new=True)
        assert (acks.acknowledge(2), acks.acknowledge(1)) == (2, None)
        assert acks.arrived(2, 2, new=False) == "settled"
        assert acks.arrived(3, 2, new=False) == "drop"
        assert acks.reconnected() == 2

    def test_no_ack_goes_above_a_refused_message_before_that_is_settled(self) -> None:
        """The server may have sent it again already: then the ack would count for it too."""
        acks = Acks()
        for seq in (1, 2, 3, 4):
            acks.arrived(seq, None, new=True)
        assert acks.acknowledge(1) == 1
        acks.refuse(2)
        assert (acks.acknowledge(3), acks.repeated()) == (None, 1)
        assert acks.arrived(2, 2, new=False) == "deliver"
        assert acks.arrived(2, 3, new=False) == "drop"
        assert acks.arrived(3, 2, new=False) == "settled", "sent again behind it"
        assert acks.acknowledge(2) == 3
        assert acks.acknowledge(4) == 4

    def test_a_refused_message_that_fails_again_is_refused_again(self) -> None:
        acks = Acks()
        acks.arrived(1, None, new=True)
        for attempt in (2, 3):
            acks.refuse(1)
            acks.heard(1)
            assert acks.arrived(1, attempt, new=False) == "deliver"
        assert acks.acknowledge(1) == 1

    def test_a_message_that_was_given_up_holds_nothing_back(self) -> None:
        acks = Acks()
        for seq in (1, 2, 3):
            acks.arrived(seq, None, new=True)
        acks.refuse(1)
        assert acks.acknowledge(3) is None
        assert acks.arrived(2, 2, new=False) == "settled"
        assert acks.repeated() is None, "that was sent before the server had the nack"
        acks.heard(1)
        assert acks.arrived(2, 3, new=False) == "settled"
        assert acks.repeated() == 3

    def test_a_refused_message_comes_again_after_a_reconnect_without_an_attempt(self) -> None:
        acks = Acks()
        acks.arrived(1, None, new=True)
        acks.refuse(1)
        assert acks.reconnected() is None
        assert acks.arrived(1, None, new=False) == "deliver"

    def test_a_replayed_dead_letter_is_settled_by_its_own_seq(self) -> None:
        acks = Acks()
        for seq in (1, 2):
            acks.arrived(seq, None, new=True)
        acks.acknowledge(2)
        assert acks.arrived(1, 1, new=False) == "deliver"
        assert acks.is_replay(1) and acks.is_apart(1)
        assert acks.acknowledge(1) == 1
        assert not acks.is_apart(1)

    def test_a_member_of_a_group_gets_messages_in_any_order(self) -> None:
        acks = Acks(shared=True)
        assert acks.arrived(9, None, new=True) == "deliver"
        assert acks.arrived(4, 2, new=False) == "deliver", "another member had it"
        assert acks.acknowledge(9) == 9
        assert acks.arrived(4, 3, new=False) == "settled"
        for seq in range(100, 101 + RECENT):
            acks.acknowledge(seq)
        assert acks.arrived(9, 2, new=False) == "deliver", "what is remembered is bounded"

    def test_a_topic_that_was_created_again_begins_anew(self) -> None:
        acks = Acks()
        acks.arrived(5, None, new=True)
        acks.acknowledge(5)
        acks.forget()
        assert acks.arrived(1, None, new=True) == "deliver"
        assert acks.acknowledge(1) == 1


class TestOutbox:
    def test_the_newest_ack_of_a_topic_takes_the_place_of_the_one_that_waits(self) -> None:
        box = Outbox()
        for seq in (1, 3, 2):
            box.put({"type": "ack", "topic_id": "a", "seq": seq})
        box.put({"type": "ack", "topic_id": "b", "seq": 9})
        box.put({"type": "nack", "topic_id": "a", "seq": 4})
        box.put({"type": "ack", "topic_id": "a", "seq": 6})
        sent = [box.take(0.0) for _ in range(5)]
        assert [(f["type"], f["topic_id"], f["seq"]) for f in sent if f] == [
            ("ack", "a", 3),
            ("ack", "b", 9),
            ("nack", "a", 4),
            ("ack", "a", 6),
        ]

    def test_an_exact_ack_is_never_part_of_another(self) -> None:
        box = Outbox()
        box.put({"type": "ack", "topic_id": "a", "seq": 1, "exact": True})
        box.put({"type": "ack", "topic_id": "a", "seq": 5, "exact": False})
        assert [box.take(0.0), box.take(0.0)] == [
            {"type": "ack", "topic_id": "a", "seq": 1},
            {"type": "ack", "topic_id": "a", "seq": 5},
        ]

    def test_what_is_sent_stays_below_the_servers_rate(self) -> None:
        box = Outbox()
        box.opened(0.0)
        box.limits(10.0, 20)
        for number in range(100):
            box.put({"type": "typing", "topic_id": str(number)})
        sent = sum(box.take(0.0) is not None for _ in range(100))
        assert sent == 20 * RATE_SHARE
        assert box.wait_s() == pytest.approx(1 / (10 * RATE_SHARE))
        assert box.take(0.1) is None
        assert box.take(0.2) is not None

    def test_its_bound_is_said(self) -> None:
        box = Outbox()
        for _ in range(MAX_FRAMES):
            box.put({"type": "typing", "topic_id": "a"})
        with pytest.raises(OutboxFull):
            box.put({"type": "typing", "topic_id": "a"})
        box.opened(0.0)
        assert len(box) == 0


@pytest.mark.parametrize(
    ("start", "form"), [("live", "live"), ({"epoch": 7, "seq": 3}, "7:3"), ({"ts": 5}, "ts:5"), ({"last": 0}, "last:0")]
)
def test_the_form_of_a_from_in_a_query_is_read_back(start: Any, form: str) -> None:
    assert form_of(start) == form
    assert check_from(form) == start


class TestCredential:
    def test_a_token_is_due_before_it_expires(self) -> None:
        token = sign({"claims": {"exp": 1_000}, "exp_in": None}, "a")
        assert credential(token, 0.0).renew_at == 940.0
        assert credential(token, 990.0).renew_at == 998.0
        assert credential(token, 2_000.0).renew_at == 1_000.0

    @pytest.mark.parametrize("text", ["opaque", "a.b.c", "a.e30.c", "....", "a.W10.c"])
    def test_what_does_not_say_when_is_never_due(self, text: str) -> None:
        assert expiry(text) is None
        assert credential(text, 0.0).renew_at is None

    def test_it_is_not_shown(self) -> None:
        assert "secret" not in repr(Credential("secret"))


class TestFrames:
    def test_a_message_has_its_position_and_its_text(self) -> None:
        text = b'{"type":"message","topic_id":"a","seq":3,"payload":1.10,"attempt":2,"new_member":1}'
        message = Message.of(read(text), EPOCH, text)
        assert (message.position, message.attempt, message.text) == ({"epoch": EPOCH, "seq": 3}, 2, text)

    @pytest.mark.parametrize("text", [b"[]", b"1", b"{", b'{"type":1}', b"\xff"])
    def test_what_is_no_frame(self, text: bytes) -> None:
        with pytest.raises(ValueError):
            read(text)

    def test_what_is_no_json_is_refused_before_it_is_sent(self) -> None:
        with pytest.raises(ValueError):
            encode(float("nan"))
        assert encode({"a": "ä"}) == '{"a":"ä"}'
