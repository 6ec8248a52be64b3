"""Lifecycle events in the log: sampled, bounded a second, and the number of those left out is said."""

from typing import Any

from structlog.testing import capture_logs

from headgate.core.delivery.delivery import Status
from headgate.core.delivery.lifecycle_events import Event
from headgate.core.wire.event_names import EventName
from headgate.runtime.event_log import LINES_PER_S, EventLog, event_log

FAILED = Event(EventName.FAILED, 1.5, "t", "m", "ann", 2, Status.FAILED, error="no", seq=4)


def test_one_in_so_many_is_a_line_with_all_members_and_the_number_of_the_others() -> None:
    log = event_log(3, lambda: 0.0)
    assert log is not None
    with capture_logs() as lines:
        for _ in range(7):
            log(FAILED)
    left_out: list[Any] = [line["left_out"] for line in lines]
    assert left_out == [0, 2, 2]
    assert lines[0] == {
        "event": "lifecycle event",
        "log_level": "info",
        "name": "failed",
        "left_out": 0,
        "at": 1.5,
        "topic": "t",
        "id": "m",
        "subscriber": "ann",
        "attempts": 2,
        "status": "FAILED",
        "error": "no",
        "seq": 4,
    }


def test_without_the_setting_nobody_listens() -> None:
    assert event_log(None, lambda: 0.0) is None


def test_no_second_has_more_lines_than_its_bound() -> None:
    now = [0.0]
    log = EventLog(1, lambda: now[0])
    with capture_logs() as lines:
        for _ in range(LINES_PER_S + 5):
            log(FAILED)
        now[0] = 0.9
        log(FAILED)
        now[0] = 1.0
        log(FAILED)
    assert len(lines) == LINES_PER_S + 1
    assert lines[-1]["left_out"] == 6
