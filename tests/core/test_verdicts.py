"""Kept verdicts and who waits for them."""

from headgate.core.apply import Code, Verdict
from headgate.core.verdicts import Verdicts

ONE = [Verdict(Code.ACCEPTED, 1, 9)]


def test_a_waiter_is_called_once_and_only_at_release() -> None:
    verdicts, called = Verdicts(), []
    verdicts.wait(5, called.append)
    verdicts.put(4, ONE)
    verdicts.put(5, ONE)
    assert called == []
    verdicts.release()
    verdicts.release()
    assert called == [ONE]


def test_only_the_newest_are_kept() -> None:
    verdicts = Verdicts(kept=2)
    for offset in range(3):
        verdicts.put(offset, ONE)
    assert [verdicts.get(n) for n in range(4)] == [None, ONE, ONE, None]
