"""Ingest on an in-memory log and an honest owner of every shard: it applies what stands in the log, on virtual time."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from headgate.core.sequencer.apply import apply
from headgate.core.sequencer.effects import Deliver, Effect, MessageChanged, TopicCreated, TopicDeleted, Unusable
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.topic_changes import MemberChanged, TopicUpdated
from headgate.core.wire import (
    link,
    link_deliveries,
    link_direct,
    link_ephemeral,
    link_members,
    link_messages,
    link_presence,
    link_stats,
    link_users,
    topic_settings,
)
from headgate.core.wire.control import LOGIC
from headgate.core.wire.errors import Refusal
from headgate.core.wire.frames import ephemeral_frame
from headgate.core.wire.ids import shard_of, topic_key
from headgate.core.wire.member_roles import Role
from headgate.core.wire.records import Appended, LogName
from headgate.core.wire.revoked_tokens import read_record
from headgate.core.wire.rights import (
    Caller,
    may_administer,
    may_inspect,
    may_know_presence,
    may_see,
    may_subscribe,
    require,
    unknown_topic,
)
from headgate.core.wire.verdict import Verdict
from headgate.runtime.appender import Appender
from headgate.runtime.links.memory_directory import MemoryDirectory
from headgate.runtime.links.port import OnAnswer
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.ports import Shell
from headgate.runtime.testing.faulty_log import FaultyLog
from headgate.runtime.tokens import Authenticator, TokenKey, mint
from ingest.service import IngestOptions, IngestService
from tests.contract.virtual import SeededRng, VirtualLoop, run
from tests.integration.message_book import MessageBook, cut

SECRET = "a secret of at least thirty-two bytes"


class Owner:
    """Owns every shard of a memory store: reads the log as questions come, and answers as PROTOCOL says."""

    def __init__(self, store: MemoryStore, logic: int = LOGIC) -> None:
        self.store = store
        self.logic = logic  # raised as by a Logic record behind the config record
        self.states = [Shard() for _ in range(store.shards)]
        self.next = [store.parts[LogName.MESSAGES, shard].first for shard in range(store.shards)]
        self.rows: list[dict[bytes, Row]] = [{} for _ in range(store.shards)]
        self.verdicts: dict[tuple[int, int], list[Verdict]] = {}
        self.frames: dict[str, list[Deliver]] = {}
        self.book = MessageBook(self)
        self.dead_letters: list[Unusable] = []
        self.counts, self.relayed = dict[str, int](), list[bytes]()
        self.changed: Callable[[str, str], None] = lambda topic_id, user_id: None
        self.connections: list[link_users.Connection] = []
        self.sheds = False  # LOW messages
        self.delivered = 0  # how many sockets take each message that is counted
        self.expected: Counter[bytes] = Counter()  # messages that are counted now
        self.waits_ms = list[int]()  # for which counts were asked for
        self.ended, self.usual = 0, topic_settings.DEFAULTS  # `ended`: subscriptions of each EndSubscriptions

    def catch_up(self) -> None:
        for shard in range(self.store.shards):
            for record in self.store.parts[LogName.MESSAGES, shard].slice(self.next[shard], 1_000_000).records:
                self._apply(shard, record)

    def answer(self, request: link.Request) -> link.Answer:
        self.catch_up()
        try:
            return getattr(self, "_" + type(request).__name__)(request)  # type: ignore[no-any-return]
        except Refusal as refusal:
            return link.Refused(request.req, refusal.code, refusal.detail, refusal.extra)

    def messages(self, topic_id: str) -> list[dict[str, Any]]:
        self.catch_up()
        return [json.loads(deliver.frame) for deliver in self.frames.get(topic_id, [])]

    def _apply(self, shard: int, record: Any) -> None:
        self.next[shard] = record.offset + 1
        row = self.rows[shard].get(record.key)
        applied = apply(self.states[shard], row, record)
        self.states[shard].logic = self.logic
        if applied.row is None:
            self.rows[shard].pop(record.key, None)
        else:
            self.rows[shard][record.key] = applied.row
        self.verdicts[shard, record.offset] = applied.verdicts
        for effect in applied.effects:
            self._carry_out(effect, record.offset)

    def _carry_out(self, effect: Effect, offset: int) -> None:
        if isinstance(effect, Deliver):
            self.frames.setdefault(effect.topic_id, []).append(effect)
            self.book.delivered(effect, offset)
        elif isinstance(effect, MessageChanged):
            self.frames[effect.event.topic_id].append(effect.event)
            self.book.changed(effect)
        elif isinstance(effect, Unusable):
            self.dead_letters.append(effect)
        elif isinstance(effect, MemberChanged):
            self.changed(effect.topic_id, effect.user_id)
        elif isinstance(effect, TopicUpdated):
            self.changed(effect.row.topic_id, "")
        elif isinstance(effect, TopicCreated | TopicDeleted):
            topic_id = effect.row.topic_id if isinstance(effect, TopicCreated) else effect.topic_id
            self.frames.pop(topic_id, None)
            self.changed(topic_id, "")

    def row(self, topic_id: str) -> Row:
        key = topic_key(topic_id)
        row = self.rows[shard_of(key, self.store.shards)].get(key)
        if row is None:
            raise Refusal("topic_not_found", "no")
        return row

    def _info(self, row: Row) -> link.TopicInfo:
        settings = topic_settings.effective(row.settings, self.usual)
        about = (row.topic_id, row.epoch, row.seq, row.name, row.permissions, row.owner_id, row.created_at)
        count, members = self.counts.get(row.topic_id, 0), self._state(row).member_count(topic_key(row.topic_id))
        return link.TopicInfo(*about, count, members, "direct", settings, row.version)

    def _state(self, row: Row) -> Shard:
        return self.states[shard_of(topic_key(row.topic_id), self.store.shards)]

    def logic_of(self, key: bytes) -> int:
        return self.states[shard_of(key, self.store.shards)].logic

    def _AskMessage(self, ask: link_messages.AskMessage) -> link.Answer:
        return self.book.answer(ask)

    def role(self, caller: Caller, row: Row) -> Role | None:
        return self._state(row).role(topic_key(row.topic_id), row, caller.user_id)

    def _AskTopic(self, ask: link.AskTopic) -> link.Answer:
        row = self.row(ask.topic_id)
        if not may_see(ask.caller, row, self.role(ask.caller, row)):
            raise Refusal("topic_not_found", "no")
        return link.TopicAnswer(ask.req, self._info(row), self.role(ask.caller, row) or "", self._state(row).logic)

    def _AskPresence(self, ask: link_presence.AskPresence) -> link.Answer:
        row = self.row(ask.topic_id)
        role = self.role(ask.caller, row)
        require(may_know_presence(ask.caller, row, role), ask.caller, row, role, "see who follows")
        return link_presence.PresenceAnswer(ask.req, 0, [])

    def _AskStats(self, ask: link_stats.AskStats) -> link.Answer:
        row = self._permitted(ask.topic_id, ask.caller, may_inspect)
        return link_stats.StatsAnswer(ask.req, row.epoch, link_stats.TopicStats(row.n, 0, 0, 0, 0, 0, 0, 0, 0))

    def _FlushTopic(self, ask: link_stats.FlushTopic) -> link.Answer:
        self._permitted(ask.topic_id, ask.caller, may_administer)
        return link_stats.TopicFlushed(ask.req, 0)

    def _permitted(self, topic_id: str, caller: Caller, allowed: Callable[[Caller, Row, Role | None], bool]) -> Row:
        row = self.rows[shard_of(topic_key(topic_id), self.store.shards)].get(topic_key(topic_id))
        if row is None:
            raise unknown_topic(topic_id)
        role = self.role(caller, row)
        require(allowed(caller, row, role), caller, row, role, "do this to")
        return row

    def _AskMember(self, ask: link_members.AskMember) -> link.Answer:
        row = self.row(ask.topic_id)
        found = self._state(row).membership(topic_key(ask.topic_id), row, ask.user_id)
        member = None if found is None else link_members.Member(ask.user_id, *found[:2], found.joined_at)
        return link_members.MemberAnswer(ask.req, row.epoch, member)

    def _AskMembers(self, ask: link_members.AskMembers) -> link.Answer:
        row, key = self.row(ask.topic_id), topic_key(ask.topic_id)
        role = self.role(ask.caller, row)
        require(may_administer(ask.caller, row, role), ask.caller, row, role, "list")
        page = self._state(row).members_above(key, row, ask.after, ask.limit)
        members = [link_members.Member(user_id, *found[:2], found.joined_at) for user_id, found in page]
        return link_members.MembersAnswer(ask.req, row.epoch, self._state(row).member_count(key), members)

    def _AskLogic(self, ask: link_direct.AskLogic) -> link.Answer:
        return link_direct.ShardLogic(ask.req, self.states[ask.shard].logic)

    def _ExpectDeliveries(self, ask: link_deliveries.ExpectDeliveries) -> link.Answer:
        self.expected += Counter(ask.ids)
        return link_deliveries.DeliveriesExpected(ask.req)

    def _AskDelivered(self, ask: link_deliveries.AskDelivered) -> link.Answer:
        self.waits_ms.append(ask.wait_ms)
        return link_deliveries.Delivered(ask.req, self.delivered if ask.id in self.expected else -1)

    def take(self, message: link.Message) -> None:
        """What has no answer."""
        if isinstance(message, link_deliveries.ForgetDeliveries):
            self.expected -= Counter(message.ids)

    def _EndSubscriptions(self, ask: link_users.EndSubscriptions) -> link.Answer:
        return link_users.SubscriptionsEnded(ask.req, self.ended)

    def _AskConnections(self, ask: link_users.AskConnections) -> link.Answer:
        return link_users.ConnectionsAnswer(ask.req, [c for c in self.connections if c.user_id == ask.user_id])

    def _AskTopics(self, ask: link.AskTopics) -> link.Answer:
        rows = sorted(self.rows[ask.shard].values(), key=lambda row: row.topic_id)
        rows = [r for r in rows if r.topic_id > ask.after and r.topic_id.startswith(ask.prefix)]
        seen = [self._info(row) for row in rows if may_see(ask.caller, row, self.role(ask.caller, row))]
        return link.TopicsAnswer(ask.req, seen[: ask.limit])

    def _AskCount(self, ask: link.AskCount) -> link.Answer:
        return link.Counts(ask.req, [self.counts.get(topic_id, 0) for topic_id in ask.topic_ids])

    def _AskVerdict(self, ask: link.AskVerdict) -> link.Answer:
        return link.Verdicts(ask.req, self.verdicts[ask.shard, ask.offset])

    def _AskHistory(self, ask: link.AskHistory) -> link.Answer:
        row = self.row(ask.topic_id)
        if not may_subscribe(ask.caller, row, self.role(ask.caller, row)):
            raise Refusal("forbidden", "no")
        if ask.after_seq == 666:
            raise Refusal("gone", "older than what is kept", first_seq=700)
        found = [d for d in self.frames.get(ask.topic_id, []) if d.seq > ask.after_seq]
        if ask.kinds:
            found = [d for d in found if self.book.is_message(d)]
        if ask.since_ts >= 0:
            found = [d for d in found if d.ts >= ask.since_ts]
        if ask.before_seq >= 0:
            found = [d for d in found if d.seq < ask.before_seq]
        page = found[: ask.limit] if max(ask.after_seq, ask.since_ts) >= 0 else found[-ask.limit :]
        return link.HistoryPage(ask.req, row.epoch, 1, row.seq, True, cut([self.book.now(d) for d in page]))

    def _Relay(self, ask: link_ephemeral.Relay) -> link.Answer:
        row = self.row(ask.topic_id)
        if row.epoch != ask.epoch:
            raise Refusal("topic_not_found", "no")
        if self.sheds and ask.low:
            return link_ephemeral.Relayed(ask.req, 0, True)
        self.relayed.append(ephemeral_frame(ask.topic_id, 1, ask.tail))
        return link_ephemeral.Relayed(ask.req, self.counts.get(ask.topic_id, 0))


class TwinDirectory(MemoryDirectory):
    """Asks the owner at the next loop turn. `up` and `mute` (asked, never answered) are what tests set."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(owner.store.shards, owner.answer, self._note)
        self.owner = owner
        self.sent: list[link.Message] = []
        self.mute = False
        self.asked: list[link.Request] = []

    def _note(self, message: link.Message) -> None:
        self.sent.append(message)
        self.owner.take(message)

    def _ask(self, request: link.Request, on_answer: OnAnswer) -> None:
        self.asked.append(request)
        if not self.mute:
            asyncio.get_running_loop().call_soon(lambda: on_answer(self.owner.answer(request)))


class ToldLog(FaultyLog):
    """The log of an ingest; a dispatcher reads its revocations and, while it `tells`, tells all ingests."""

    def __init__(self, world: "World") -> None:
        super().__init__(world.store)
        self.tells = True
        self._world = world

    def append(self, log: LogName, shard: int, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        future = super().append(log, shard, key, value)
        if log is LogName.REVOCATIONS:
            future.add_done_callback(lambda done: self._tell(done, value or b""))
        return future

    def _tell(self, done: "asyncio.Future[Appended]", value: bytes) -> None:
        if self.tells and not done.cancelled() and not done.exception():
            for ingest in self._world.ingests:
                ingest.on_push(0, link_users.Revocations([read_record(value)]))


class CountedMetrics:
    def __init__(self) -> None:
        self.published: dict[tuple[str, str], int] = {}
        self.refusals: dict[str, int] = {}
        self.records, self.reads = 0, list[float]()  # seconds
        self.waited_in_vain: list[float] = []  # seconds

    def history_read(self, seconds: float) -> None:
        self.reads.append(seconds)

    def publish(self, outcome: str, profile: str, count: int = 1) -> None:
        self.published[outcome, profile] = self.published.get((outcome, profile), 0) + count

    def appended(self, count: int, seconds: float) -> None:
        self.records += count

    def unacknowledged(self, seconds: float) -> None:
        self.waited_in_vain.append(seconds)

    def refused(self, code: str, detail: str) -> None:
        self.refusals[code] = self.refusals.get(code, 0) + 1


class World:
    """One ingest (and more by `another`) with its owner; `ana` is the user of requests that name none."""

    owner_type: type[Owner] = Owner

    def __init__(self, mode: str = "jwt", **options: Any) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock = loop
        self.rng = SeededRng(1)
        self.store = MemoryStore(self.clock, self.rng)
        self.owner = self.owner_type(self.store)
        self.mode = mode
        self.ingests: list[IngestService] = []
        self.ingest, self.log, self.directory, self.metrics = self.another(**options)
        self.client = self.client_of(self.ingest)
        self.owner.changed = self._changed

    def another(self, **options: Any) -> tuple[IngestService, ToldLog, TwinDirectory, CountedMetrics]:
        log = ToldLog(self)
        directory = TwinDirectory(self.owner)
        metrics = CountedMetrics()
        service = IngestService(
            options=IngestOptions(**options),
            log=log,
            appender=Appender(log, self.clock),
            directory=directory,
            authenticator=Authenticator(self.mode, TokenKey(SECRET), self.clock),  # type: ignore[arg-type]
            shell=Shell(self.clock, self.rng, metrics),
        )
        self.ingests.append(service)
        return service, log, directory, metrics

    def _changed(self, topic_id: str, user_id: str) -> None:
        for ingest in self.ingests:
            ingest.on_push(1, link.Changed(topic_id, user_id))

    def client_of(self, ingest: IngestService) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(ingest.app), base_url="http://ingest.test")

    def token(self, sub: str = "ana", ttl_s: float = 3_600, **rights: Any) -> str:
        return mint(TokenKey(SECRET), Caller(sub, **rights), now_s=self.clock.wall_ms() / 1_000, ttl_s=ttl_s)

    async def call(self, method: str, path: str, token: str | None = "", **request: Any) -> httpx.Response:
        """`token` "" is ana's service token; None sends none."""
        headers = dict(request.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.token(service=True)}"
        return await self.client.request(method, path, headers=headers, **request)

    async def create(self, topic_id: str, **members: Any) -> dict[str, Any]:
        answer = await self.call("POST", "/api/v1/topics", json={"topic_id": topic_id, "name": topic_id, **members})
        assert answer.status_code == 201, answer.text
        return answer.json()  # type: ignore[no-any-return]

    async def publish(self, topic_id: str, token: str = "", query: str = "", **body: Any) -> httpx.Response:
        headers = body.pop("headers", {})
        path = f"/api/v1/topics/{topic_id}/publish{query}"
        return await self.call("POST", path, token, json=body, headers=headers)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Asserts that an answer is this problem, whole, and returns it."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert {"type", "title", "detail", "retryable"} <= set(body)
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    assert (answer.headers.get("www-authenticate") == "Bearer") == (status == 401)
    return body


def play(scene: Callable[[World], Awaitable[None]], mode: str = "jwt", **options: Any) -> None:
    """Runs a scene on virtual time."""

    async def main() -> None:
        world = World(mode, **options)
        await world.log.open()
        async with world.client:
            await scene(world)

    run(VirtualLoop(), main())
