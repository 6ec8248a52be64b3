"""What is answered, waits and is never called gone while a shard's history is on its way."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence

import pytest

from dispatcher.announcements import Announcements
from dispatcher.index import HistoryIndex
from dispatcher.index_file import LogIdentity
from dispatcher.lease import Lease
from dispatcher.peer import Peer
from dispatcher.recent import ITEM_BITS, RecentMessage
from dispatcher.shard import Destination, ShardOwner
from dispatcher.shard_api import ShardApi
from dispatcher.shard_presence import ShardPresence
from dispatcher.topic_creations import TopicCreator
from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.effects import Deliver
from headgate.core.sequencer.load import Load
from headgate.core.wire import link
from headgate.core.wire.control import CONFIG_KEY, CreateTopic, encode_body
from headgate.core.wire.envelope import Item, encode_control, encode_message
from headgate.core.wire.ids import make_epoch, random_id
from headgate.core.wire.position import Position
from headgate.core.wire.records import Batch, Record
from headgate.core.wire.rights import Caller
from headgate.runtime.links.memory_link import memory_link
from headgate.runtime.metrics import Metrics
from headgate.runtime.system import SystemClock
from tests.dispatcher.bed import CONFIG, configured_shard, empty_shard, owner_of, shell_of

ANN = Caller("ann")
CLOCK = SystemClock()
EPOCH = make_epoch(1, 1)
HEAD = 100


class Far:
    """A peer that keeps what it is sent; `later` answers at once, as an idle link does, unless it is `full`."""

    def __init__(self) -> None:
        self.open = True
        self.version = link.VERSION_HIGH
        self.name = "g"
        self.congested = False
        self.backlog: dict[str, int] = {}
        self.sent: list[link.Message] = []
        self.full = False
        self.waiting: list[Callable[[], None]] | None = None
        self.behind: list[object] = []

    def send(self, message: link.Message) -> None:
        self.sent.append(message)

    def later(self, answer: Callable[[], None]) -> bool:
        if self.full:
            return False
        if self.waiting is not None:
            self.waiting.append(answer)
        else:
            answer()
        return True

    def fall_behind(self, owner: ShardOwner, route: object) -> None:
        self.behind.append(route)

    def answer(self) -> link.Message:
        return self.sent.pop(0)


def message_at(seq: int) -> Deliver:
    return Deliver("t", EPOCH, seq, 1_000 + seq, b"%016d" % seq, 0, b"frame-%d" % seq, False)


def announced() -> Announcements[Destination]:
    """Of a shard whose only gateway has said what it hosts."""
    announcements: Announcements[Destination] = Announcements(())
    announcements.heard(Far())
    return announcements


class Scene:
    """A shard with one topic of HEAD messages, seq n at offset n+1, of which only those from `here` on are known."""

    def __init__(self, here: int) -> None:
        found = empty_shard()
        made = CreateTopic(topic_id="t", name="t", permissions="PUBLIC", owner_id="ann")
        records = [
            Record(0, 1, CONFIG_KEY, encode_control(encode_body(CONFIG), 0)),
            Record(1, 1, b"t", encode_control(encode_body(made), 0, random_id(b"t", b"c" * 12))),
        ]
        assert len(list(apply_many(found.shard, found.rows, records))) == 2
        found.topics.add("t", EPOCH)
        found.rows[b"t"].seq = HEAD
        found.shard.next_offset = here + 1
        owner = self.owner = owner_of(found)
        owner.shard.next_offset = HEAD + 2
        self.history = owner.history
        for seq in range(here, HEAD + 1):
            self.history.add(seq + 1, message_at(seq))
        self.history.advance(HEAD + 2, None)
        self.history.opened(HistoryIndex(":memory:", LogIdentity("c", 1, 0)))
        self.here = here
        shell = shell_of()
        creator = TopicCreator(None, shell.clock, shell.rng, 60)  # type: ignore[arg-type]  # no topic is created here
        self.api = ShardApi(owner, shell, creator, announced(), ShardPresence(owner, shell.clock, announced()), Load())
        self.far = Far()

    def fill(self, low: int, *, last: bool = False) -> None:
        """A stretch of the rebuild: the messages from `low` on."""
        entries = [
            RecentMessage((s + 1) << ITEM_BITS, EPOCH, s, b"%016d" % s, 1_000 + s, b"frame-%d" % s)
            for s in range(low, self.here)
        ]
        assert self.history.fill(entries, 0 if last else low + 1, self.here + 1)
        self.here = low
        self.history.release([EPOCH])

    def subscribe(self, position: Position | None) -> link.Subscribed | None:
        self.api.handle(self.far, link.AskSubscribe(1, "t", ANN, position))
        return self.granted()

    def granted(self) -> link.Subscribed | None:
        if not self.far.sent:
            return None
        answer = self.far.answer()
        assert isinstance(answer, link.Subscribed)
        return answer


@pytest.mark.parametrize(
    ("position", "cursor"),
    [
        (None, 100),
        (Position("seq", EPOCH, 100), 100),
        (Position("seq", EPOCH, 60), 60),
        (Position("seq", -1, 90), 90),
        (Position("last", 0, 10), 90),
        (Position("last", 0, 50), 50),
        (Position("last", 0, 0), 100),
        (Position("ts", 0, 1_070), 69),
        (Position("ts", 0, 5_000), 100),
    ],
)
async def test_what_stands_in_the_newest_part_is_served_at_once(position: Position | None, cursor: int) -> None:
    answer = Scene(51).subscribe(position)
    assert answer is not None
    assert answer.cursor == cursor
    assert answer.reason != "expired"


@pytest.mark.parametrize(
    ("position", "low", "cursor"),
    [
        (Position("seq", EPOCH, 30), 31, 30),
        (Position("last", 0, 70), 31, 30),
        (Position("ts", 0, 1_031), 25, 30),
        (Position("earliest", 0, 0), 1, 0),
        (Position("seq", EPOCH, 0), 1, 0),
        (Position("seq", 77, 5), 1, 0),
        (Position("last", 0, 1_000), 1, 0),
    ],
)
async def test_an_older_position_waits_for_its_own_part_alone(position: Position, low: int, cursor: int) -> None:
    scene = Scene(51)
    assert scene.subscribe(position) is None
    scene.fill(45)
    assert scene.granted() is None
    scene.fill(low)
    assert not scene.history.complete
    answer = scene.granted()
    assert answer is not None
    assert answer.cursor == cursor


async def test_only_what_the_log_has_lost_is_called_expired() -> None:
    scene = Scene(51)
    assert scene.subscribe(Position("seq", EPOCH, 5)) is None
    scene.fill(20)
    assert scene.granted() is None
    scene.history.log_begins(21)
    answer = scene.granted()
    assert answer is not None
    assert (answer.resumed, answer.reason, answer.cursor, answer.first_seq) == (False, "expired", 19, 20)


async def test_history_says_what_it_has_and_that_it_is_not_all() -> None:
    scene = Scene(51)

    def ask(after: int = -1, limit: int = 1_000) -> link.HistoryPage:
        scene.api.handle(scene.far, link.AskHistory(1, "t", ANN, after, -1, -1, limit))
        answer = scene.far.answer()
        assert isinstance(answer, link.HistoryPage), answer
        return answer

    page = ask()
    assert (len(page.frames), page.complete, page.last_seq) == (50, False, 100)
    assert ask(after=10).complete is False, "not gone: on its way"
    scene.fill(1, last=True)
    page = ask()
    assert (len(page.frames), page.complete, page.first_seq) == (100, True, 1)


class Failing:
    """An index file that answers `good` questions and fails at the next."""

    def __init__(self, file: HistoryIndex, good: int) -> None:
        self._file = file
        self._good = good

    def __getattr__(self, name: str) -> object:
        found = getattr(self._file, name)
        if name not in ("first_seq", "seq_at", "has", "run"):
            return found
        self._good -= 1
        if self._good < 0:
            raise sqlite3.OperationalError("disk I/O error")
        return found


@pytest.mark.parametrize("retention_ms", [None, 10_000_000_000_000])
@pytest.mark.parametrize("good", range(5))
@pytest.mark.parametrize(
    "ask",
    [
        link.AskHistory(1, "t", ANN, 10, -1, -1, 10),
        link.AskHistory(1, "t", ANN, -1, -1, 1_050, 10),
        link.Fetch(1, "t", EPOCH, 10),
        link.AskSubscribe(1, "t", ANN, Position("seq", EPOCH, 10)),
        link.AskSubscribe(1, "t", ANN, Position("ts", 0, 1_050)),
        link.AskSubscribe(1, "t", ANN, Position("last", 0, 50)),
    ],
    ids=["after", "since", "fetch", "seq", "ts", "last"],
)
async def test_a_fault_of_the_file_in_the_middle_of_an_answer_calls_nothing_gone_and_skips_nothing(
    ask: link.AskHistory | link.Fetch | link.AskSubscribe, good: int, retention_ms: int | None
) -> None:
    scene = Scene(here=1)
    scene.owner.rows[b"t"].settings = {} if retention_ms is None else {"retention_ms": retention_ms}
    while scene.history.write():
        pass
    scene.fill(1, last=True)
    assert scene.history.complete
    scene.history.file = Failing(scene.history.file, good)  # type: ignore[assignment, arg-type]
    scene.api.handle(scene.far, ask)
    if not scene.far.sent:
        return  # it waits
    answer = scene.far.answer()
    if isinstance(answer, link.HistoryPage):
        assert not answer.complete or (answer.first_seq == 1 and len(answer.frames) == 10)
    elif isinstance(answer, link.Page):
        assert answer.first_seq <= 11
        assert answer.seq == 11
        assert answer.frames
    else:
        assert isinstance(answer, link.Subscribed)
        assert answer.resumed is not False
        assert answer.cursor == {"seq": 10, "ts": 49, "last": 50}[ask.position[0]]  # type: ignore[union-attr, index]


async def test_a_page_that_is_on_its_way_waits_and_comes_without_a_hole() -> None:
    scene = Scene(51)
    ask: Callable[[int], link.Fetch] = lambda after: link.Fetch(1, "t", EPOCH, after)  # noqa: E731
    scene.api.handle(scene.far, ask(60))
    page = scene.far.answer()
    assert isinstance(page, link.Page)
    assert (page.seq, len(page.frames)) == (61, 40)
    scene.api.handle(scene.far, ask(30))
    assert scene.far.sent == []
    scene.fill(31)
    page = scene.far.answer()
    assert isinstance(page, link.Page)
    assert (page.seq, len(page.frames), page.first_seq) == (31, 70, 31)


async def test_a_page_read_from_the_log_waits_for_room_on_its_link_like_any_large_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(here=1)
    file = scene.history.file
    assert file is not None
    file._bound = 0
    while scene.history.write() or scene.history.tidy():
        pass
    wanted: list[tuple[Sequence[tuple[int, int]], Callable[[], None]]] = []
    waits: list[Callable[[], None]] = []
    scene.far.waiting = waits
    monkeypatch.setattr(scene.owner.pages, "want", lambda row, absent, asker, again: wanted.append((absent, again)))
    ask = link.AskHistory(1, "t", ANN, 10, -1, -1, 10)
    scene.api.handle(scene.far, ask)
    absent, again = wanted.pop()
    for pos, seq in absent:
        scene.history.loaded(pos, b"frame-%d" % seq)
    again()
    assert (len(waits), scene.far.sent) == (1, [])
    waits.pop()()
    answer = scene.far.answer()
    assert isinstance(answer, link.HistoryPage)
    assert answer.frames == [b"frame-%d" % seq for seq in range(11, 21)]


async def test_nothing_is_kept_for_a_link_that_has_closed() -> None:
    scene = Scene(51)
    assert scene.subscribe(Position("earliest", 0, 0)) is None
    scene.api.handle(scene.far, link.AskVerdict(2, 0, 10_000))
    scene.api.handle(scene.far, link.Attach(0, True, True, [link.AttachTopic("x", make_epoch(1, 9_000), 0, 1)]))
    scene.far.sent.clear()
    scene.far.open = False
    scene.owner.left(scene.far)
    scene.fill(1, last=True)
    assert scene.far.sent == []
    assert scene.history._waiters == 0
    assert scene.owner.arrivals.due(1 << 40) == []
    assert scene.owner.verdicts._waiting == 0


async def test_no_topic_is_called_ended_before_its_create_was_read() -> None:
    """`Ended` sent for a topic whose create has not been read yet would end a subscription that stands."""
    scene = Scene(1)
    offset = HEAD + 2
    epoch = make_epoch(1, offset)
    scene.api.handle(scene.far, link.Attach(0, True, True, [link.AttachTopic("new", epoch, 0, 2)]))
    assert [type(m) for m in scene.far.sent] == [link.Attached]
    scene.api.handle(scene.far, link.Leave("new", epoch))
    made = CreateTopic(topic_id="new", name="n", permissions="PUBLIC", owner_id="ann")
    scene.owner.take([Record(offset, 1, b"new", encode_control(encode_body(made), 0, random_id(b"new", b"d" * 12)))])
    assert scene.owner.routes.count("new") == 1
    assert not any(isinstance(m, link.Ended) for m in scene.far.sent)
    gone = make_epoch(1, offset + 1)
    scene.api.handle(scene.far, link.Attach(0, False, True, [link.AttachTopic("never", gone, 0, 1)]))
    item = Item(random_id(b"t", b"e" * 12), 0, b'"message_id":"x","publisher_id":"p","payload":1}')
    scene.owner.take([Record(offset + 1, 1, b"t", encode_message(item, EPOCH))])
    assert [m.topic_id for m in scene.far.sent if isinstance(m, link.Ended)] == ["never"]


async def test_a_route_that_is_behind_waits_for_the_rebuild_and_skips_nothing() -> None:
    scene = Scene(51)
    near, wire = memory_link()
    got: list[link.Message] = []
    near.deliver_to(got.extend)
    peer = Peer(wire, Lease(CLOCK), Metrics({"dispatcher"}))
    pump = asyncio.create_task(peer.pump())
    scene.owner.attach(peer, link.AttachTopic("t", EPOCH, 20, 1))

    def seqs() -> list[int]:
        return [m.seq + n for m in got if isinstance(m, link.Messages) for n in range(len(m.frames))]

    await asyncio.sleep(0.02)
    assert seqs() == []
    scene.fill(40)
    await asyncio.sleep(0.02)
    assert seqs() == []
    scene.fill(21)
    async with asyncio.timeout(5):
        while len(seqs()) < 80:
            await asyncio.sleep(0.01)
    assert seqs() == list(range(21, 101))
    pump.cancel()


async def test_a_log_that_is_silent_makes_no_shard_live() -> None:
    """A shard that is live before it has caught up would call a good position `ahead`."""
    owner = owner_of(configured_shard(end=10_000))
    assert not any(
        owner._reaches_end(Batch([], 200, 10_000, stable)) for stable in (None, 10_000, 10_500) for _ in "12345"
    )
    assert owner._reaches_end(Batch([], 10_000, 10_500, 10_500))


async def test_a_shard_behind_an_open_foreign_transaction_is_live_where_it_can_read_no_further() -> None:
    owner = owner_of(configured_shard(end=10_000))
    assert not owner._reaches_end(Batch([], 9_000, 10_000, 9_500))
    assert owner._reaches_end(Batch([], 9_500, 10_000, 9_500))
