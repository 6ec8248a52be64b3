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
