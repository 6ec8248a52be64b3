"""Builds ingest from its parts, for the role and for `dev`. Starts no task and serves no socket itself."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import NamedTuple

from headgate.core.wire.ids import MAX_INTEGER
from headgate.core.wire.link import Changed, Message
from headgate.core.wire.link_events import EventsHappened
from headgate.core.wire.link_stats import Numbered, Queued
from headgate.core.wire.link_users import Ingests, Revocations, Throttled
from headgate.core.wire.topic_settings import DEFAULTS, Settings
from headgate.runtime.http.application import HttpApp
from headgate.runtime.http.call import Handler
from headgate.runtime.http.callers import Users
from headgate.runtime.http.memory_budget import MemoryBudget
from headgate.runtime.http.origins import Origins
from headgate.runtime.links.port import Directory
from headgate.runtime.ports import Log, Shell
from headgate.runtime.tokens import Authenticator
from ingest.access import Access
from ingest.admission import Admission
from ingest.alias_endpoints import AliasEndpoints
from ingest.app import handlers_of, make_app, with_charged_bodies
from ingest.audit import AuditLog
from ingest.batch import BatchEndpoints
from ingest.bounded_reads import BoundedReads
from ingest.catalog import Catalog
from ingest.controls import Controls
from ingest.dead_letter_endpoints import DeadLetterEndpoints
from ingest.delivery_questions import DeliveryQuestions
from ingest.direct_endpoint import DirectEndpoint
from ingest.durable import DurablePublishes
from ingest.ephemeral import EphemeralPublishes
from ingest.event_streams import EventStreams
from ingest.history import HistoryEndpoint
from ingest.inbox_endpoints import InboxEndpoints
from ingest.inbox_marks import InboxMarks
from ingest.message_endpoints import MessageEndpoints
from ingest.message_queries import MessageQueries
from ingest.message_updates import MessageUpdates
from ingest.owners import COUNT_S, OwnerQueries
from ingest.ports import Appends, IngestMetrics
from ingest.publish import PublishEndpoint
from ingest.publish_reader import PublishReader
from ingest.publish_topics import PublishTopics
from ingest.publishing import Publishing
from ingest.queues import Queues
from ingest.rates import RateLimits, Rates
from ingest.reply_parents import ReplyParents
from ingest.revocation_endpoint import RevocationEndpoint
from ingest.spread_waits import with_spread_waits
from ingest.ticket_endpoint import TicketEndpoint
from ingest.top_endpoint import TopEndpoint
from ingest.topic_ids import TopicIds
from ingest.topic_members import MemberHandlers
from ingest.topic_stats import TopicStatsHandlers
from ingest.topic_subscribers import SubscriberHandlers
from ingest.topic_updates import TopicUpdates
from ingest.topics import TopicHandlers
from ingest.traced_publishes import PublishTraces
from ingest.user_connections import ConnectionHandlers
from ingest.user_turns import UserTurns


class IngestOptions(NamedTuple):
    """Settings of ingest, named as in docs/protocol.md, section 9; sizes in bytes."""

    auto_create: bool = False
    profile: str = "durable"  # of a topic that names none
    usual: Settings = DEFAULTS  # settings of a topic that names none
    kept_ms: int = MAX_INTEGER  # how long the log keeps messages: a topic's retention_ms is at most that
    redirect_streams: bool = True  # off in `dev`, where the gateway is on the same port
    owner_in_process: bool = False  # in `dev`: then every count is exact
    origins: tuple[str, ...] | None = None
    query_token: bool = True
    payload_bytes: int = 65_536
    batch_bytes: int = 8 * 1024 * 1024
    batch_items: int = 1_000
    held_bytes: int = 256 * 1024 * 1024
    held_bytes_per_user: int = 128 * 1024 * 1024
    request_deadline_s: float = 10.0
    rates: RateLimits = RateLimits()
    id_key: bytes = b""  # makes ids of topics created without one; empty: a random one of this process


class IngestService:
    """Ingest in one process: `app` for uvicorn, `on_push` and `on_owner` for the directory, `checks` for readiness."""

    def __init__(
        self,
        *,
        options: IngestOptions,
        log: Log,
        appender: Appends,
        directory: Directory,
        authenticator: Authenticator,
        shell: Shell[IngestMetrics],
        trace: PublishTraces | None = None,
    ) -> None:
        clock, rng, _ = shell
        self._log, self._directory, self._authenticator = log, directory, authenticator
        self._appender = appender if trace is None else trace.appends(appender)
        self._owners = OwnerQueries(directory, clock, None if options.owner_in_process else COUNT_S)
        self._catalog, self._messages = Catalog(directory, clock, options.usual), MessageQueries(self._owners)
        access = Access(self._catalog, auto_create=options.auto_create)
        self._rates = rates = Rates(clock, rng, options.rates, options.usual)
        self.queues = Queues(directory)
        controls, audit, turns = Controls(appender, self._owners, shell), AuditLog(clock), UserTurns()
        topics = TopicHandlers(
            access=access,
            catalog=self._catalog,
            controls=controls,
            owners=self._owners,
            rates=rates,
            turns=turns,
            ids=TopicIds(rng, options.id_key),
            audit=audit,
            profile=options.profile,
            usual=options.usual,
            kept_ms=options.kept_ms,
        )
        self._events = EventStreams(directory, authenticator, rates, clock, rng)
        self._revocations = RevocationEndpoint(log, directory, authenticator, controls.keyed, clock, audit)
        publish, batches = self._publishes(options, shell, PublishTopics(access, topics, clock))
        history = HistoryEndpoint(access, self._owners, BoundedReads("history", rates, rng), shell)
        marks, reads = InboxMarks(self._owners, self._messages), BoundedReads("inboxes", rates, rng)
        updates = self._updates(access, controls, audit, options.payload_bytes)
        handlers = handlers_of(
            topics,
            TopicUpdates(access, self._catalog, controls, rates, audit, options.usual, options.kept_ms),
            self._members(access, controls, audit),
            SubscriberHandlers(access, self._owners, rates),
            ConnectionHandlers(access, self._owners, rates, audit),
            publish,
            batches,
            history,
            MessageEndpoints(self._messages, updates, rates),
            AliasEndpoints(publish, history, updates, marks, reads),
            TicketEndpoint(authenticator.tickets, controls.keyed, rates, clock, rng, audit),
            self._revocations,
            DirectEndpoint(self._catalog, controls, self._owners, rates, audit, options.profile, options.usual),
            self._events,
            DeadLetterEndpoints(self._owners, controls.keyed, rates, audit, turns),
            TopicStatsHandlers(access, self._owners, self.queues, rates, audit),
            InboxEndpoints(self._owners, marks, reads, clock, turns),
            TopEndpoint(self._owners, rates),
        )
        self.app = self._app(handlers if trace is None else trace.handlers(handlers), options, shell)

    def _members(self, access: Access, controls: Controls, audit: AuditLog) -> MemberHandlers:
        return MemberHandlers(
            access=access,
            catalog=self._catalog,
            controls=controls,
            owners=self._owners,
            rates=self._rates,
            audit=audit,
        )

    def _updates(self, access: Access, controls: Controls, audit: AuditLog, payload_bytes: int) -> MessageUpdates:
        return MessageUpdates(
            access=access,
            messages=self._messages,
            controls=controls,
            rates=self._rates,
            audit=audit,
            payload_bytes=payload_bytes,
        )

    def _app(self, handlers: Mapping[str, Handler], options: IngestOptions, shell: Shell[IngestMetrics]) -> HttpApp:
        return make_app(
            with_charged_bodies(with_spread_waits(handlers, shell.rng), self._rates),
            Users(
                self._authenticator,
                Origins(options.origins, is_open=self._authenticator.open),
                query_token=options.query_token,
            ),
            MemoryBudget(options.held_bytes, options.held_bytes_per_user),
            shell.metrics.refused,
            redirect_streams=options.redirect_streams,
            body_bytes=options.rates.body_bytes,
            batch_bytes=options.batch_bytes,
            deadline_s=options.request_deadline_s,
        )

    def _publishes(
        self, options: IngestOptions, shell: Shell[IngestMetrics], topics: PublishTopics
    ) -> tuple[PublishEndpoint, BatchEndpoints]:
        clock, rng, metrics = shell
        admission = Admission(clock, self._rates, self.queues)
        deliveries = DeliveryQuestions(self._owners)
        publishing = Publishing(
            DurablePublishes(self._appender, self._owners, self._catalog, admission, deliveries, shell),
            EphemeralPublishes(self._directory, self._catalog, admission, deliveries, clock),
            ReplyParents(self._messages, admission),
            deliveries,
            metrics,
            self.queues,
        )
        reader = PublishReader(self._rates, clock, rng, options.payload_bytes)
        sizes = {"max_items": options.batch_items, "item_bytes": options.rates.body_bytes}
        batches = BatchEndpoints(topics, reader, publishing, self._rates, **sizes)
        return PublishEndpoint(topics, reader, publishing, self._rates), batches

    def on_push(self, shard_epoch: int, message: Message) -> None:
        """Takes what owners and dispatchers send unasked."""
        if isinstance(message, Changed) and message.user_id:
            self._catalog.drop_role(message.topic_id, message.user_id)
        elif isinstance(message, Changed):
            self._catalog.drop(message.topic_id)
        elif isinstance(message, Throttled):
            self._rates.throttled(message.topics)
        elif isinstance(message, Ingests):
            self._rates.share(message.count)
            self.queues.share(message.count)
        elif isinstance(message, Numbered | Queued):
            self.queues.told(message)
        elif isinstance(message, Revocations):
            self._revocations.told(message.revocations)
            self._events.revoked()
        elif isinstance(message, EventsHappened):
            self._events.happened(message)

    def on_owner(self, shard: int, up: bool) -> None:
        """Called when the link to a shard's owner was opened (`up`) or lost."""
        self._catalog.on_owner(shard, up)
        self._owners.on_owner(shard, up)
        self._events.on_owner(shard, up)
        self.queues.on_owner(shard, up)

    def open_circuits(self) -> list[int]:
        """Returns the shards whose circuit is open: their publishes are refused."""
        return self._appender.open_shards()

    def refused_shards(self) -> str | None:
        """Returns None while every shard's circuit is closed, else one sentence for the readiness probe."""
        shards = self.open_circuits()
        if not shards:
            return None
        return f"{self._log.address} does not answer for shards {', '.join(map(str, sorted(shards)))}"

    async def drain(self, deadline_s: float) -> None:
        """Ends the streams and waits until every request has its answer, at most `deadline_s` seconds."""
        self._events.begin_drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self.app.idle()
        self.queues.report()
