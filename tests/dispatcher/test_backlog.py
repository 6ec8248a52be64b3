"""What waits on a link, by topic: marks are passed as the link's bytes go."""

from dispatcher.backlog import Backlog


class Pipe:
    """A link's queue, in bytes, and its backlog."""

    def __init__(self) -> None:
        self.queued = 0
        self.backlog = Backlog()

    def send(self, size: int, topic_id: str = "", count: int = 0) -> None:
        before = self.queued
        self.queued += size
        self.backlog.sent(before, self.queued)
        if topic_id:
            self.backlog.mark(topic_id, count)

    def counts(self) -> dict[str, int]:
        return dict(self.backlog.counts(self.queued))


def test_a_message_waits_until_its_last_byte_has_gone() -> None:
    pipe = Pipe()
    pipe.queued = 1_000
    pipe.send(100, "a", 2)
    pipe.send(50)
    pipe.send(200, "b", 1)
    pipe.send(100, "a", 3)
    assert pipe.counts() == {"a": 5, "b": 1}
    pipe.queued -= 1_099
    assert pipe.counts() == {"a": 5, "b": 1}
    pipe.queued -= 1
    assert pipe.counts() == {"a": 3, "b": 1}
    pipe.queued -= 250
    assert pipe.counts() == {"a": 3} and pipe.backlog
    pipe.queued -= 100
    assert pipe.counts() == {} and not pipe.backlog and pipe.queued == 0


def test_it_begins_anew_after_a_time_without_marks() -> None:
    pipe = Pipe()
    pipe.send(100, "a", 1)
    pipe.queued = 0
    assert pipe.counts() == {}
    pipe.send(10_000)
    pipe.send(100, "a", 1)
    assert pipe.counts() == {"a": 1}
    pipe.queued = 50
    assert pipe.counts() == {"a": 1}
    pipe.queued = 0
    assert pipe.counts() == {}


def test_marks_are_passed_while_others_are_made() -> None:
    pipe = Pipe()
    for _ in range(1_000):
        pipe.send(100, "a", 1)
        pipe.queued = max(pipe.queued - 100, 0)
    assert len(pipe.backlog._marks) <= 1
