"""Tallies of topics: they stand in the rows, belong to one epoch, and make a row differ from its snapshot."""

from dispatcher.topic_tallies import TopicTallies
from headgate.core.sequencer.rows import Row, Tally
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_stats import TopEntry, TopicDelivered, TopicPublishes, TopLists

KEY = topic_key("t")
NOW = 1_800_000_000_000


class Bed:
    def __init__(self) -> None:
        self.row = Row("t", 7, 0, "t", "PUBLIC", "ann", 0, {})
        self.touched: list[bytes] = []
        self.tallies = TopicTallies({KEY: self.row}, self.touched.append, 3, lambda: NOW)


def test_what_is_told_is_added() -> None:
    bed = Bed()
    bed.tallies.delivered(TopicDelivered("t", 7, 10, 250, 2, 1))
    bed.tallies.delivered(TopicDelivered("t", 7, 1, 50, 1, 1))
    bed.tallies.rejected(TopicPublishes("t", 7, 3))
    bed.tallies.relayed(bed.row)
    bed.tallies.dead_lettered("t", 7)
    bed.tallies.dead_lettered("t", 7, 2)
    assert bed.row.tally == Tally(1, 11, 300, 3, 3, 3, 2)
    assert set(bed.touched) == {KEY} and len(bed.touched) == 6
    bed.tallies.tops.count_hour()
    assert bed.tallies.tops.lists == TopLists(messages=[TopEntry("t", 1)], failures=[TopEntry("t", 3)])


def test_another_epoch_and_an_unknown_topic_are_dropped() -> None:
    bed = Bed()
    bed.tallies.delivered(TopicDelivered("t", 6, 10, 0, 9))
    bed.tallies.delivered(TopicDelivered("u", 7, 10, 0, 9))
    bed.tallies.rejected(TopicPublishes("t", 8, 3))
    bed.tallies.dead_lettered("t", 8)
    assert bed.row.tally is None and not bed.touched
    bed.tallies.tops.count_hour()
    assert bed.tallies.tops.lists == TopLists()


def test_a_report_without_refusals_touches_nothing() -> None:
    bed = Bed()
    bed.tallies.rejected(TopicPublishes("t", 7, 0, 5))
    assert bed.row.tally is None and not bed.touched
