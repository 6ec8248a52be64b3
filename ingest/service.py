"""Builds ingest from its parts, for the role and for `dev`; starts no task and serves no socket itself."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from headgate.core.wire.link import Changed, Message
from headgate.runtime.http.callers import Users
from headgate.runtime.http.memory_budget import MemoryBudget
from headgate.runtime.http.origins import Origins
from headgate.runtime.links.port import Directory
from headgate.runtime.ports import Clock, Log, Rng
from headgate.runtime.tokens import Authenticator
from ingest.access import Access
from ingest.admission import Admission
from ingest.app import handlers_of, make_app
from ingest.batch import Batches
from ingest.catalog import Catalog
from ingest.controls import Controls
from ingest.durable import DurablePublishes
from ingest.ephemeral import EphemeralPublishes
from ingest.history import HistoryEndpoint
from ingest.owners import COUNT_S, OwnerQueries
from ingest.ports import Appends, IngestMetrics, NoMetrics
from ingest.publish import Publishing
from ingest.rates import Allowed, Rates
from ingest.topics import TopicHandlers

ID_KEY_BYTES: Final = 32


class IngestOptions(NamedTuple):
    """Settings of ingest, as PROTOCOL sections 0, 7 and 9 name them; sizes in bytes."""

    auto_create: bool = False
    redirect_streams: bool = True  # off in `dev`, where the gateway is on the same port
    owner_in_process: bool = False  # in `dev`: then every count is exact
    origins: tuple[str, ...] | None = None
    payload_bytes: int = 65_536
    batch_bytes: int = 8 * 1024 * 1024
    batch_items: int = 1_000
    held_bytes: int = 256 * 1024 * 1024
    held_bytes_per_user: int = 64 * 1024 * 1024
    request_deadline_s: float = 10.0
    rates: Allowed = Allowed()
    id_key: bytes = b""  # of made topic ids; empty: one of this process


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
        clock: Clock,
        rng: Rng,
        metrics: IngestMetrics | None = None,
    ) -> None:
        counts: IngestMetrics = NoMetrics() if metrics is None else metrics
        self._log = log
        self._appender = appender
        self._directory = directory
        self._owners = OwnerQueries(directory, clock, None if options.owner_in_process else COUNT_S)
        self._catalog = Catalog(directory, clock)
        access = Access(self._catalog, auto_create=options.auto_create)
        rates = Rates(clock, options.rates)
        topics = TopicHandlers(
            access=access,
            catalog=self._catalog,
            controls=Controls(appender, self._owners, clock, rng, counts),
            owners=self._owners,
            rates=rates,
            rng=rng,
            id_key=options.id_key or rng.entropy(ID_KEY_BYTES),
        )
        history = HistoryEndpoint(access, self._owners, rates)
        admission = Admission(clock, rates)
        publishing = Publishing(
            access=access,
            topics=topics,
            rates=rates,
            durable=DurablePublishes(appender, self._owners, self._catalog, admission, clock, counts),
            volatile=EphemeralPublishes(directory, self._catalog, admission, clock),
            clock=clock,
            rng=rng,
            metrics=counts,
            payload_bytes=options.payload_bytes,
        )
        batches = Batches(publishing, clock, max_items=options.batch_items, item_bytes=options.rates.body_bytes)
        self.app = make_app(
            handlers_of(topics, publishing, batches, history),
            Users(authenticator, Origins(options.origins, is_open=authenticator.open)),
            MemoryBudget(options.held_bytes, options.held_bytes_per_user),
            counts.refused,
            redirect_streams=options.redirect_streams,
            body_bytes=options.rates.body_bytes,
            batch_bytes=options.batch_bytes,
            deadline_s=options.request_deadline_s,
        )

    def on_push(self, shard_epoch: int, message: Message) -> None:
        """Takes what an owner pushes: of interest are topics that changed."""
        if isinstance(message, Changed):
            self._catalog.drop(message.topic_id)

    def on_owner(self, shard: int, up: bool) -> None:
        """Takes the directory's news of an owner."""
        self._catalog.on_owner(shard, up)
        self._owners.on_owner(shard, up)

    @property
    def checks(self) -> Mapping[str, Callable[[], str | None]]:
        """The readiness checks by name: None, or one sentence why not."""
        return {"log": self._log_check, "owners": self._directory.missing}

    async def drain(self, deadline_s: float) -> None:
        """Waits until every request that came has its answer, at most `deadline_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self.app.idle()

    def _log_check(self) -> str | None:
        shards = self._appender.open_shards()
        if not shards:
            return None
        return f"{self._log.address} does not answer for shards {', '.join(map(str, sorted(shards)))}"
