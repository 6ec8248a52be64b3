"""One sweep on values: its bytes, its blocks, and what a change of a message does to it."""

from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.fanout.blocks import Group
from headgate.core.fanout.feed import Feed, Piece
from headgate.core.fanout.session import TopicFeed
from headgate.core.fanout.sweep import Sweep
from headgate.core.wire.frames import message_frame
from headgate.core.wire.link_messages import Amended
from tests.core.fanout.sweeping import SweepScene, subscription


def frame(seq: int, payload: bytes = b"1") -> bytes:
    return message_frame("a", seq, 1, b'"message_id":"m","publisher_id":"p","payload":%b}' % payload)


def of(feed: TopicFeed, *seqs: int) -> Sweep:
    sweep = Sweep(feed)
    sweep.add(Piece(seqs[0], [1] * len(seqs), [frame(seq) for seq in seqs]))
    return sweep


def test_a_piece_is_joined_once_for_each_framing() -> None:
    feed: TopicFeed = Feed("a", 0, 7, 0, {"profile": "durable"})
    sweep = of(feed, 1, 2)
    assert sweep.data(Group.SOCKETS) == WEBSOCKET.messages(7, 1, [frame(1), frame(2)])
    assert sweep.data(Group.SOCKETS) is sweep.data(Group.SHARED) is sweep.data(Group.ACKED)
    assert sweep.data(Group.STREAMS) == SSE.messages(7, 1, [frame(1), frame(2)]) and sweep.last == 2


def test_what_is_not_written_yet_is_joined_anew_after_a_change() -> None:
    feed: TopicFeed = Feed("a", 0, 7, 0, {"profile": "ephemeral"})
    sweep = of(feed, 1, 2)
    before = sweep.data(Group.SOCKETS)
    sweep.amend(Amended("a", 7, 2, frame(2, b'"new"'), False))
    assert sweep.data(Group.SOCKETS) == WEBSOCKET.messages(7, 0, [frame(1), frame(2, b'"new"')]) != before
    kept = sweep.data(Group.SOCKETS)
    sweep.amend(Amended("a", 7, 1, b"", False))
    assert sweep.data(Group.SOCKETS) == kept, "without a frame it goes out as it is; the event follows"


def test_each_block_is_told_until_it_has_the_piece_also_one_that_was_made_meanwhile() -> None:
    scene = SweepScene()
    pipes = scene.crowd(5)
    scene.turn()
    feed = scene.feed()
    sweep = of(feed, 1)
    seen = []
    while (block := sweep.block()) is not None:
        assert sweep.block() is block
        seen += list(block.members)
        block.sent = sweep.last
        if len(seen) == 4:
            assert feed.blocks is not None
            left = next(each for each in map(subscription, pipes) if each not in seen)
            feed.share(left)
    assert sorted(map(id, seen)) == sorted(id(subscription(pipe)) for pipe in pipes)
    sweep.end_piece()
    assert sweep.block() is None and sweep.is_done


def test_who_waited_for_two_pieces_is_released_once() -> None:
    scene = SweepScene()
    waits, *_ = map(subscription, scene.crowd(5))
    scene.turn()
    sweep = of(scene.feed(), 1)
    sweep.add(Piece(2, [1], [frame(2)]))
    waits.step_out()
    waits.wait()
    sweep.end_piece()
    sweep.end_piece()
    assert sweep.released(32) == [waits] and not scene.feed().waiting
    assert sweep.is_done
