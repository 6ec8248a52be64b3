"""The place of a subscription of the Python client: no message is lost silently, whatever happens to connections."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headgate_client.feed import AckMode, Wish
from headgate_client.position import From
from tests.clients.place_model import Application, Server

STARTS: list[From] = [
    "live", "earliest", "cursor", {"epoch": 7, "seq": 2}, {"epoch": 3, "seq": 2}, {"seq": 3}, {"seq": 0}, {"seq": 99},
    {"ts": 5}, {"last": 3}, {"last": 0},
]  # fmt: skip
MODES: list[tuple[AckMode, bool]] = [("none", False), ("auto", False), ("manual", False), ("manual", True)]
OFTEN = ["publish", "deliver", "deliver", "read", "read", "settle", "settle", "connect", "cut"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from([*OFTEN, *OFTEN, "refuse", "wait", "store", "expire", "recreate", "other"]), st.integers(1, 5)
    ),
    max_size=60,
)
OPENED = [("connect", 1), ("deliver", 5)]


class Play:
    """One server and one application."""

    def __init__(self, wish: Wish) -> None:
        self.server = Server()
        self.application = Application(wish, self.server.take)
        self.others: set[tuple[int, int]] = set()  # what another session of the device has done
        self.began: dict[int, int] = {}  # by epoch: where it begins for the application, from the first grant on
        self.gone: set[tuple[int, int]] = set()  # what the topic lost before a subscription could be told

    def step(self, kind: str, count: int) -> None:
        """Does what a name says."""
        if kind == "publish":
            self.server.topic.head += count
            self.server.send()
        elif kind == "deliver":
            self._deliver(min(count, len(self.server.sending)))
        elif kind in ("settle", "refuse"):
            self._answer(kind, count)
        elif kind == "read":
            self._read(count)
        elif kind == "wait":
            self.server.wait()
        else:
            self._break(kind, count)
        self._acknowledged_nothing_that_is_not_done()

    def _deliver(self, count: int) -> None:
        for _ in range(count):
            frame = self.server.sending.popleft()
            if frame["type"] == "subscribed":
                first = self.server.begin if not self.began else frame["first_seq"] - 1
                self.began.setdefault(frame["epoch"], first)
            self.application.receive(frame)

    def _answer(self, kind: str, count: int) -> None:
        """A worker settles in any order; a loop its message, which is the last one before it reads on."""
        application = self.application
        if kind == "refuse" and application.wish.ack != "manual":
            return
        at = count if application.wish.each else 0
        (application.settle if kind == "settle" else application.refuse)(at)
        self.server.send()

    def _read(self, count: int = 1) -> None:
        for _ in range(count):
            if self.application.wish.each or not self.application.hand:
                self.application.read()

    def _break(self, kind: str, count: int) -> None:
        server = self.server
        if kind == "store":
            server.store()
        elif kind == "connect" and not server.is_on:
            self.application.connect()
        elif kind == "cut" and server.is_on:
            server.cut()
            self.application.cut()
        elif kind == "expire" and not server.is_on:
            before = server.topic.first
            server.expire(count)
            self.gone |= {(server.topic.epoch, seq) for seq in range(before, server.topic.first)}
        elif kind == "recreate" and not server.is_on and server.topic.head:
            server.topic.recreate()
        elif kind == "other" and not server.is_on and self.application.wish.ack != "none":
            self._other(count)

    def _other(self, count: int) -> None:
        """Another session of the device goes on at the stored cursor, and does a few messages."""
        topic, stored = self.server.topic, self.server.stored
        if stored is None or stored[0] != topic.epoch:
            return
        last = min(max(stored[1], topic.first - 1) + count, topic.head)
        self.others |= {(topic.epoch, seq) for seq in range(stored[1] + 1, last + 1)}
        self.server.move(last)

    def end(self) -> None:
        """Everything comes to its end on a last connection."""
        self._break("connect", 0)
        for _ in range(400):
            self.step("deliver", 100)
            self._read()
            self.step("settle", 0)
            self.step("wait", 0)
            if not (self.server.sending or self.application.hand or self._waits()):
                break
        else:
            raise AssertionError("it does not come to an end")

    def _waits(self) -> bool:
        window = self.server.window
        behind = window is not None and window.acked < self.server.topic.head
        return bool(len(self.application.queue)) or behind

    def lost(self) -> list[tuple[int, int]]:
        """The messages of the present epoch behind the first grant of which the application knows nothing."""
        epoch, head = self.server.topic.epoch, self.server.topic.head
        return [(epoch, seq) for seq in range(self.began[epoch] + 1, head + 1) if not self._is_known(epoch, seq)]

    def _is_known(self, epoch: int, seq: int) -> bool:
        """Of a refused message that expires above a place at 0, or above a cursor there, the server tells nothing."""
        one, application = (epoch, seq), self.application
        if one in self.server.untold and (one in application.refused or application.wish.start == "cursor"):
            return True
        return one in application.done | self.others or application.is_told(epoch, seq)

    def _acknowledged_nothing_that_is_not_done(self) -> None:
        """The server's window passes no message that is neither done nor told: it would never come again."""
        window, epoch = self.server.window, self.server.topic.epoch
        if window is None:
            return
        passed = range(self.server.begin + 1, window.acked + 1)
        kept = [seq for seq in passed if (epoch, seq) not in self.gone and not self._is_known(epoch, seq)]
        assert kept == [], f"acknowledged and not done: {kept}"


@pytest.mark.parametrize("start", STARTS, ids=str)
@pytest.mark.parametrize(("ack", "each"), MODES)
@example(before=8, stored=8, steps=[*OPENED, ("read", 1), ("settle", 1), ("cut", 1)])
@example(before=3, stored=None, steps=[*OPENED, ("read", 2), ("settle", 1)])
@example(before=3, stored=None, steps=[*OPENED, ("read", 1), ("refuse", 1)])
@example(before=3, stored=None, steps=[("connect", 1), ("deliver", 1), ("cut", 1), ("publish", 3)])
@given(before=st.integers(0, 8), stored=st.none() | st.integers(0, 8), steps=STEPS)
@settings(max_examples=80, deadline=None)
def test_no_message_is_lost_silently_whatever_becomes_of_the_connections(
    start: From, ack: AckMode, each: bool, before: int, stored: int | None, steps: list[Any]
) -> None:
    play = Play(Wish(start=start, ack=ack, each=each))
    play.server.topic.head = before
    if stored is not None:
        play.server.move(min(stored, before))
    for step in steps:
        play.step(*step)
    play.end()
    assert play.lost() == [], f"{before=} {stored=} {steps}"
