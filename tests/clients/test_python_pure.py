"""The decisions of the Python client, on values: places, tokens, what is sent when."""

from typing import Any

import pytest

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
        assert place.ask() == "live"
        assert place.subscribed(granted(4)) is None
        assert place.ask() == {"epoch": EPOCH, "seq": 4}
        assert place.message(5) and place.ask() == {"epoch": EPOCH, "seq": 5}

    @pytest.mark.parametrize(
        ("start", "more", "place"),
        [
            ("live", {}, 9),
            ("earliest", {"first_seq": 4}, 3),
            ({"last": 3}, {"first_seq": 1}, 6),
            ({"last": 30}, {"first_seq": 4}, 3),
            ({"last": 0}, {"first_seq": 4}, 9),
            ({"seq": 2}, {"resumed": True}, 2),
            ({"seq": 0}, {"resumed": True, "first_seq": 4}, 3),
            ({"epoch": EPOCH, "seq": 2}, {"resumed": False, "reason": "expired", "first_seq": 4}, 2),
        ],
    )
    @pytest.mark.parametrize("acked", [False, True])
    def test_a_place_that_has_seen_nothing_asks_for_what_followed_the_first_grant(
        self, start: Any, more: dict[str, Any], place: int, acked: bool
    ) -> None:
        position = Position(start, acked=acked)
        assert position.ask() == start
        position.subscribed(granted(9, **more))
        assert position.ask() == {"epoch": EPOCH, "seq": place}
        position.subscribed(granted(20))
        assert position.ask() == {"epoch": EPOCH, "seq": place}, "not where it would begin now"

    @pytest.mark.parametrize("start", [{"ts": 5}, "earliest", "cursor"])
    def test_a_place_that_only_the_first_message_tells_is_asked_for_again_as_it_was(self, start: Any) -> None:
        for first in ("message", "caught_up"):
            place = Position(start)
            place.ask()
            place.subscribed(granted(4))
            assert place.ask() == start
            if first == "message":
                place.message(3)
                assert place.ask() == {"epoch": EPOCH, "seq": 3}
            else:
                place.passed(4)
                assert place.ask() == {"epoch": EPOCH, "seq": 4}

    def test_a_number_that_is_left_out_is_missing(self) -> None:
        place = Position("earliest")
        place.ask()
        place.subscribed(granted(9, first_seq=3))
        assert (place.missing(3), place.missing(6)) == (None, (3, 5))
        place.message(6)
        assert (place.missing(7), place.missing(9)) == (None, (7, 8))
        place.passed(8)
        assert place.missing(9) is None

    def test_what_came_after_a_first_grant_without_a_place_is_missing_too(self) -> None:
        place = Position({"ts": 5_000})
        place.ask()
        place.subscribed(granted(9))
        place.ask()
        place.subscribed(granted(12))
        assert place.missing(13) == (10, 12)

    def test_a_cursor_may_have_been_moved_by_another_session(self) -> None:
        place = Position("cursor", acked=True)
        for head in (9, 20):
            assert place.ask(5) == "cursor"
            place.subscribed(granted(head, resumed=True))
            assert place.missing(head - 3) is None
            place.message(head - 3)
            assert place.missing(head - 1) == (head - 2, head - 2)

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
        assert place.subscribed(granted(2, epoch=9, resumed=False, reason="epoch_changed")) == "recreated"
        assert place.ask() == "earliest"
        assert place.missing(3) == (1, 2)
        assert place.message(1)

    def test_an_old_position_of_the_application_is_told_too(self) -> None:
        place = Position({"epoch": 3, "seq": 90})
        assert place.subscribed(granted(2, reason="epoch_changed", first_seq=2)) == "recreated"
        assert place.ask() == {"epoch": EPOCH, "seq": 1}

    def test_a_head_that_went_back_is_where_it_goes_on(self) -> None:
        place = Position()
        place.subscribed(granted(40))
        assert place.subscribed(granted(10, resumed=False, reason="ahead")) == "ahead"
        assert place.missing(11) is None and place.message(11)

    def test_nothing_is_resumed_or_dropped_in_an_ephemeral_topic(self) -> None:
        place = Position({"last": 3})
        place.subscribed({"type": "subscribed", "profile": "ephemeral", "epoch": 1, "seq": 0})
        assert place.message(None) and place.message(None)
        assert place.ask() == "live"

    @pytest.mark.parametrize("start", ["earliest", "live", {"seq": 3}])
    def test_an_acknowledged_subscription_asks_for_the_cursor_only_where_it_began_there(self, start: Any) -> None:
        place = Position(start, acked=True)
        place.ask()
        place.subscribed(granted(9, first_seq=4))
        for seq in (4, 5, 6):
            place.message(seq)
        assert place.ask(5) == {"epoch": EPOCH, "seq": 5}, "a cursor may be far ahead of it"
        place = Position("cursor", acked=True)
        place.ask()
        place.subscribed(granted(9, resumed=True))
        assert place.ask(5) == "cursor"

    def test_a_cursor_that_was_not_there_may_not_be_stored_yet(self) -> None:
        place = Position("cursor", acked=True)
        place.ask()
        place.subscribed(granted(9, resumed=False, reason="no_cursor"))
        assert place.ask() == "cursor", "a member begins where he joined"
        place.passed(9)
        assert place.ask() == {"epoch": EPOCH, "seq": 9}

    def test_a_group_is_asked_for_from_where_this_member_joined(self) -> None:
        place = Position("live", acked=True, shared=True)
        place.ask()
        place.subscribed(granted(9))
        assert place.message(5) is False, "of a group that was there"
        assert place.missing(20) is None
        place.message(20)
        assert place.ask() == {"epoch": EPOCH, "seq": 9}

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


class TestOutbox:
    def test_the_newest_ack_of_a_topic_takes_the_place_of_the_one_that_waits(self) -> None:
        box = Outbox()
        for seq in (1, 3, 2):
            box.put({"type": "ack", "topic_id": "a", "seq": seq, "order": seq})
        box.put({"type": "ack", "topic_id": "b", "seq": 9, "order": 9})
        box.put({"type": "nack", "topic_id": "a", "seq": 4})
        box.put({"type": "ack", "topic_id": "a", "seq": 6, "order": 6})
        sent = [box.take(0.0) for _ in range(5)]
        assert [(f["type"], f["topic_id"], f["seq"]) for f in sent if f] == [
            ("ack", "a", 3),
            ("ack", "b", 9),
            ("nack", "a", 4),
            ("ack", "a", 6),
        ]

    def test_an_ack_takes_the_place_only_of_one_that_it_stands_for(self) -> None:
        box = Outbox()
        for seq, order in ((1, None), (9, 1), (4, 2), (10, 3), (2, 4), (1, 3)):
            box.put({"type": "ack", "topic_id": "a", "seq": seq, "order": order})
        sent = [box.take(0.0) for _ in range(5)]
        assert sent == [{"type": "ack", "topic_id": "a", "seq": seq} for seq in (1, 9, 10, 2)] + [None]

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
        text = b'{"type":"message","topic_id":"a","seq":3,"key":"k","payload":1.10,"attempt":2,"new_member":1}'
        message = Message.of(read(text), EPOCH, text)
        assert (message.position, message.attempt, message.text) == ({"epoch": EPOCH, "seq": 3}, 2, text)
        assert message.key == "k"

    @pytest.mark.parametrize("text", [b"[]", b"1", b"{", b'{"type":1}', b"\xff"])
    def test_what_is_no_frame(self, text: bytes) -> None:
        with pytest.raises(ValueError):
            read(text)

    def test_what_is_no_json_is_refused_before_it_is_sent(self) -> None:
        with pytest.raises(ValueError):
            encode(float("nan"))
        assert encode({"a": "ä"}) == '{"a":"ä"}'
