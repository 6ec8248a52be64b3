"""Who comes back to one place gets the same bytes, until the ring has changed; what was redacted is never replayed."""

from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.client.limits import Limits
from headgate.core.fanout.feed import Feed
from headgate.core.fanout.replay_pieces import KEPT, ReplayPieces
from headgate.core.fanout.session import TopicFeed

LIMITS = Limits()


def feed(count: int = 3, epoch: int = 7) -> TopicFeed:
    made: TopicFeed = Feed("a", 0, epoch, 0, {})
    publish(made, count)
    return made


def publish(made: TopicFeed, count: int = 1) -> None:
    made.append(made.head + 1, [0] * count, [b'{"n":%d}' % (made.head + 1 + n) for n in range(count)])
    made.take(LIMITS)


def test_the_same_place_and_framing_give_the_same_object() -> None:
    pieces, one = ReplayPieces(LIMITS), feed()
    found = pieces.after(one, 1, WEBSOCKET)
    assert found is not None and (found.piece.seq, found.last, found.size) == (2, 3, 14)
    assert found.data == WEBSOCKET.messages(7, 2, [b'{"n":2}', b'{"n":3}'])
    assert pieces.after(one, 1, WEBSOCKET) is found
    other = pieces.after(one, 1, SSE)
    assert other is not None and other.data == SSE.messages(7, 2, [b'{"n":2}', b'{"n":3}'])
    assert pieces.after(one, 2, WEBSOCKET) != found and pieces.after(feed(), 1, WEBSOCKET) is not found


def test_after_a_change_of_the_ring_the_piece_is_made_anew() -> None:
    pieces, one = ReplayPieces(LIMITS), feed()
    before = pieces.after(one, 0, WEBSOCKET)
    one.amend(2, b'{"x":2}', redacted=True, limits=LIMITS)
    after = pieces.after(one, 0, WEBSOCKET)
    assert before is not None and after is not None and len(before.data) == len(after.data)
    assert b'{"x":2}' in after.data and b'{"n":2}' not in after.data
    publish(one)
    longer = pieces.after(one, 0, WEBSOCKET)
    assert longer is not None and longer.last == 4
    one.ring.clear()
    assert pieces.after(one, 0, WEBSOCKET) is None


def test_nothing_is_replayed_while_newer_messages_are_missing() -> None:
    pieces, one = ReplayPieces(LIMITS), feed()
    assert pieces.after(one, 0, WEBSOCKET) is not None
    assert one.misses(9) and pieces.after(one, 0, WEBSOCKET) is None


def test_a_ring_that_begins_anew_gives_nothing_of_the_old_one() -> None:
    pieces, one = ReplayPieces(LIMITS), feed(1)
    assert pieces.after(one, 0, WEBSOCKET) is not None
    one.skip(1)
    one.ring.version = 1
    assert pieces.after(one, 0, WEBSOCKET) is None


def test_a_bounded_number_is_kept_and_the_oldest_goes_first() -> None:
    pieces = ReplayPieces(LIMITS)
    feeds = [feed() for _ in range(KEPT)]
    first = pieces.after(feeds[0], 0, WEBSOCKET)
    rest = [pieces.after(each, 0, WEBSOCKET) for each in feeds[1:]]
    assert pieces.after(feeds[0], 0, WEBSOCKET) is first
    assert pieces.after(feed(), 0, WEBSOCKET) is not None and len(pieces._kept) == KEPT
    assert pieces.after(feeds[1], 0, WEBSOCKET) is rest[0], "and the others stay"
    assert pieces.after(feeds[0], 0, WEBSOCKET) is not first
