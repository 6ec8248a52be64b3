"""The largest backlogs: found in a round over all users, in steps, and smaller again once they were read."""

from headgate.core.inbox.inbox_pages import SLICE_TOPICS
from headgate.core.inbox.top_backlogs import TOP, TopBacklogs
from headgate.core.wire.inbox_record import HeadEntry
from headgate.core.wire.link_inbox import ReadMark
from tests.core.inbox.inbox_log import heads, joined, left, marks, users_of


def test_the_most_is_what_the_user_with_the_most_has_not_read_in_all_his_topics() -> None:
    users = users_of(
        *[joined(f"u{n}", "a", n=n) for n in range(3 * TOP)],
        *[joined("u7", "b"), joined("u9", "c"), left("u9", "c")],
        heads(HeadEntry("a", 5, 40, 40), HeadEntry("b", 5, 30, 30), HeadEntry("c", 5, 99, 99)),
    )
    backlogs = TopBacklogs(users)
    assert backlogs.most == 0
    assert list(backlogs.round()) == [] and backlogs.most == 33 + 30
    users.apply(marks(ReadMark("u7", "a", 5, 40, 40), ReadMark("u7", "b", 5, 30, 30)))
    list(backlogs.round())
    assert backlogs.most == 40, "u0 is the next"
    users.apply(heads(HeadEntry("a", 5, 40, 40, gone=True)))
    list(backlogs.round())
    assert backlogs.most == 0


def test_a_round_is_made_in_steps() -> None:
    topics = [f"t{n}" for n in range(3 * SLICE_TOPICS)]
    users = users_of(
        *[joined("bob", topic) for topic in topics],
        *[joined(f"u{n}", "t0") for n in range(SLICE_TOPICS)],
        *[heads(HeadEntry(topic, 5, 2, 2)) for topic in topics],
    )
    backlogs = TopBacklogs(users)
    assert len(list(backlogs.round())) == 4 and backlogs.most == 2 * len(topics)
