"""Each check of the ledger fails on a planted fault: a checker that never failed proves nothing."""

import pytest

from tests.e2e import ledger
from tests.e2e.clients import Seen


def seen(*seqs: int) -> list[Seen]:
    return [Seen(1, seq, b"%d" % seq, f"id-{seq}", "p", 0.0) for seq in seqs]


SENT = [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    ("name", "seqs"),
    [("S1", (1, 3)), ("S1", (1, 2, 2, 3)), ("S1", (2, 1, 3)), ("S1", (2, 3)), ("D1", (1, 2)), ("D1", (1, 2, 3, 4))],
)
def test_lost_repeated_swapped_and_invented_messages_are_caught(name: str, seqs: tuple[int, ...]) -> None:
    ledger.complete("t", "s", seen(1, 2, 3), SENT)
    with pytest.raises(AssertionError, match=rf"^{name} "):
        ledger.complete("t", "s", seen(*seqs), SENT)


def test_another_content_is_caught() -> None:
    with pytest.raises(AssertionError, match="D1 in order and equal"):
        ledger.complete("t", "s", seen(1, 2, 3), [b"1", b"x", b"3"])


def test_two_messages_of_one_seq_are_caught() -> None:
    ledger.same_everywhere("t", {"a": seen(1), "b": seen(1)})
    with pytest.raises(AssertionError, match="S1 one seq, one message"):
        ledger.same_everywhere("t", {"a": seen(1), "b": [Seen(1, 1, b"1", "id-other", "p", 0.0)]})


ORDER = ["id-1", "id-2", "id-3", "id-4"]


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("Z1", [(1, "id-1"), (2, "id-2"), (3, "id-3")]),  # one message above the fence
        ("Z1", [(1, "id-1"), (3, "id-3")]),  # the same, and the one at the fence is away
        ("S1", [(2, "id-2")]),
        ("S1", [(1, "id-1"), (2, "id-3")]),  # the message above the fence under the seq of another
        ("D1", [(1, "id-1")]),
    ],
)
def test_a_message_above_a_members_fence_is_caught(name: str, frames: list[tuple[int, str]]) -> None:
    ledger.fenced("t", "s", [(1, "id-1"), (2, "id-2")], ORDER, 2, short=False)
    with pytest.raises(AssertionError, match=rf"^{name} "):
        ledger.fenced("t", "s", frames, ORDER, 2, short=False)


def test_who_was_put_out_while_his_owner_was_dead_may_end_below_his_fence_but_never_above() -> None:
    ledger.fenced("t", "s", [(1, "id-1")], ORDER, 2, short=True)
    with pytest.raises(AssertionError, match=r"^Z1 nothing above the fence: t at s: seq 3, the fence is at 2"):
        ledger.fenced("t", "s", [(1, "id-1"), (2, "id-2"), (3, "id-3")], ORDER, 2, short=True)


def test_who_has_no_fence_needs_every_message() -> None:
    all_of_them = list(enumerate(ORDER, 1))
    ledger.fenced("t", "s", all_of_them, ORDER, None, short=False)
    with pytest.raises(AssertionError, match=r"^D1 "):
        ledger.fenced("t", "s", all_of_them[:-1], ORDER, None, short=False)


@pytest.mark.parametrize("ids", [[], ["a", "a"]])
def test_an_acknowledged_message_that_is_away_or_there_twice_is_caught(ids: list[str]) -> None:
    ledger.acknowledged_once("t", {"m": "a"}, [{"message_id": "a"}, {"message_id": "b"}])
    with pytest.raises(AssertionError, match="P1 answered 200"):
        ledger.acknowledged_once("t", {"m": "a"}, [{"message_id": i} for i in ids])


def test_invention_repetition_refused_and_disorder_are_caught() -> None:
    ledger.nothing_invented("t", {"a", "b"}, ["a"])
    with pytest.raises(AssertionError, match="P5"):
        ledger.nothing_invented("t", {"a"}, ["b"])
    with pytest.raises(AssertionError, match="P2"):
        ledger.nothing_invented("t", {"a"}, ["a", "a"])
    ledger.none_of({"a"}, ["b"])
    with pytest.raises(AssertionError, match="P3"):
        ledger.none_of({"a"}, ["a"])
    ledger.rising("t", [1, 2])
    with pytest.raises(AssertionError, match="P4"):
        ledger.rising("t", [2, 1])
