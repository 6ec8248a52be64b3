"""The merge of what several owners have for one who was away."""

from hypothesis import given
from hypothesis import strategies as st

from headgate.core.publish.missed_merge import NOTHING, MissedPart, frames_of, merged
from headgate.core.wire.link_inbox import MissedMessages

BYTES = 1_000_000


def topic(topic_id: str, first_ts: int, *frames: bytes) -> MissedMessages:
    return MissedMessages(topic_id, first_ts, list(frames))


def ids(part: MissedPart) -> list[str]:
    return [topic.topic_id for topic in part.topics]


def test_topics_come_by_their_oldest_message_and_then_by_id() -> None:
    one = MissedPart([topic("b", 1, b"b1", b"b2"), topic("d", 3, b"d1")], True)
    other = MissedPart([topic("a", 1, b"a1"), topic("c", 2, b"c1")], True)
    found = merged([one, other], 10, BYTES)
    assert (frames_of(found), found.whole) == ([b"a1", b"b1", b"b2", b"c1", b"d1"], True)


def test_nothing_is_whole() -> None:
    assert merged([NOTHING, NOTHING], 1, 1) == NOTHING
    assert merged([], 1, 1) == NOTHING


def test_the_limit_cuts_within_a_topic_and_says_so() -> None:
    part = MissedPart([topic("a", 1, b"a1", b"a2"), topic("b", 2, b"b1", b"b2")], True)
    assert frames_of(merged([part], 3, BYTES)) == [b"a1", b"a2", b"b1"]
    assert not merged([part], 3, BYTES).whole
    assert merged([part], 4, BYTES).whole


def test_the_limit_between_two_topics_is_no_whole_part_either() -> None:
    part = MissedPart([topic("a", 1, b"a1"), topic("b", 2, b"b1")], True)
    found = merged([part], 1, BYTES)
    assert (frames_of(found), found.whole) == ([b"a1"], False)


def test_bytes_cut_but_the_first_message_always_goes() -> None:
    part = MissedPart([topic("a", 1, b"x" * 10, b"y" * 10), topic("b", 2, b"z")], True)
    assert frames_of(merged([part], 10, 1)) == [b"x" * 10]
    assert frames_of(merged([part], 10, 20)) == [b"x" * 10, b"y" * 10]
    assert frames_of(merged([part], 10, 21)) == [b"x" * 10, b"y" * 10, b"z"]
    assert [merged([part], 10, size).whole for size in (1, 20, 21)] == [False, False, True]


def test_a_part_that_is_not_whole_ends_the_merge_at_its_last_topic() -> None:
    cut = MissedPart([topic("a", 1, b"a1"), topic("c", 3, b"c1")], False)
    other = MissedPart([topic("b", 2, b"b1"), topic("d", 4, b"d1")], True)
    found = merged([cut, other], 10, BYTES)
    assert (ids(found), found.whole) == (["a", "b", "c"], False)


def test_the_first_of_two_ends_counts() -> None:
    first = MissedPart([topic("a", 1, b"a1")], False)
    second = MissedPart([topic("b", 2, b"b1")], False)
    assert ids(merged([second, first], 10, BYTES)) == ["a"]


def test_a_part_without_topics_ends_nothing() -> None:
    found = merged([MissedPart([], False), MissedPart([topic("a", 1, b"a1")], True)], 10, BYTES)
    assert (ids(found), found.whole) == (["a"], True)


def test_a_topic_without_messages_is_left_out() -> None:
    assert ids(merged([MissedPart([topic("a", 1), topic("b", 2, b"b1")], True)], 10, BYTES)) == ["b"]


def _parts() -> st.SearchStrategy[list[MissedPart]]:
    """Parts of different topics: each as an owner gives it, by time and id."""

    def part(at: int, times: list[tuple[int, int]], whole: bool) -> MissedPart:
        topics = [
            topic(f"{at}-{n}", ts, *(b"%d-%d-%d" % (at, n, seq) for seq in range(count)))
            for n, (ts, count) in enumerate(times)
        ]
        return MissedPart(sorted(topics, key=lambda t: (t.first_ts, t.topic_id)), whole)

    times = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), max_size=4)
    one = st.tuples(times, st.booleans())
    return st.lists(one, max_size=4).map(
        lambda found: [part(at, times, whole) for at, (times, whole) in enumerate(found)]
    )


@given(_parts(), st.integers(1, 12), st.integers(1, 40))
def test_merging_one_after_the_other_is_merging_all_at_once(parts: list[MissedPart], limit: int, size: int) -> None:
    at_once = merged(parts, limit, size)
    one_by_one = NOTHING
    for part in parts:
        one_by_one = merged([one_by_one, part], limit, size)
    assert frames_of(one_by_one) == frames_of(at_once)
    assert one_by_one.whole == at_once.whole


@given(_parts(), st.integers(1, 12), st.integers(1, 40))
def test_what_is_given_is_the_beginning_of_all_and_whole_means_all(
    parts: list[MissedPart], limit: int, size: int
) -> None:
    found = merged(parts, limit, size)
    everything = sorted((t for part in parts for t in part.topics), key=lambda t: (t.first_ts, t.topic_id))
    frames = [frame for t in everything for frame in t.frames]
    given_ = frames_of(found)
    assert given_ == frames[: len(given_)]
    assert len(given_) <= limit
    assert given_ or not frames
    if found.whole:
        assert given_ == frames
        assert all(part.whole or not part.topics for part in parts)
