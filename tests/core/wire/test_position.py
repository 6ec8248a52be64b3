"""The forms of `from`, and where they begin (docs/protocol.md, sections 3 and 4)."""

import msgspec
import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.position import NO_EPOCH, Placed, Position, from_json, from_query, place

EPOCH = 1000


@pytest.mark.parametrize(
    ("form", "query"),
    [
        ("live", "live"),
        ("earliest", "earliest"),
        ({"epoch": 5, "seq": 7}, "5:7"),
        ({"seq": 7}, "seq:7"),
        ({"ts": 7}, "ts:7"),
        ({"last": 0}, "last:0"),
    ],
)
def test_both_spellings_mean_the_same(form: object, query: str) -> None:
    assert from_json(form) == from_query(query)


@pytest.mark.parametrize(
    "bad",
    [
        "LIVE",
        "cursors",
        5,
        [],
        {},
        {"seq": -1},
        {"seq": 1.0},
        {"seq": True},
        {"seq": "1"},
        {"epoch": 1},
        {"seq": 1, "ts": 2},
        {"seq": 1 << 53},
    ],
)
def test_anything_else_is_bad_request(bad: object) -> None:
    with pytest.raises(Refusal, match="bad_request"):
        from_json(bad)


@pytest.mark.parametrize("bad", ["", "cursors", "5", "5:", ":7", "a:1", "last:-1", "ts:1.5", "5:7:9", "٣:٤"])
def test_anything_else_is_bad_request_in_a_query(bad: str) -> None:
    with pytest.raises(Refusal, match="bad_request"):
        from_query(bad)


def at(position: Position | None, *, first: int = 4, head: int = 10) -> Placed:
    stamps = {seq: seq * 100 for seq in range(first, head + 1)}
    return place(position, EPOCH, first, head, lambda ms: next((s for s, t in stamps.items() if t >= ms), None))


def test_live_begins_at_the_head() -> None:
    assert at(None) == Placed(10, None, None)


def test_earliest_begins_below_the_first_kept() -> None:
    assert at(from_json("earliest")) == Placed(3, None, None)


@pytest.mark.parametrize("form", [{"seq": 0}, {"epoch": EPOCH, "seq": 0}])
def test_seq_zero_is_earliest_resumed_and_never_expired(form: object) -> None:
    assert at(from_json(form)) == Placed(3, True, None)


def test_a_position_that_is_kept_resumes_above_it() -> None:
    assert at(from_json({"epoch": EPOCH, "seq": 7})) == Placed(7, True, None)
    assert at(from_json({"seq": 3})) == Placed(3, True, None)
    assert at(from_json({"seq": 10})) == Placed(10, True, None)


def test_expired_ahead_and_epoch_changed() -> None:
    assert at(from_json({"seq": 2})) == Placed(3, False, "expired")
    assert at(from_json({"seq": 11})) == Placed(10, False, "ahead")
    assert at(from_json({"epoch": EPOCH + 1, "seq": 7})) == Placed(3, False, "epoch_changed")
    assert at(from_json({"epoch": 0, "seq": 7})) == Placed(3, False, "epoch_changed")


def test_ts_begins_at_the_first_message_not_older() -> None:
    assert at(from_json({"ts": 650})).cursor == 6
    assert at(from_json({"ts": 0})).cursor == 3
    assert at(from_json({"ts": 1001})) == Placed(10, None, None)


def test_last_is_cut_at_the_first_kept() -> None:
    assert at(from_json({"last": 2})).cursor == 8
    assert at(from_json({"last": 0})).cursor == 10
    assert at(from_json({"last": 999})).cursor == 3


def test_an_empty_topic() -> None:
    for form in ("earliest", {"seq": 0}, {"last": 5}, {"ts": 5}):
        assert at(from_json(form), first=1, head=0).cursor == 0


def test_only_a_place_that_was_named_is_resumed() -> None:
    for form in (None, "earliest", {"last": 0}, {"last": 2}, {"ts": 0}, {"ts": 650}, {"ts": 1001}):
        assert at(from_json(form)).resumed is None
    for form in ({"seq": 0}, {"seq": 7}, {"epoch": EPOCH, "seq": 7}, {"seq": 2}, {"epoch": 0, "seq": 7}):
        assert at(from_json(form)).resumed is not None


def test_a_position_is_an_array_on_the_link() -> None:
    position = Position("seq", NO_EPOCH, 7)
    for codec in (msgspec.msgpack, msgspec.json):
        assert codec.encode(position) == codec.encode(("seq", -1, 7))
        assert codec.decode(codec.encode(position), type=Position) == position


def test_a_cursor_is_a_form_of_its_own() -> None:
    assert from_json("cursor") == from_query("cursor") == Position("cursor", 0, 0)
