"""A topic's ring, its pending messages and the pieces they are written in."""

import pytest

from headgate.core.client.limits import Limits
from headgate.core.fanout.feed import Feed, Piece, Ring, attach, fitting, page_request
from headgate.core.fanout.session import TopicFeed
from headgate.core.wire.amended_frames import redacted_frame
from headgate.core.wire.frames import message_frame
from headgate.core.wire.link import AttachTopic, Fetch
from tests.core.scene import Scene

PIECE_FRAMES, PIECE_BYTES = 500, 256 * 1024


def feed(head: int = 0) -> TopicFeed:
    return Feed("a", 0, 7, head, {"profile": "durable"})


def frames(count: int, size: int = 1) -> list[bytes]:
    return [b"x" * size for _ in range(count)]


def test_what_comes_is_pending_until_it_is_taken() -> None:
    topic = feed(4)
    assert topic.append(5, [1, 2], [b"a", b"b"]) and (topic.head, topic.sent) == (6, 4)
    assert topic.append(7, [3], [b"c"])
    assert topic.take(Limits()) == Piece(5, [1, 2, 3], [b"a", b"b", b"c"])
    assert (topic.head, topic.sent, topic.pending, topic.size) == (7, 7, [], 3)
    assert topic.ring.after(5, Limits()) == Piece(6, [2, 3], [b"b", b"c"])


def test_repeats_are_dropped_and_a_hole_is_told() -> None:
    topic = feed()
    assert topic.append(1, [1, 1, 1], frames(3))
    assert topic.append(1, [1, 1, 1], frames(3)) and topic.head == 3
    assert topic.append(3, [1, 2], [b"old", b"new"]) and topic.pending[-2:] == [b"x", b"new"] and topic.head == 4
    assert topic.pending_ts == [1, 1, 1, 2]
    assert not topic.append(6, [1, 1], frames(2)) and (topic.head, topic.hole) == (4, 7)
    assert topic.append(5, [1], frames(1)) and topic.head == 5


@pytest.mark.parametrize(
    ("count", "size", "fits"),
    [
        (3, 10, 3),
        (PIECE_FRAMES + 1, 1, PIECE_FRAMES),
        (3, PIECE_BYTES, 1),
        (3, PIECE_BYTES // 2, 2),
        (1, 2 * PIECE_BYTES, 1),
    ],
)
def test_a_piece_has_at_least_one_frame_and_bounded_bytes(count: int, size: int, fits: int) -> None:
    assert fitting(frames(count, size), 0, Limits()) == fits


def test_pieces_follow_on_each_other() -> None:
    topic = feed()
    topic.append(1, [0] * 1_200, frames(1_200))
    pieces = []
    while topic.pending:
        pieces.append(topic.take(Limits()))
    assert [(piece.seq, len(piece.frames)) for piece in pieces] == [(1, 500), (501, 500), (1_001, 200)]


def test_a_ring_forgets_the_oldest_beyond_its_bounds() -> None:
    limits = Limits(ring_frames=100, ring_bytes=1_000)
    ring = Ring(1)
    for n in range(1_000):
        ring.extend(Piece(n + 1, [n], [b"x" * (n % 30)]), n % 30, limits)
        assert len(ring.frames) == len(ring.ts) <= 125 and ring.size == sum(map(len, ring.frames)) <= 1_250
        assert ring.first + len(ring.frames) == n + 2
    assert ring.after(ring.first - 2, limits) is None and ring.after(1_000, limits) is None
    piece = ring.after(ring.first - 1, limits)
    assert piece is not None and piece.ts[0] == ring.first - 1


@pytest.mark.parametrize(("size", "most", "least"), [(1, 125, 100), (20, 62, 50)])
def test_a_ring_is_cut_to_its_bound_when_it_is_a_quarter_too_long(size: int, most: int, least: int) -> None:
    limits = Limits(ring_frames=100, ring_bytes=1_000)
    ring, lengths = Ring(1), []
    for n in range(300):
        ring.extend(Piece(n + 1, [n], frames(1, size)), size, limits)
        lengths.append(len(ring.frames))
    assert (max(lengths), min(lengths[most:])) == (most, least)


def test_on_slow_has_the_profile_s_default() -> None:
    assert feed().on_slow == "disconnect"
    assert Feed("a", 0, 7, 0, {"profile": "ephemeral"}).on_slow == "drop_oldest"


def test_a_subscription_waits_once_for_the_next_flush_however_often_it_is_pumped() -> None:
    scene = Scene()
    scene.owners.create("a")
    scene.socket("a")
    scene.owners.publish("a", 1)
    late = scene.socket("a", form="seq:0")
    assert late.session is not None
    for _ in range(5):
        scene.hub.catchup.pump(late.session, 0)
    assert len(scene.hub.feeds["a"].waiting) == 1
    scene.turn()
    assert late.seqs() == [1]


def test_a_page_is_asked_for_by_the_feed_s_own_epoch_above_the_cursor() -> None:
    limits = Limits()
    asked = page_request(feed(), 4, limits, 9)
    assert asked == Fetch(9, "a", 7, 4, limits.piece_frames, limits.piece_bytes)


def test_a_new_owner_is_told_the_head_of_a_durable_topic_and_none_of_an_ephemeral_one() -> None:
    ephemeral: TopicFeed = Feed("b", 0, 8, 5, {"profile": "ephemeral"}, 2)
    (message,) = attach(0, [feed(4), ephemeral])
    assert message.topics == [AttachTopic("a", 7, 4, 0, 0), AttachTopic("b", 8, 0, 0, 2)]


def message(seq: int, payload: bytes = b"1", rest: bytes = b"") -> bytes:
    return message_frame("a", seq, 1, b'"message_id":"m","publisher_id":"p","payload":%b%b}' % (payload, rest))


def with_messages(written: int, pending: int, limits: Limits) -> TopicFeed:
    topic = feed()
    for seq in range(1, written + pending + 1):
        topic.append(seq, [1], [message(seq)])
        if seq == written:
            topic.take(limits)
    return topic


def test_an_amended_message_is_replaced_where_it_is_held_and_sizes_stay_right() -> None:
    limits = Limits()
    topic = with_messages(3, 2, limits)
    size = topic.ring.size
    for seq in (2, 5):
        topic.amend(seq, message(seq, b'"longer"'), redacted=False, limits=limits)
    piece = topic.ring.after(0, limits)
    assert piece is not None and piece.frames == [message(1), message(2, b'"longer"'), message(3)]
    assert topic.pending == [message(4), message(5, b'"longer"')]
    assert topic.ring.size == size + len(b'"longer"') - 1 == sum(map(len, piece.frames))
    topic.amend(99, message(99), redacted=False, limits=limits)
    assert topic.ring.size == sum(map(len, piece.frames))


def test_a_redaction_blanks_the_edits_in_ring_and_pending() -> None:
    limits = Limits()
    topic = feed()
    edits = [message(n, b'"secret"', b',"kind":"edit","target_seq":1,"version":%d' % n) for n in (2, 3)]
    topic.append(1, [1, 1], [message(1, b'"secret"'), edits[0]])
    topic.take(limits)
    topic.append(3, [1], [edits[1]])
    topic.amend(1, b"", redacted=True, limits=limits)
    held = [*topic.ring.frames, *topic.pending]
    assert held == [redacted_frame(message(1)), *map(redacted_frame, edits)]
    assert topic.ring.size == sum(map(len, topic.ring.frames))


def test_without_a_frame_all_up_to_the_message_is_forgotten() -> None:
    limits = Limits()
    topic = with_messages(5, 1, limits)
    topic.amend(3, b"", redacted=False, limits=limits)
    assert topic.ring.after(2, limits) is None
    piece = topic.ring.after(3, limits)
    assert piece is not None and piece.frames == [message(4), message(5)]
    assert (topic.ring.first, topic.ring.size) == (4, sum(map(len, piece.frames)))
    topic.amend(99, b"", redacted=False, limits=limits)
    assert (topic.ring.first, topic.ring.size, topic.pending) == (6, 0, [message(6)])


def test_a_ring_that_grew_by_amendments_keeps_its_bound() -> None:
    limits = Limits(ring_bytes=2_000)
    topic = with_messages(10, 0, limits)
    for seq in range(1, 11):
        topic.amend(seq, message(seq, b'"%b"' % (b"x" * 500)), redacted=False, limits=limits)
    assert topic.ring.size == sum(map(len, topic.ring.frames)) <= 2_000
    assert topic.ring.first > 1


def test_the_ring_is_not_used_while_newer_messages_are_missing() -> None:
    """One of them may have changed a message of the ring: the owner knows, the ring does not."""
    topic = feed()
    topic.append(1, [1, 2], [b"one", b"two"])
    topic.take(Limits())
    assert topic.after(0, Limits()) == Piece(1, [1, 2], [b"one", b"two"])
    assert topic.misses(3)
    assert topic.after(0, Limits()) is None
    topic.append(3, [3], [b"three"])
    assert topic.after(0, Limits()) == Piece(1, [1, 2], [b"one", b"two"])
