"""A member of a group on the Python client: no message is acknowledged that was not done, and none stays open."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.delivery.group_window import GroupWindow
from headgate_client.feed import AckMode, Wish
from headgate_client.frames import Frame
from tests.clients.place_model import BREAKER, POLICY, RETRY_S, Application

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["publish", "deliver", "read", "read", "settle", "settle", "refuse", "wait", "leave", "join", "cut"]
        ),
        st.integers(1, 4),
    ),
    max_size=60,
)  # fmt: skip


class Group:
    """A group's window at the owner, and the gateway of the member `mine`. `other` is a member that does nothing."""

    def __init__(self, wish: Wish) -> None:
        self.window = GroupWindow(0, POLICY, BREAKER)
        self.application = Application(wish, self.take)
        self.head = 0
        self.now = 0.0
        self.sending: list[Frame] = []
        self._name = 0
        self._in_hand: dict[int, None] = {}  # of the gateway, in the order of writing

    @property
    def member(self) -> str:
        """The name of the present connection."""
        return f"mine-{self._name}"

    def take(self, frame: Frame) -> None:
        """Takes a frame as a gateway does."""
        if frame["type"] == "subscribe":
            self._name += 1
            self.window.join(self.member)
            self.sending.append(self._frame("subscribed", profile="durable", epoch=7, seq=self.head, group="g"))
        elif frame["type"] == "ack" and frame["seq"] in self._in_hand:
            before = list(self._in_hand)
            before = before[: before.index(frame["seq"]) + 1]
            self._count([seq for seq in before if seq <= frame["seq"]])
        elif frame["type"] == "nack":
            if self._in_hand.pop(frame["seq"], 0) is None:
                self.window.nack(self.member, frame["seq"], "", self.now)
            self.sending.append({"type": "ok", "id": frame["id"]})
        self.send()

    def send(self) -> None:
        """Hands out what may be sent."""
        while self.window.next <= self.head and self.window.room():
            self.window.take(self.window.next, self.window.next % 5, self.now)
        for member, seq in self.window.ready():
            attempt = self.window.send(seq, 1, self.now)
            if member == self.member:
                self._in_hand.pop(seq, None)
                self._in_hand[seq] = None
                more = {"attempt": attempt} if attempt > 1 else {}
                self.sending.append(self._frame("message", seq=seq, payload=[7, seq], **more))

    def step(self, kind: str, count: int) -> None:
        """Does what a name says."""
        application = self.application
        if kind == "publish":
            self.head += count
        elif kind == "deliver":
            self.deliver(count)
        elif kind == "read" and (application.wish.each or not application.hand):
            application.read()
        elif kind in ("settle", "refuse"):
            (application.settle if kind == "settle" else application.refuse)(count if application.wish.each else 0)
        elif kind == "wait":
            self.wait()
        elif kind in ("leave", "join"):
            (self.window.leave if kind == "leave" else self.window.join)("other")
        elif kind == "cut":
            self.cut()
        self.send()

    def deliver(self, count: int) -> None:
        """Frames arrive."""
        while self.sending and count:
            self.application.receive(self.sending.pop(0))
            count -= 1

    def wait(self) -> None:
        """The retry delay passes. What is on its way arrives before: an ack may cross no redelivery (see ADR 0035)."""
        self.deliver(1_000)
        self.now += RETRY_S
        self.window.visit(self.now)
        self.send()
        self.deliver(1_000)

    def cut(self) -> None:
        """The connection is lost, and there is another one."""
        self.window.leave(self.member)
        self.sending.clear()
        self._in_hand.clear()
        self.application.cut()
        self.application.connect()

    def _count(self, seqs: list[int]) -> None:
        open_ones = [seq for seq in seqs if (7, seq) not in self.application.done]
        assert open_ones == [], f"acknowledged and not done: {open_ones}"
        for seq in seqs:
            del self._in_hand[seq]
        self.window.ack(self.member, seqs, self.now)

    def _frame(self, kind: str, **fields: Any) -> Frame:
        return {"type": kind, "topic_id": "a", **fields}


@pytest.mark.parametrize(("ack", "each"), [("auto", False), ("manual", False), ("manual", True)])
@given(steps=STEPS)
@settings(max_examples=300, deadline=None)
def test_a_member_acknowledges_all_that_it_has_done_and_nothing_else(
    ack: AckMode, each: bool, steps: list[tuple[str, int]]
) -> None:
    group = Group(Wish(start="earliest", ack=ack, group="g", each=each))
    group.window.join("other")
    group.application.connect()
    for step in steps:
        if not (ack == "auto" and step[0] == "refuse"):
            group.step(*step)
    group.window.leave("other")
    for _ in range(300):
        for kind in ("deliver", "read", "settle", "wait"):
            group.step(kind, 100 if kind == "deliver" else 0)
        if group.window.acked == group.head and not group.application.hand:
            break
    assert group.window.acked == group.head, "something stays open"
    assert {seq for _, seq in group.application.done} == set(range(1, group.head + 1))
