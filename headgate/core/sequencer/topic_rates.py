"""How fast each topic of a shard grows against its `rate_limit`, and for how long the ingests have to refuse it.

Records of the log are counted by their append times, not by their arrival: a backlog that is read at once is no burst,
and a new owner, which reads the same records again, comes to the same levels. Only differences between the append times
of one log are used, so the brokers' clocks need not agree with this one. Messages that are relayed are counted as they
come. Nothing here is in a snapshot: what is lost costs one more burst.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from headgate.core.sequencer.rows import Row
from headgate.core.wire.envelope import is_metered
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_users import Throttle
from headgate.core.wire.records import Record
from headgate.core.wire.token_buckets import Rate, TopicBuckets, topic_rates

WINDOW_MS: Final = 250  # of log time: records are summed up for so long before their topics are charged
WINDOW_TOPICS: Final = 2_000  # or until so many topics are to be charged: 5 ms
CLOCK_BACK_MS: Final = 1_000  # append times that fall by more: another broker's clock counts from there on
MAX_TOPICS: Final = 20_000  # of one shard, whose levels are known; also of those that ingests are to be told
MAX_FOR_S: Final = 3_600.0  # the longest refusal that ingests are told
CAUGHT_UP_S: Final = 0.5  # log time that ran ahead of the clock by more: a backlog was read
SAME_S: Final = 0.05  # a refusal that ends so close to the one that ingests were told is not told again


class TopicRates:
    """The rates of one shard's topics. `now` is monotonic seconds of this process; `rows` are by topic key."""

    def __init__(self, rows: Mapping[bytes, Row], usual_per_s: float) -> None:
        """`usual_per_s`: the rate of topics that set none."""
        self._rows = rows
        self._buckets = TopicBuckets(usual_per_s, MAX_TOPICS)
        self._counts: dict[bytes, int] = {}  # messages since `_began_ms`, by topic key
        self._log_ms = 0  # the log's time, moved by the differences between append times
        self._began_ms = 0
        self._ts = 0  # the newest record's append time
        self._read_at = 0.0  # when it was read
        self._ahead_s = 0.0  # log time minus the clock's, when ingests were told last
        self._pending: OrderedDict[str, bool] = OrderedDict()  # topics to be told, if it is news; True: in any case
        self._told: OrderedDict[str, float] = OrderedDict()  # until when ingests refuse a topic, as they were told

    def count(self, record: Record, numbered: int) -> None:
        """Counts the messages of a record that got a number. Those of callers without rates are not counted."""
        if record.ts != self._ts:
            self._pass(record.ts)
        if is_metered(record.value or b""):
            key = record.key or b""
            found = self._counts.get(key)
            if found is None:
                if len(self._counts) >= WINDOW_TOPICS:
                    self._settle()
                found = 0
            self._counts[key] = found + numbered

    def read(self, ts: int, now: float) -> None:
        """Notes that the log has been read up to a record of this append time."""
        self._pass(ts)
        self._read_at = now

    def relay(self, row: Row, now: float) -> float:
        """Counts a message that is about to be relayed.

        Returns 0, or the seconds until there is a token: then it is not counted and must be refused.
        """
        rates = self._rates(row)
        wait = self._buckets.wait(row.topic_id, rates, now)
        if not wait:
            self._buckets.take(row.topic_id, rates, now)
            if not self._buckets.wait(row.topic_id, rates, now):
                return 0.0
        self._may_tell(row.topic_id)
        return wait

    def updated(self, topic_id: str) -> None:
        """The topic's settings may be others: ingests are told anew, also that it is no longer refused."""
        self._may_tell(topic_id, in_any_case=True)

    def deleted(self, topic_id: str) -> None:
        """The topic is gone: one that gets its id later has full buckets."""
        self._counts.pop(topic_key(topic_id), None)
        self._buckets.forget(topic_id)
        self._may_tell(topic_id, in_any_case=True)

    def tell_again(self, now: float) -> None:
        """Tells anew of all topics that are refused: there is an ingest that was not told."""
        self._look_again(now, in_any_case=True)

    def due(self, now: float, most: int) -> list[Throttle]:
        """Returns what ingests have to be told now, of at most `most` topics; the others stay due."""
        self._settle()
        ahead_s = self._log_now(now) - now
        if ahead_s > self._ahead_s + CAUGHT_UP_S:  # what was told in a backlog is too long now
            self._look_again(now, in_any_case=False)
        self._ahead_s = ahead_s
        due: list[Throttle] = []
        for _ in range(min(most, len(self._pending))):
            topic_id, in_any_case = self._pending.popitem(last=False)
            wait = self._wait(topic_id, now)
            told = self._told.get(topic_id, now)
            if in_any_case or abs(max(told, now) - now - wait) > SAME_S:
                due.append(Throttle(topic_id, round(1_000 * wait)))
                self._note_told(topic_id, now + wait, is_refused=wait > 0)
        return due

    def _pass(self, ts: int) -> None:
        """Moves log time to a record's append time. Where a window ends, its topics are charged first."""
        step = ts - self._ts
        if step > 0:
            if self._log_ms + step - self._began_ms >= WINDOW_MS:
                self._settle()
                self._began_ms = self._log_ms + step
            self._log_ms += step
            self._ts = ts
        elif step < -CLOCK_BACK_MS:
            self._ts = ts

    def _settle(self) -> None:
        """Charges the topics that were counted."""
        at = self._log_ms / 1_000
        for key, count in self._counts.items():
            row = self._rows.get(key)
            if row is None:
                continue
            rates = self._rates(row)
            self._buckets.take(row.topic_id, rates, at, count)
            if self._buckets.wait(row.topic_id, rates, at):
                self._may_tell(row.topic_id)
        self._counts.clear()

    def _look_again(self, now: float, *, in_any_case: bool) -> None:
        for topic_id, until in self._told.items():
            if until > now:
                self._may_tell(topic_id, in_any_case=in_any_case)

    def _may_tell(self, topic_id: str, *, in_any_case: bool = False) -> None:
        self._pending[topic_id] = in_any_case or self._pending.get(topic_id, False)
        if len(self._pending) > MAX_TOPICS:  # the oldest goes, as its bucket does
            self._pending.popitem(last=False)

    def _note_told(self, topic_id: str, until: float, *, is_refused: bool) -> None:
        self._told.pop(topic_id, None)
        if is_refused:
            self._told[topic_id] = until
            if len(self._told) > MAX_TOPICS:
                self._told.popitem(last=False)

    def _wait(self, topic_id: str, now: float) -> float:
        row = self._rows.get(topic_key(topic_id))
        if row is None:
            return 0.0
        at = now if row.ephemeral else self._log_now(now)
        return min(self._buckets.wait(topic_id, self._rates(row), at), MAX_FOR_S)

    def _log_now(self, now: float) -> float:
        return self._log_ms / 1_000 + max(0.0, now - self._read_at)

    def _rates(self, row: Row) -> tuple[Rate, ...]:
        limit = row.settings.get("rate_limit")
        return self._buckets.usual if limit is None else topic_rates(limit)
