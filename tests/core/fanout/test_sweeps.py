"""Sweeps on values: what goes out first, what a slice holds, and what may happen while a sweep runs."""

import pytest

from headgate.core.client.framing import SSE
from headgate.core.client.limits import Limits
from headgate.core.fanout.pace import Pace
from headgate.core.wire.frames import message_frame
from headgate.core.wire.link_deliveries import CountWritten, Written
from headgate.core.wire.rights import Caller
from tests.core.fanout.sweeping import SMALL, SweepScene, served
from tests.core.scene import Pipe

BIG = "x" * 1_000


def test_a_large_topic_is_written_in_slices_and_counted_once_a_socket() -> None:
    scene = SweepScene()
    pipes = scene.crowd(5)
    scene.turn()
    scene.publish("a", 1)
    seen = []
    while scene.scheduled:
        scene.slice()
        seen.append(sum(served(pipes)))
    assert seen[0] < seen[1] < 5 and served(pipes) == [1] * 5
    assert scene.numbers.deliveries == {"durable": 5} and len(scene.numbers.sweeps) == 1
    assert len(scene.numbers.slices) == 3 and scene.is_quiet


def test_a_topic_with_few_sockets_is_written_at_once() -> None:
    scene = SweepScene()
    pipes = scene.crowd(2)
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    assert served(pipes) == [1, 1] and scene.feed().blocks is None and not scene.numbers.slices


def test_messages_that_come_while_a_sweep_runs_are_one_write_in_the_next() -> None:
    scene = SweepScene()
    pipes = scene.crowd(6)
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    writes = [pipe.writes for pipe in pipes]
    for n in (2, 3, 4):
        scene.publish("a", n)
    scene.turn()
    assert all(pipe.seqs() == [1, 2, 3, 4] for pipe in pipes)
    assert sum(pipe.writes - before for pipe, before in zip(pipes, writes, strict=True)) == 4 + 6


def test_small_topics_come_first_and_hot_ones_share_what_is_left_in_turn() -> None:
    scene = SweepScene(Pace(plain_sockets=2, block_sockets=1, slice_sockets=2))
    large, other = scene.crowd(6), scene.crowd(6, "b")
    small = scene.crowd(1, "c")
    for topic in "ab":
        scene.heat("paced", topic)
    scene.turn()
    for topic in "abc":
        scene.publish(topic, 1)
    scene.slice()
    assert served(small) == [1] and (sum(served(large)), sum(served(other))) == (1, 1)
    scene.publish("c", 2)
    scene.slice()
    assert served(small) == [2] and (sum(served(large)), sum(served(other))) == (2, 2)
    scene.turn()
    assert served(large) == served(other) == [1] * 6


def test_large_topics_in_direct_heat_come_before_paced_ones_which_get_a_block_each_turn() -> None:
    scene = SweepScene(Pace(plain_sockets=3, block_sockets=1, slice_sockets=3))
    direct, paced = scene.crowd(9), scene.crowd(9, "b")
    scene.heat("paced", "b")
    scene.turn()
    scene.publish("b", 1)
    scene.publish("a", 1)
    seen = []
    for _ in range(3):
        scene.slice()
        seen.append((sum(served(direct)), sum(served(paced))))
    assert seen == [(3, 1), (6, 2), (9, 3)]


class Clock:
    """Each look is later by `step` seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_slice_ends_when_its_time_is_over() -> None:
    clock = Clock()
    scene = SweepScene(Pace(plain_sockets=2, block_sockets=1, slice_s=2.5, slice_sockets=100), clock=clock)
    scene.crowd(20)
    scene.turn()
    scene.hub.sweeps._room = 100.0
    scene.publish("a", 1)
    clock.step = 1.0
    scene.slice()
    assert scene.numbers.deliveries == {"durable": 3}


def test_how_many_sockets_a_slice_has_follows_from_how_long_the_ones_before_held_the_loop() -> None:
    """The writes themselves may come after the callbacks of a turn, as in uvloop."""
    clock = Clock()
    scene = SweepScene(Pace(plain_sockets=8, block_sockets=1, slice_s=4.0, slice_sockets=100), clock=clock)
    scene.crowd(60)
    scene.turn()
    scene.publish("a", 1)
    sizes = []
    for took in (4.0, 1.0, 1.0, 8.0, 8.0):
        before = scene.numbers.deliveries.get("durable", 0)
        scene.slice()
        sizes.append(scene.numbers.deliveries["durable"] - before)
        clock.now += took
    assert sizes[0] == sizes[1] == 8 and sizes[2] > 8 and sizes[4] < sizes[3]
    assert scene.numbers.slices == [4.0, 1.0, 1.0, 8.0]


def test_much_in_one_write_cuts_a_block() -> None:
    scene = SweepScene(Pace(plain_sockets=1, block_sockets=100, slice_bytes=2_500))
    pipes = scene.crowd(7)
    scene.turn()
    scene.publish("a", BIG)
    scene.slice()
    assert sum(served(pipes)) == 2
    scene.turn()
    assert served(pipes) == [1] * 7


def acker(scene: SweepScene, user: str) -> Pipe:
    pipe = scene.open(raw_id=user.encode())
    scene.admit(pipe, Caller(user, service=True))
    scene.say(pipe, type="subscribe", topic_id="a", ack=True)
    return pipe


def test_who_acknowledges_is_swept_while_his_window_has_room() -> None:
    scene = SweepScene(limits=Limits(ack_window=2))
    scene.owners.create("a")
    pipes = [acker(scene, f"u{n}") for n in range(5)]
    scene.turn()
    for n in range(4):
        scene.publish("a", n)
        scene.turn()
    assert all(pipe.seqs() == [1, 2] for pipe in pipes)
    scene.publish("a", "on its way")
    scene.slice()
    for pipe in pipes:
        scene.say(pipe, type="ack", topic_id="a", seq=2)
    scene.turn()
    assert all(pipe.seqs() == [1, 2, 3, 4] for pipe in pipes)
    for pipe in pipes:
        scene.say(pipe, type="ack", topic_id="a", seq=4)
    scene.turn()
    assert all(pipe.seqs() == [1, 2, 3, 4, 5] for pipe in pipes)


def test_a_window_begins_with_the_message_when_its_block_is_written() -> None:
    scene = SweepScene()
    scene.owners.create("a")
    pipes = [acker(scene, f"u{n}") for n in range(5)]
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    rest = [pipe for pipe in pipes if not pipe.frames("message")]
    scene.say(rest[0], type="ack", topic_id="a", seq=1)
    scene.turn()
    assert all(pipe.seqs() == [1] for pipe in pipes)


def test_streams_are_swept_as_well() -> None:
    scene = SweepScene()
    pipes = scene.crowd(5, framing=SSE)
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    assert 0 < sum(b"id: " + str(scene.feed().epoch).encode() + b":1" in pipe.data for pipe in pipes) < 5
    scene.turn()
    assert all(pipe.data.count(b'"type":"message"') == 1 for pipe in pipes)


def test_an_ephemeral_topic_is_swept_and_drops_for_who_is_parked() -> None:
    scene = SweepScene()
    scene.owners.create("a", settings={"profile": "ephemeral"})
    pipes = scene.crowd(5)
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    scene.publish("a", 2)
    scene.turn()
    assert all([f["payload"] for f in pipe.frames("message")] == [1, 2] for pipe in pipes)


def test_a_strategy_is_asked_again_once_the_sweep_is_over() -> None:
    scene = SweepScene()
    scene.owners.create("a", settings={"strategy": {"kind": "batched", "max_messages": 2, "max_delay_ms": 500}})
    pipes = scene.crowd(5)
    scene.turn()
    scene.publish("a", 1, 2)
    scene.slice()
    scene.publish("a", 3)
    scene.turn()
    assert all(pipe.seqs() == [1, 2] for pipe in pipes), "the third is held"
    scene.pass_time(1)
    assert all(pipe.seqs() == [1, 2, 3] for pipe in pipes)


def counted(scene: SweepScene) -> list[tuple[int, bool]]:
    return [(m.count, m.done) for m in scene.owners.asked if isinstance(m, Written)]


def test_a_publisher_who_waits_is_told_all_sockets_of_the_sweep_once_it_is_over() -> None:
    scene = SweepScene()
    pipes = scene.crowd(5)
    scene.turn()
    scene.on_push(1, CountWritten("a", scene.feed().epoch, 0, 7))
    scene.publish("a", 1)
    scene.slice()
    assert counted(scene) == []
    rest = [pipe for pipe in pipes if not pipe.frames("message")]
    assert rest[0].session is not None
    scene.hub.catchup.park(rest[0].session, scene.now)
    scene.turn()
    assert counted(scene) == [(4, False)]
    scene.hub.resume(rest[0].session, scene.moment)
    scene.pass_time(1)
    assert counted(scene)[-1] == (5, True)


def test_an_event_of_a_delivery_is_told_once_with_all_sockets() -> None:
    scene = SweepScene()
    scene.crowd(5)
    scene.turn()
    scene.hub.events.watch(scene.feed().shard, None)
    before = scene.numbers.deliveries.copy()
    scene.publish("a", 1, 2)
    scene.turn()
    assert scene.numbers.deliveries["durable"] - before.get("durable", 0) == 10


def test_in_inbox_heat_bursts_join_and_the_first_message_goes_out_at_once() -> None:
    scene = SweepScene()
    pipes = scene.crowd(5)
    scene.heat("inbox")
    scene.turn()
    scene.publish("a", 1)
    scene.turn()
    assert all(pipe.seqs() == [1] for pipe in pipes)
    writes = [pipe.writes for pipe in pipes]
    for n in (2, 3, 4):
        scene.publish("a", n)
        scene.turn()
    assert all(pipe.seqs() == [1] for pipe in pipes) and scene.hub.held.next_due == pytest.approx(scene.now + 0.1)
    scene.now += 0.11
    scene.hub.held.wake(scene.now)
    scene.turn()
    assert all(pipe.seqs() == [1, 2, 3, 4] for pipe in pipes)
    assert [pipe.writes - before for pipe, before in zip(pipes, writes, strict=True)] == [1] * 5
    assert scene.hub.held.next_due is None


def test_a_paced_topic_leaves_the_loop_as_long_as_its_sweeps_take_it() -> None:
    scene = SweepScene()
    pipes = scene.crowd(6)
    scene.heat("paced")
    scene.turn()
    scene.publish("a", 1)
    began = scene.now
    while scene.scheduled:
        scene.slice()
        scene.now += 0.01
    blocks = scene.feed().blocks
    assert blocks is not None and 0.01 <= blocks.took_s <= scene.now - began
    took = blocks.took_s
    scene.now = began + took
    writes = [pipe.writes for pipe in pipes]
    for n in (2, 3):
        scene.publish("a", n)
        scene.turn()
    assert served(pipes) == [1] * 6 and scene.hub.held.next_due == pytest.approx(began + 2 * took)
    scene.now = began + 2 * took
    scene.hub.held.wake(scene.now)
    scene.turn()
    assert served(pipes) == [3] * 6
    assert [pipe.writes - before for pipe, before in zip(pipes, writes, strict=True)] == [1] * 6
    blocks.took_s = 60.0
    scene.publish("a", 4)
    scene.turn()
    assert scene.hub.held.next_due == pytest.approx(scene.now + SMALL.inbox_s), "no later than an inbox topic"


def test_what_inbox_heat_holds_goes_out_with_the_end_of_the_topic() -> None:
    scene = SweepScene()
    pipes = scene.crowd(5)
    scene.heat("inbox")
    scene.turn()
    scene.publish("a", 1)
    scene.turn()
    scene.publish("a", 2)
    scene.turn()
    scene.owners.delete("a")
    scene.turn()
    assert all(pipe.seqs() == [1, 2] and pipe.frames()[-1]["type"] == "unsubscribed" for pipe in pipes)
    assert scene.hub.held.next_due is None


@pytest.mark.parametrize("heat", ["paced", "inbox"])
def test_heat_sweeps_a_topic_with_few_sockets_and_its_end_writes_it_at_once_again(heat: str) -> None:
    scene = SweepScene()
    pipes = scene.crowd(1)
    scene.heat(heat)
    assert scene.feed().blocks is not None and scene.feed().heat == heat
    scene.publish("a", 1)
    scene.turn()
    scene.heat("direct")
    scene.heat("paced", epoch=3)
    scene.publish("a", 2)
    scene.now += 1
    scene.turn()
    assert served(pipes) == [2] and scene.feed().blocks is None
    assert len(scene.numbers.sweeps) == 2
    scene.publish("a", 3)
    scene.turn()
    assert served(pipes) == [3] and len(scene.numbers.sweeps) == 2


def test_parked_sessions_cost_a_sweep_nothing() -> None:
    scene = SweepScene()
    pipes = scene.crowd(6)
    scene.turn()
    for pipe in pipes[1:]:
        assert pipe.session is not None
        scene.hub.catchup.park(pipe.session, scene.now)
    scene.publish("a", 1)
    scene.slice()
    scene.slice()
    assert served(pipes) == [1, 0, 0, 0, 0, 0] and not scene.hub.sweeps


def test_what_is_pending_is_bounded_a_late_sweep_is_written_in_one_go() -> None:
    scene = SweepScene(limits=Limits(ring_frames=10, queue_frames=10))
    pipes = scene.crowd(6)
    scene.turn()
    for n in range(100):
        scene.publish("a", n)
        scene.slice()
        assert len(scene.feed().pending) <= 10 + 5
    scene.turn()
    assert all(pipe.seqs() == list(range(1, 101)) for pipe in pipes)


def test_lost_messages_are_told_to_all_at_the_same_place() -> None:
    scene = SweepScene(limits=Limits(ring_frames=5))
    pipes = scene.crowd(5)
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    topic = scene.owners.topics["a"]
    for seq in range(2, 12):  # never pushed
        topic.frames.append(message_frame("a", seq, 1, b'"message_id":"m","publisher_id":"p","payload":1}'))
        topic.ts.append(1)
    scene.owners.forget("a", 8)
    scene.publish("a", "last")
    scene.pass_time(3)
    for pipe in pipes:
        assert [(gap["from_seq"], gap["to_seq"]) for gap in pipe.frames("gap")] == [(2, 7)]
        assert pipe.seqs() == [1, 8, 9, 10, 11, 12]


def test_a_write_that_raises_stops_no_sweep() -> None:
    scene = SweepScene(SMALL)
    pipes = scene.crowd(5)
    scene.turn()
    pipes[2].broken = True
    scene.publish("a", 1)
    scene.turn()
    assert served(pipes) == [1, 1, 0, 1, 1]
