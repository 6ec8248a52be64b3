"""A topic of a client: where the client stands in it, and what it was told."""

from typing import Any, NamedTuple


class Seen(NamedTuple):
    """A message as a client got it; `head` is the head that it was told when it subscribed."""

    epoch: int
    seq: int
    frame: dict[str, Any]
    head: int


class Gap(NamedTuple):
    """A gap as a client was told it, both ends included."""

    epoch: int
    first: int
    last: int
    reason: str


class Follow:
    """One topic of a client: where it stands and what it saw."""

    def __init__(self, topic_id: str, first: Any) -> None:
        self.topic_id = topic_id
        self.first = first
        self.position: tuple[int, int] | None = None  # epoch, seq
        self.asked: Any = None
        self.asking = False
        self.active = False
        self.expected = 0
        self.head = 0
        self.seen: list[Seen] = []
        self.gaps: list[Gap] = []
        self.begins: dict[int, int] = {}  # epoch -> the first seq it was promised
        self.ends: list[int] = []  # epochs it was told are deleted
        self.put_out: list[int] = []  # epochs in which it was told that it may read no longer
