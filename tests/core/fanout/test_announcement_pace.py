"""The first change is told at once, those of the next 2 ms together, and none is forgotten."""

from collections.abc import Callable

from headgate.core.fanout.announcement_pace import PAUSE_S, AnnouncementPace


class Shell:
    def __init__(self) -> None:
        self.flushes = 0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.pace = AnnouncementPace(self._schedule, lambda seconds, then: self.timers.append((seconds, then)))

    def _schedule(self) -> None:
        self.flushes += 1

    def fire(self) -> None:
        (_, then), *self.timers = self.timers
        then()


def test_the_first_change_is_told_at_the_end_of_its_turn() -> None:
    shell = Shell()
    assert not shell.pace.take()
    shell.pace.want()
    shell.pace.want()
    assert shell.flushes == 1 and shell.timers == []
    assert shell.pace.take() and not shell.pace.take()
    assert [seconds for seconds, _ in shell.timers] == [PAUSE_S]


def test_what_changes_in_the_pause_is_told_together_when_it_is_over() -> None:
    shell = Shell()
    shell.pace.want()
    assert shell.pace.take()
    for _ in range(3):
        shell.pace.want()
        assert not shell.pace.take(), "a flush for messages tells nothing"
    assert shell.flushes == 1
    shell.fire()
    assert shell.flushes == 2 and shell.pace.take()
    assert len(shell.timers) == 1, "and the next pause begins"


def test_after_a_pause_without_a_change_the_next_one_is_told_at_once() -> None:
    shell = Shell()
    shell.pace.want()
    assert shell.pace.take()
    shell.fire()
    assert shell.flushes == 1 and not shell.pace.take()
    shell.pace.want()
    assert shell.flushes == 2 and shell.pace.take()
