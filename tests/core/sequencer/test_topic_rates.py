"""The rates of a shard's topics: by append times, told once, within bounds, whatever the brokers' clocks do."""

import pytest

from headgate.core.sequencer import topic_rates
from headgate.core.sequencer.rows import Row
from headgate.core.sequencer.topic_rates import MAX_FOR_S, MAX_TOPICS, TopicRates
from headgate.core.wire.envelope import UNMETERED, Item, encode_bundle, encode_message
from headgate.core.wire.link_users import Throttle
from headgate.core.wire.records import Record

START_MS = 1_700_000_000_000
NOW = 50.0  # of this process, when the first record was read
MOST = 1_000


class Bed:
    """One shard; records are appended and read at the same moment, unless a test says otherwise."""

    def __init__(self, usual_per_s: float = 100) -> None:
        self.rows: dict[bytes, Row] = {}
        self.rates = TopicRates(self.rows, usual_per_s)

    def topic(self, topic_id: str, **settings: object) -> Row:
        row = Row(topic_id, 1, 0, topic_id, "PUBLIC", "ana", 0, dict(settings))
        self.rows[topic_id.encode()] = row
        return row

    def append(self, topic_id: str, at_s: float, count: int = 1, value: bytes | None = None) -> None:
        value = encode_message(Item(bytes(16), 0, b"1}"), 1) if value is None else value
        self.rates.count(Record(1, START_MS + round(1_000 * at_s), topic_id.encode(), value), count)

    def read(self, at_s: float, late_s: float = 0.0) -> None:
        self.rates.read(START_MS + round(1_000 * at_s), NOW + at_s + late_s)

    def due(self, at_s: float, most: int = MOST) -> dict[str, int]:
        return {told.topic_id: told.for_ms for told in self.rates.due(NOW + at_s, most)}


def limit(per_s: float, burst: int, per_min: int | None = None) -> dict[str, object]:
    return {"rate_limit": {"per_s": per_s, "burst": burst} | ({} if per_min is None else {"per_min": per_min})}


def test_a_topic_above_its_rate_is_told_once_with_the_time_that_it_takes() -> None:
    bed = Bed()
    bed.topic("t", **limit(10, 20))
    bed.topic("calm", **limit(10, 20))
    bed.append("t", 0, 30)
    bed.append("calm", 0, 19)
    bed.read(0)
    assert bed.due(0) == {"t": 1_100}, "ten are owed, and one must be there"
    assert bed.due(0.25) == {}
    bed.append("t", 0.5, 1)
    bed.read(0.5)
    assert bed.due(0.5) == {"t": 700}, "more came in: until 100 ms later than was told"
    assert bed.due(5) == {}


def test_messages_of_one_window_are_charged_at_its_end() -> None:
    bed = Bed()
    bed.topic("t", **limit(10, 20))
    bed.append("t", 0, 30)
    bed.append("t", topic_rates.WINDOW_MS / 1_000, 1)  # the next window begins: ten are owed since 250 ms
    bed.read(0.25)
    assert bed.due(0.25) == {"t": 950}


def test_a_millisecond_of_log_time_counts() -> None:
    bed = Bed()
    bed.topic("t", **limit(1_000, 1))
    bed.append("t", 0, 101)
    bed.read(0)
    assert bed.due(0) == {"t": 101}
    bed.append("t", 0.001, 100)
    bed.read(0.001)
    assert bed.due(0.001) == {"t": 200}, "201 are owed, and one has come"


def test_a_record_of_no_topic_stops_no_other() -> None:
    bed = Bed()
    bed.topic("t", **limit(10, 20))
    bed.append("none", 0, 30)
    bed.append("t", 0, 30)
    bed.read(0)
    assert bed.due(0) == {"t": 1_100}


def test_topics_without_a_rate_of_their_own_have_the_usual() -> None:
    bed = Bed(usual_per_s=5)
    bed.topic("t")
    bed.append("t", 0, 10)
    bed.read(0)
    assert bed.due(0) == {"t": 200}


def test_a_minutes_rate_holds_beside_the_seconds() -> None:
    bed = Bed()
    bed.topic("t", **limit(100, 100, per_min=60))
    bed.append("t", 0, 62)
    bed.read(0)
    assert bed.due(0) == {"t": 3_000}


@pytest.mark.parametrize("value", [b'{"foreign":1}', encode_message(Item(bytes(16), UNMETERED, b"1}"), 1),
                                   encode_bundle([Item(bytes(16), UNMETERED, b"1}")], 1, UNMETERED)])  # fmt: skip
def test_what_no_ingest_can_slow_down_is_not_counted(value: bytes) -> None:
    bed = Bed()
    bed.topic("t", **limit(1, 1))
    bed.append("t", 0, 1_000, value)
    bed.read(0)
    assert bed.due(0) == {}
    bed.append("t", 0, 1_000, encode_bundle([Item(bytes(16), 0, b"1}")], 1))
    assert list(bed.due(0)) == ["t"], "one of a caller with rates is"


def test_a_backlog_that_is_read_at_once_is_no_burst() -> None:
    """By arrival ten minutes of a topic within its rate would look like 6,000 messages at once."""
    bed = Bed()
    bed.topic("t", **limit(10, 5))
    for second in range(600):
        for at in (0.0, 0.3, 0.6):
            bed.append("t", second + at, 3)
    bed.read(599.6, late_s=600)
    assert bed.due(1_200) == {}


def test_what_was_told_in_the_middle_of_a_backlog_is_taken_back_behind_it() -> None:
    bed = Bed()
    bed.topic("t", **limit(1, 10))
    bed.topic("other", **limit(100, 200))
    bed.append("t", 0, 30)
    bed.read(0, late_s=60)
    assert bed.due(60) == {"t": 21_000}
    bed.append("other", 59.9)
    bed.read(59.9, late_s=0.3)
    assert bed.due(60.25) == {"t": 0}, "it was a minute ago"
    assert bed.due(61) == {}


def test_another_owner_comes_to_the_same_levels_from_the_same_records() -> None:
    waits = []
    for parts in (1, 7):
        bed = Bed()
        bed.topic("t", **limit(10, 20))
        for at in range(100):
            bed.append("t", at / 20, 2)
            if at % parts == 0:
                bed.read(at / 20)
        bed.read(99 / 20)
        waits.append(bed.due(99 / 20)["t"])
    assert waits[0] == pytest.approx(waits[1], abs=300) and waits[0] > 10_000


@pytest.mark.parametrize("jump_s", [-300.0, 300.0])
def test_a_broker_whose_clock_is_minutes_away_costs_a_burst_at_most(jump_s: float) -> None:
    bed = Bed()
    bed.topic("t", **limit(10, 20))
    for at in range(0, 100):
        bed.append("t", at / 10, 1)
    bed.read(9.9)
    bed.append("t", 10 + jump_s, 1)
    bed.rates.read(START_MS + round(1_000 * (10 + jump_s)), NOW + 10)
    assert bed.due(10) == {}
    for at in range(100, 200):
        bed.append("t", at / 10 + jump_s, 1)
    bed.rates.read(START_MS + round(1_000 * (19.9 + jump_s)), NOW + 19.9)
    assert bed.due(19.9) == {}, "the same rate goes on"


def test_append_times_that_waver_do_not_move_the_time() -> None:
    bed = Bed()
    bed.topic("t", **limit(1, 50))
    for at in range(100):
        bed.append("t", 9.5 if at % 2 else 10, 1)
    bed.read(10)
    assert bed.due(10) == {"t": 51_000}


def test_relayed_messages_are_refused_at_once_and_the_refused_do_not_count() -> None:
    bed = Bed()
    row = bed.topic("e", profile="ephemeral", **limit(2, 3))
    assert [bed.rates.relay(row, NOW) for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    assert bed.due(0) == {"e": 500}
    assert bed.rates.relay(row, NOW + 0.5) == 0


def test_relayed_messages_are_counted_by_the_clock_and_what_is_told_already_is_no_news() -> None:
    bed = Bed()
    bed.topic("t")
    bed.append("t", 0)
    bed.read(0)  # log time is Unix time: far above the clock
    row = bed.topic("e", profile="ephemeral", **limit(2, 3))
    for _ in range(4):
        bed.rates.relay(row, NOW)
    assert bed.due(0) == {"e": 500}
    assert bed.rates.relay(row, NOW + 0.1) == pytest.approx(0.4)
    assert bed.due(0.1) == {}


def test_ingests_are_told_by_the_last_token_that_is_relayed() -> None:
    bed = Bed()
    row = bed.topic("e", profile="ephemeral", **limit(2, 3))
    for told in ({}, {}, {"e": 500}):
        assert bed.rates.relay(row, NOW) == 0
        assert bed.due(0) == told


def test_a_changed_setting_is_told_in_any_case() -> None:
    bed = Bed()
    row = bed.topic("t", **limit(0.001, 1))
    bed.append("t", 0, 2)
    bed.read(0)
    assert bed.due(0)["t"] > 1_000_000
    row.settings = {"rate_limit": {"per_s": 1_000_000, "burst": 1_000_000}}
    bed.rates.updated("t")
    assert bed.due(1) == {"t": 0}
    bed.rates.updated("t")
    assert bed.due(1) == {"t": 0}, "ingests may know of another owner's refusal"
    bed.rates.tell_again(NOW + 2)
    assert bed.due(2) == {}, "it is refused no longer"


def test_a_topic_that_is_made_again_has_full_buckets() -> None:
    bed = Bed()
    bed.topic("t", **limit(0.001, 1, per_min=1))
    bed.append("t", 0, 2)
    bed.read(0)
    assert bed.due(0)["t"] > 0
    bed.append("t", 0, 5)
    del bed.rows[b"t"]
    bed.rates.deleted("t")
    assert bed.due(0) == {"t": 0}
    bed.topic("t", **limit(0.001, 1, per_min=1))
    bed.read(1)
    assert bed.due(1) == {}
    bed.append("t", 1, 1)
    bed.read(1)
    assert bed.due(1)["t"] > 0


def test_what_was_counted_for_a_deleted_topic_is_not_charged_to_the_next() -> None:
    bed = Bed()
    bed.topic("t", **limit(0.001, 1))
    bed.append("t", 0, 5)
    bed.rates.deleted("t")
    bed.topic("t", **limit(0.001, 1))
    bed.read(0)
    assert bed.due(0) == {"t": 0}


def test_a_change_is_told_also_where_messages_come_before_the_telling() -> None:
    bed = Bed()
    row = bed.topic("e", profile="ephemeral", **limit(1, 1))
    bed.rates.updated("e")
    bed.rates.relay(row, NOW)
    assert bed.due(1) == {"e": 0}


def test_a_new_ingest_is_told_what_is_still_refused() -> None:
    bed = Bed()
    for topic_id, count in (("long", 40), ("short", 21)):
        bed.topic(topic_id, **limit(10, 20))
        bed.append(topic_id, 0, count)
    bed.read(0)
    assert bed.due(0) == {"long": 2_100, "short": 200}
    bed.rates.tell_again(NOW + 0.2)
    assert bed.due(0.2) == {"long": 1_900}, "the short refusal is over"
    bed.rates.tell_again(NOW + 1)
    assert bed.due(1) == {"long": 1_100}


def test_the_longest_refusal_is_bounded_and_so_is_what_a_topic_owes() -> None:
    bed = Bed()
    bed.topic("slow", **limit(0.001, 1))
    bed.topic("fast", **limit(100, 200))
    for topic_id in ("slow", "fast"):
        bed.append(topic_id, 0, 1_000_000)
    bed.read(0)
    assert bed.due(0) == {"slow": MAX_FOR_S * 1_000, "fast": 60_010}


def test_a_hundred_thousand_throttled_topics_are_bounded_and_told_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_rates, "MAX_TOPICS", 2_000)
    bed = Bed()
    for n in range(10_000):
        bed.topic(f"t{n}", **limit(0.001, 1))
        bed.append(f"t{n}", 0, 1)
    bed.read(0)
    told: set[str] = set()
    for tick in range(100):
        due = bed.due(tick / 4, 100)
        assert len(due) <= 100
        told |= due.keys()
    assert len(told) == 2_000
    for n in range(5_000):
        bed.append(f"t{n}", 1, 1)
        if n % 100 == 0:
            bed.read(1)
            bed.due(30, 10_000)
    assert len(bed.rates._told) <= 2_000 and len(bed.rates._counts) <= topic_rates.WINDOW_TOPICS


def test_of_too_many_refused_topics_the_ones_told_last_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_rates, "MAX_TOPICS", 2)
    bed = Bed()
    for at, topic_id in enumerate("abc"):
        bed.topic(topic_id, **limit(0.001, 1))
        bed.append(topic_id, at, 2)
        bed.read(at)
        assert list(bed.due(at)) == [topic_id]
    bed.rates.tell_again(NOW + 3)
    assert sorted(bed.due(3)) == ["b", "c"]


def test_topics_of_one_moment_are_charged_in_parts() -> None:
    bed = Bed()
    for n in range(2 * topic_rates.WINDOW_TOPICS):
        bed.append(f"t{n}", 0, 1)
        assert len(bed.rates._counts) <= topic_rates.WINDOW_TOPICS


def test_the_bounds_are_those_of_a_shard() -> None:
    bed = Bed()
    for n in range(MAX_TOPICS + 500):
        bed.topic(f"t{n}", **limit(0.001, 1))
        bed.rates.updated(f"t{n}")
    assert len(bed.due(0, 10 * MAX_TOPICS)) == MAX_TOPICS
    assert bed.rates.due(NOW, MOST) == list[Throttle]()
