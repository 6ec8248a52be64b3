"""Missing messages, on values: when the owner is asked, what its page means, and when it has lost them."""

from headgate.core.fanout.feed import Feed
from headgate.core.fanout.gap_repair import MAX_TRIES, GapRepair, Repair
from headgate.core.fanout.session import TopicFeed
from headgate.core.wire.link import Page, Refused
from tests.core.scene import Scene

EPOCH = 7


def feed(head: int = 4, hole: int = 9) -> TopicFeed:
    made: TopicFeed = Feed("a", 3, EPOCH, head, {"profile": "durable"})
    made.hole = hole
    return made


def page(seq: int, count: int, first_seq: int = 1, epoch: int = EPOCH) -> Page:
    return Page(1, "a", epoch, first_seq, seq, [0] * count, [b"m"] * count)


def asked(linked: bool = True) -> tuple[GapRepair, TopicFeed]:
    repair, holed = GapRepair(lambda shard: linked), feed()
    assert repair.ask(holed) is linked
    return repair, holed


def test_one_request_at_a_time() -> None:
    repair, holed = asked()
    assert not repair.ask(holed)
    repair.answered(holed, Refused(1, "not_ready", "away"))
    assert repair.ask(holed)


def test_without_an_owner_nothing_is_asked_until_it_is_linked() -> None:
    linked = {3: False}
    repair, holed = GapRepair(linked.__getitem__), feed()
    assert not repair.ask(holed) and repair.due() == [holed]
    linked[3] = True
    assert repair.ask(holed)


def test_a_page_that_continues_the_feed_is_taken_and_loses_nothing() -> None:
    repair, holed = asked()
    found = page(5, 3)
    assert repair.answered(holed, found) == Repair(None, found)


def test_what_lies_below_the_oldest_message_kept_is_lost() -> None:
    repair, holed = asked()
    found = page(7, 3, first_seq=7)
    assert repair.answered(holed, found) == Repair(7, found)
    empty = page(5, 0, first_seq=12)
    assert repair.answered(holed, empty) == Repair(12, empty), "an empty page names the oldest in first_seq"


def test_one_message_that_is_lost_is_lost() -> None:
    repair, holed = asked()
    found = page(6, 3, first_seq=6)
    assert repair.answered(holed, found) == Repair(6, found)


def test_an_empty_page_loses_nothing_before_the_tenth() -> None:
    repair, holed = asked()
    empty = page(5, 0)
    for _ in range(MAX_TRIES - 1):
        assert repair.answered(holed, empty) == Repair(None, empty)
        assert repair.ask(holed)
    assert repair.answered(holed, empty) == Repair(holed.hole + 1, empty)


def test_only_empty_pages_count_as_tries() -> None:
    repair, holed = asked()
    full, empty = page(5, 1), page(5, 0)
    for _ in range(2 * MAX_TRIES):
        assert repair.answered(holed, full) == Repair(None, full), "pages that bring something are no failed try"
    assert repair.answered(holed, empty) == Repair(None, empty)


def test_progress_begins_the_count_of_empty_pages_anew() -> None:
    repair, holed = asked()
    empty = page(5, 0)
    for _ in range(MAX_TRIES - 1):
        repair.answered(holed, empty)
    assert repair.moved(holed), "messages are still missing"
    assert repair.answered(holed, empty) == Repair(None, empty)


def test_answers_of_another_epoch_refusals_and_late_answers_mean_nothing() -> None:
    repair, holed = asked()
    assert repair.answered(holed, page(5, 3, epoch=EPOCH + 1)) is None
    assert repair.answered(holed, Refused(1, "not_ready", "away")) is None
    holed.append(5, [0] * 5, [b"m"] * 5)
    assert repair.answered(holed, page(5, 5)) is None, "the messages came meanwhile"
    assert not repair.moved(holed) and repair.due() == []


def test_a_feed_that_ended_is_forgotten() -> None:
    repair, holed = asked()
    repair.forget(holed)
    assert repair.due() == [] and repair.answered(holed, page(5, 3)) is None and not repair.moved(holed)


def test_the_hub_tells_the_gap_after_ten_empty_pages_and_not_before() -> None:
    scene = Scene()
    scene.owners.create("a")
    socket = scene.socket("a")
    scene.owners.lose = True
    scene.publish("a", 1, 2)
    topic = scene.owners.topics["a"]
    topic.frames, topic.ts, topic.first_seq = [], [], 1  # its history has none of them and names no oldest
    scene.owners.lose = False
    scene.hub.feeds["a"].hole = 2
    scene.hub._input._repair(scene.hub.feeds["a"])
    scene.pass_time(MAX_TRIES - 2)
    assert socket.frames("gap") == []
    scene.pass_time(3)
    (gap,) = socket.frames("gap")
    assert (gap["from_seq"], gap["to_seq"], gap["reason"]) == (1, 2, "retention")


def test_who_is_parked_by_the_gap_frame_is_told_once() -> None:
    scene = Scene()
    scene.owners.create("a")
    socket = scene.socket("a")
    scene.publish("a", 1)
    scene.turn()
    scene.owners.lose = True
    scene.publish("a", 2, 3)
    scene.owners.lose = False
    scene.owners.forget("a", 4)
    socket.stuck = True
    socket.waiting = scene.hub.limits.high_water  # the next byte parks it
    scene.publish("a", 4)
    assert socket.paused
    socket.stuck = False
    socket.drain()
    scene.turn()
    assert [(gap["from_seq"], gap["to_seq"]) for gap in socket.frames("gap")] == [(2, 3)]
    assert socket.seqs() == [1, 4]
