"""A model of sweeps: whoever follows a topic gets each message once, in order, whatever happens between two slices."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from headgate.core.client.limits import Limits
from headgate.core.fanout.blocks import Blocks
from headgate.core.fanout.feed import Feed
from headgate.core.fanout.pace import HEATS, Pace
from headgate.core.fanout.sweep import Sweep
from headgate.core.wire.amended_frames import redacted_frame
from headgate.core.wire.link_messages import Amended
from headgate.core.wire.member_roles import Role
from tests.core.fanout.sweeping import SweepScene
from tests.core.scene import Pipe

QUICK = settings(
    max_examples=60, stateful_step_count=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
HUNT = settings(QUICK, max_examples=2_000, phases=[Phase.generate])  # it ends with the first one that fails
ONE = st.integers(0, 1 << 16)


class SweepMachine(RuleBasedStateMachine):
    """Up to nine sockets on one topic (a second one makes them follow two), swept two sockets at a time."""

    def __init__(self) -> None:
        super().__init__()
        limits = Limits(ring_frames=8, slow_messages=1 << 40, slow_bytes=1 << 40, heartbeat_s=1e9)
        pace = Pace(plain_sockets=1, block_sockets=2, slice_sockets=2)
        self.scene = SweepScene(pace, limits)
        self.users = [f"u{n}" for n in range(9)]
        self.pipes: dict[str, Pipe] = {}
        self.last: dict[str, int] = {}  # what each has seen of the topic, over his connections
        self.seen: dict[str, int] = {}  # frames looked at
        self.blanked: dict[int, dict[str, int]] = {}  # redacted messages: how many frames each had then

    @initialize(followers=st.integers(3, 9))
    def begin(self, followers: int) -> None:
        members = dict.fromkeys(self.users, Role.MEMBER)
        for topic in "ab":
            self.scene.owners.create(topic, permissions="PRIVATE", members=members)
        for user in self.users[:followers]:
            self._come(user, "live")

    # Subscribers

    @precondition(lambda self: len(self.pipes) < len(self.users))
    @rule(which=ONE, form=st.sampled_from(("live", "earliest")))
    def comes(self, which: int, form: str) -> None:
        absent = [user for user in self.users if user not in self.pipes]
        self._come(absent[which % len(absent)], form)

    @precondition(lambda self: self.pipes)
    @rule(which=ONE, how=st.sampled_from(("lost", "unsubscribe")))
    def goes(self, which: int, how: str) -> None:
        user = self._one(which)
        pipe = self.pipes[user]
        if how == "lost":
            assert pipe.session is not None
            self._look(user)
            del self.pipes[user]
            self.scene.hub.lost(pipe.session)
        elif self._follows(pipe):
            self.scene.say(pipe, type="unsubscribe", topic_id="a")
            self._look(user)
            self.scene.follow(pipe, "a", f"seq:{self.last[user]}")

    @precondition(lambda self: self.pipes)
    @rule(which=ONE)
    def follows_another(self, which: int) -> None:
        pipe = self.pipes[self._one(which)]
        assert pipe.session is not None
        if "b" in pipe.session.subscriptions:
            self.scene.say(pipe, type="unsubscribe", topic_id="b")
        else:
            self.scene.follow(pipe, "b")

    @precondition(lambda self: self.pipes)
    @rule(which=ONE)
    def stops_or_reads_on(self, which: int) -> None:
        pipe = self.pipes[self._one(which)]
        assert pipe.session is not None
        if pipe.session.paused:
            self._resume(pipe)
        else:
            pipe.paused = True
            self.scene.hub.catchup.park(pipe.session, self.scene.now)

    # The topic

    @rule(count=st.integers(1, 4))
    def publishes(self, count: int) -> None:
        self.scene.publish("a", *["secret"] * count)

    @rule()
    def publishes_elsewhere(self) -> None:
        self.scene.publish("b", 1)

    @precondition(lambda self: self.scene.owners.topics["a"].frames and "a" in self.scene.hub.feeds)
    @rule(back=st.integers(0, 6), edited=st.booleans())
    def changes(self, back: int, edited: bool) -> None:
        topic = self.scene.owners.topics["a"]
        seq = max(topic.seq - back, 1)
        frame = topic.frames[seq - 1]
        frame = frame.replace(b"secret", b"edited") if edited else redacted_frame(frame)
        topic.frames[seq - 1] = frame
        self.scene.hub.on_push(1, Amended("a", topic.epoch, seq, frame, not edited))
        if not edited:
            self.blanked.setdefault(seq, {user: len(pipe.frames("message")) for user, pipe in self.pipes.items()})

    @precondition(lambda self: "a" in self.scene.hub.feeds)
    @rule(heat=st.sampled_from(HEATS))
    def warms(self, heat: str) -> None:
        self.scene.heat(heat)

    @rule(which=ONE, whom=st.sampled_from(("one", "all")))
    def fences(self, which: int, whom: str) -> None:
        if whom == "all":
            self.scene.owners.permit("a", "PRIVATE")
        else:
            self.scene.owners.demote("a", self.users[which % len(self.users)], Role.MEMBER)

    @precondition(lambda self: "a" in self.scene.hub.feeds)
    @rule()
    def is_written_out(self) -> None:
        """As a drain does: what is pending comes behind the sweep that runs."""
        self.scene.hub.write_out(self.scene.feed())

    @rule()
    def gets_a_new_owner(self) -> None:
        self.scene.owners.come()

    # Time

    @rule()
    def slice(self) -> None:
        self.scene.slice()

    @rule()
    def time_passes(self) -> None:
        self.scene.pass_time(0.25)

    def teardown(self) -> None:
        for pipe in self.pipes.values():
            self._resume(pipe)
        for _ in range(3):
            self.scene.pass_time(1.5)
        head = self.scene.owners.topics["a"].seq
        for user, pipe in self.pipes.items():
            self._look(user)
            if self._follows(pipe):
                assert self.last[user] == head, f"{user} has {self.last[user]} of {head}"
        assert self.scene.is_quiet, "a sweep has no end"
        got = sum(self.scene.numbers.deliveries.values())
        assert got == self.delivered, f"{got} counted, {self.delivered} written"

    delivered = 0

    def _one(self, which: int) -> str:
        return list(self.pipes)[which % len(self.pipes)]

    def _follows(self, pipe: Pipe) -> bool:
        return pipe.session is not None and "a" in pipe.session.subscriptions

    def _come(self, user: str, form: str) -> None:
        if user in self.last and form == "live":
            form = f"seq:{self.last[user]}"
        elif form == "earliest":
            self.last[user] = 0
        pipe = self.pipes[user] = self.scene.open()
        self.seen[user] = 0
        self.scene.admit(pipe, self.scene.caller(user))
        if user not in self.last:
            self.last[user] = self.scene.owners.topics["a"].seq
        self.scene.follow(pipe, "a", form)

    def _resume(self, pipe: Pipe) -> None:
        pipe.paused = False
        if pipe.session is not None and pipe.session.paused:
            self.scene.hub.resume(pipe.session, self.scene.moment)

    def _look(self, user: str) -> None:
        frames: list[dict[str, Any]] = self.pipes[user].frames("message")
        for at, frame in enumerate(frames):
            if at < self.seen[user]:
                continue
            self.delivered += 1
            if frame["topic_id"] != "a":
                continue
            assert frame["seq"] == self.last[user] + 1, f"{user} got {frame['seq']} after {self.last[user]}"
            self.last[user] = frame["seq"]
            before = self.blanked.get(frame["seq"])
            if before is not None and at >= before.get(user, 0):
                assert frame["payload"] is None, f"{user} got message {frame['seq']} after it was redacted"
        self.seen[user] = len(frames)


def test_whatever_happens_between_two_slices_each_gets_each_message_once_in_order() -> None:
    run_state_machine_as_test(SweepMachine, settings=QUICK)


def _sent(feed: Feed[Any], subscriber: Any) -> int:
    return feed.sent


def _keeps_nothing(*_what: object) -> None:
    pass


def _never_behind(self: Blocks[Any], sent: int) -> list[Any]:
    return [block for block in self._blocks if block.sent < sent][1:]


def _share_at_head(self: Blocks[Any], subscriber: Any) -> None:
    block = self._place.get(subscriber)
    if block is not None:
        write = block.members[subscriber]
        self.remove(subscriber)
        self.add(subscriber, block.group, write, max(other.sent for other in [*self._blocks, block]))


def _counted_twice(self: Sweep, block: Any, count: int) -> None:
    self.written += count
    self.fresh += 2 * count


def _released_all(self: Sweep, most: int) -> list[Any]:
    self._waiting.clear()
    return []


@pytest.mark.parametrize(
    ("owner", "name", "fault"),
    [
        (Feed, "cursor_of", _sent),  # who leaves the step before his turn skips the message
        (Sweep, "amend", _keeps_nothing),  # old bytes go out after a redaction
        (Blocks, "behind", _never_behind),  # a block is forgotten
        (Blocks, "share", _share_at_head),  # a second topic moves him past the message
        (Sweep, "wrote", _counted_twice),  # metrics count a socket twice
        (Sweep, "released", _released_all),  # who waits for the sweep waits for ever
    ],
)
def test_planted_faults_are_noticed(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, fault: Callable[..., Any]
) -> None:
    monkeypatch.setattr(owner, name, fault)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(SweepMachine, settings=HUNT)
