"""Topics created for subscribers: their record, their rate, and who is called back."""

import asyncio

import pytest

from dispatcher.topic_creations import PendingTopics, TopicCreator
from headgate.core.wire.control import CreateTopic, decode_body
from headgate.core.wire.envelope import decode
from headgate.core.wire.errors import Refusal
from headgate.core.wire.records import Appended, LogName
from headgate.core.wire.rights import Caller
from headgate.runtime.ports import LogUnavailable
from headgate.runtime.system import SystemRng


class Asker:
    open = True


class Clock:
    seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return 0


class Appends:
    """A log that keeps what is appended and lets the test answer."""

    def __init__(self) -> None:
        self.records: list[tuple[LogName, int, bytes, bytes]] = []
        self.answers: list[asyncio.Future[Appended]] = []

    def append(self, log: LogName, shard: int, key: bytes, value: bytes) -> "asyncio.Future[Appended]":
        self.records.append((log, shard, key, value))
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]


def creator_on(log: Appends, clock: Clock, per_min: float) -> TopicCreator:
    return TopicCreator(log, clock, SystemRng(), per_min)  # type: ignore[arg-type]  # only appends


async def test_the_subscriber_owns_the_topic_that_is_created_for_it() -> None:
    log = Appends()
    creator_on(log, Clock(), 60).create(2, "t", Caller("ann"), lambda: None)
    ((name, shard, key, value),) = log.records
    assert (name, shard, key) == (LogName.MESSAGES, 2, b"t")
    body = decode_body(decode(value).body)
    assert body == CreateTopic(topic_id="t", name="t", permissions="PUBLIC", owner_id="ann")


async def test_it_has_the_profile_of_topics_that_name_none() -> None:
    log = Appends()
    creator = TopicCreator(log, Clock(), SystemRng(), 60, "ephemeral")  # type: ignore[arg-type]  # only appends
    creator.create(2, "t", Caller("ann"), lambda: None)
    assert decode_body(decode(log.records[0][3]).body) == CreateTopic(
        "t", "t", "PUBLIC", "ann", {"profile": "ephemeral"}
    )


@pytest.mark.parametrize("fails", [True, False])
async def test_only_a_record_that_did_not_reach_the_log_is_reported(fails: bool) -> None:
    log = Appends()
    failures: list[None] = []
    creator_on(log, Clock(), 60).create(0, "t", Caller("ann"), lambda: failures.append(None))
    if fails:
        log.answers[0].set_exception(LogUnavailable("away"))
    else:
        log.answers[0].set_result(Appended(1, 1))
    await asyncio.sleep(0)
    assert len(failures) == int(fails)


async def test_a_user_creates_so_many_topics_a_minute_and_a_service_any_number() -> None:
    log, clock = Appends(), Clock()
    creator = creator_on(log, clock, 2)
    for topic in ("a", "b"):
        creator.create(0, topic, Caller("ann"), lambda: None)
    with pytest.raises(Refusal, match="rate_limited") as refused:
        creator.create(0, "c", Caller("ann"), lambda: None)
    assert refused.value.retry_after_ms == 30_001
    assert len(log.records) == 2
    creator.create(0, "c", Caller("bob"), lambda: None)
    clock.seconds = 30.1
    creator.create(0, "d", Caller("ann"), lambda: None)
    for number in range(10):
        creator.create(0, f"s{number}", Caller("svc", service=True), lambda: None)
    assert len(log.records) == 14


def test_who_waits_is_called_once_and_one_that_left_never() -> None:
    pending = PendingTopics()
    heard: list[tuple[str, bool]] = []
    stays, leaves, closed = Asker(), Asker(), Asker()
    for name, asker in (("stays", stays), ("leaves", leaves), ("closed", closed)):
        pending.wait("t", asker, lambda exists, name=name: heard.append((name, exists)))  # type: ignore[misc]
    pending.wait("other", stays, lambda exists: heard.append(("other", exists)))
    assert "t" in pending
    assert "unknown" not in pending
    pending.left(leaves)
    closed.open = False
    pending.decided("t", exists=False)
    assert heard == [("stays", False)]
    assert "t" not in pending
    pending.decided("t", exists=True)
    assert heard == [("stays", False)]
    pending.decided("other", exists=True)
    assert heard[-1] == ("other", True)
