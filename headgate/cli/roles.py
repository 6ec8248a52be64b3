"""Builds the services of each role into a process: one function a role."""

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import Coroutine
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import structlog

from dispatcher.dispatcher_options import AssignmentOptions, DispatcherOptions
from dispatcher.service import DispatcherService
from gateway.gateway_options import GatewayOptions
from gateway.service import GatewayService
from headgate.cli.chat_page import chat_folder
from headgate.cli.connection_limits import connections_of, gateway_limits
from headgate.cli.dispatcher_gauges import watch_dispatcher
from headgate.cli.greeting import greeting
from headgate.cli.invocation import CommandFailed
from headgate.cli.token_checks import TokenChecks
from headgate.cli.traces import Traces
from headgate.core.wire.errors import HeadgateError
from headgate.runtime.appender import Appender
from headgate.runtime.event_log import event_log
from headgate.runtime.http.bounded import bounded
from headgate.runtime.http.hosts import Hosts
from headgate.runtime.http.page_files import PageFiles
from headgate.runtime.http.server import HttpServer
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.links.memory_link import memory_link
from headgate.runtime.links.pool import LinkPool
from headgate.runtime.links.tls import LinkTls
from headgate.runtime.links.websocket_link import Credentials, WebSocketLink, serve_links
from headgate.runtime.logs.factory import make_log
from headgate.runtime.logwatch import LogWatch
from headgate.runtime.metrics import Metrics, Part
from headgate.runtime.ports import Clock, Log, LogUnavailable, Rng, Shell
from headgate.runtime.process import Process, run
from headgate.runtime.settings import Settings, advertised
from headgate.runtime.system import SystemClock, SystemRng
from ingest.rates import RateLimits
from ingest.service import IngestOptions, IngestService

logger = structlog.get_logger("process")

PRIVATE_UMASK: Final = 0o077  # the log and the index hold everybody's messages: only this user reads them
INGEST_DRAIN_S: Final = 8.0  # a publish takes at most 7 s, then it gets a 504
INIT_S: Final = 30.0
INIT_RETRY_S: Final = 1.0


class Parts:
    """The objects that the services of one role share."""

    def __init__(self, settings: Settings, role: str, parts: frozenset[Part]) -> None:
        self.settings = settings
        self.clock: Clock = SystemClock()
        self.rng: Rng = SystemRng()
        self.metrics = Metrics(parts)
        self.shell = Shell(self.clock, self.rng, self.metrics)
        self.node = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self.process = Process(role, self.metrics, self.clock, settings.drain.deadline_s)
        self.traces = Traces(settings, role, self.node, self.metrics, self.clock)
        self.tokens = TokenChecks(settings, self.process, self.clock, self.rng)

    def log(self) -> tuple[Log, LogWatch]:
        """Builds the log and the task that opens it. Raises ValueError."""
        log = make_log(self.settings.log_options(), self.clock, self.rng)
        watch = LogWatch(log, self.clock)
        self.process.task("log", watch.run)
        self.process.check("log", watch.why)
        self.metrics.watch_reads(lambda: log.records_read)
        return log, watch

    def credentials(self) -> Credentials:
        """Returns how this process proves itself on links. Raises BadTlsFiles."""
        files = self.settings.cluster.tls.files()
        return Credentials(self.settings.cluster_secret(), None if files is None else LinkTls(files))

    def directory(self, role: str) -> LinkDirectory:
        """Builds a directory whose links are kept by a pool."""
        directory = LinkDirectory(role, self.node)
        pool = LinkPool(directory, list(self.settings.cluster.dispatchers), self.credentials(), self.shell)
        self.process.task("links", pool.run)
        return directory

    def _watch_owners(self, directory: LinkDirectory) -> None:
        self.process.check("owners", directory.all_missing)
        self.process.check("some_owners", directory.some_missing, partial=True)
        self.metrics.watch("shards_without_owner", lambda: directory.missing_count)

    def ingest(self, log: Log, watch: LogWatch, directory: LinkDirectory, *, in_dev: bool) -> IngestService:
        """Builds ingest on a log and a directory; `in_dev` beside a gateway and the owner of every shard."""
        limits = self.settings.limits
        options = IngestOptions(
            auto_create=bool(self.settings.topics.auto_create),
            profile=self.settings.topics.profile,
            usual=self.settings.usual_of_topics(),
            kept_ms=self.settings.log.retention_ms,
            redirect_streams=not in_dev,
            owner_in_process=in_dev,
            origins=self.settings.http.origins,
            query_token=self.settings.auth.query_token,
            payload_bytes=limits.payload_bytes,
            batch_bytes=limits.batch_bytes,
            batch_items=limits.batch_items,
            held_bytes=limits.held_bytes,
            held_bytes_per_user=limits.held_bytes_per_user,
            request_deadline_s=limits.request_deadline_s,
            rates=RateLimits(
                publish_per_user_per_min=limits.publish_per_user_per_min,
                publish_per_topic_per_s=limits.publish_per_topic_per_s,
                creations_per_user_per_min=limits.creations_per_user_per_min,
                reads_per_user_per_min=limits.reads_per_user_per_min,
                body_bytes=limits.body_bytes,
            ),
            id_key=self.settings.topic_id_key(),
        )
        service = IngestService(
            options=options,
            log=log,
            appender=Appender(log, self.clock),
            directory=directory,
            authenticator=self.tokens.authenticator(),
            shell=Shell(self.clock, self.rng, self.metrics),
            trace=self.traces.ingest,
        )
        directory.deliver_to(service)
        self.metrics.watch("queue_depth_max", service.queues.deepest)
        self.metrics.watch("circuits_open", lambda: len(service.open_circuits()))
        self._watch_owners(directory)
        self.process.check("log", lambda: service.refused_shards() if watch.is_silent() else None)
        self.process.check("some_circuits", service.refused_shards, partial=True)
        self.process.on_drain("publishes in flight", lambda: service.drain(INGEST_DRAIN_S))
        return service

    def dispatcher(self, log: Log, watch: LogWatch, address: str, folder: Path | None) -> DispatcherService:
        """Builds a dispatcher that starts once the log is open."""
        limits = self.settings.limits
        options = DispatcherOptions(
            self.node,
            address,
            folder,
            self.settings.index.frame_bytes,
            limits.creations_per_user_per_min,
            publish_per_topic_per_s=limits.publish_per_topic_per_s,
            listed=limits.subscribers_listed,
            profile=self.settings.topics.profile,
            usual=self.settings.usual_of_topics(),
            hot_dwell_s=self.settings.hot.dwell_s,
            top=self.settings.metrics.top,
            index_bytes=self.settings.index.total_bytes,
            assignment=AssignmentOptions(final_s=self.settings.drain.deadline_s / 2),
        )
        listener = event_log(self.settings.events.log_one_in, self.clock.now)
        service = DispatcherService(options, log, self.shell, listener, self.traces.dispatcher)

        async def start() -> None:
            await watch.opened.wait()
            await service.run()

        self.process.task("dispatcher", start)
        self.process.check("shards", service.not_ready)
        self.process.check("index", service.index_fault, partial=True)
        watch_dispatcher(self.metrics, service)
        return service

    def serve(self, server: HttpServer) -> None:
        """Serves a port until the drain stops it."""
        self.process.task("http", server.serve)
        self.process.at_drain(server.end_idle)
        self.process.on_drain("http", server.finish)

    def gateway(self, directory: LinkDirectory) -> GatewayService:
        """Builds a gateway on a directory."""
        options = GatewayOptions(
            limits=gateway_limits(self.settings),
            origins=self.settings.http.origins,
            auto_create=bool(self.settings.topics.auto_create),
            query_token=self.settings.auth.query_token,
            listening=self.settings.dev.host,
            node=self.node,
        )
        service = GatewayService(options, directory, self.tokens.authenticator(), self.shell, self.traces.gateway)
        directory.deliver_to(service)
        service.hub.events.listen(event_log(self.settings.events.log_one_in, self.clock.now))
        self.process.task("gateway", service.run)
        self._watch_owners(directory)
        drain = self.settings.drain
        self.process.on_drain("sessions", lambda: service.drain(min(drain.spread_s, drain.deadline_s)))
        self.metrics.watch("sessions", lambda: service.hub.session_count)
        self.metrics.watch("sessions_limit", lambda: options.limits.connections)
        self.metrics.watch("sweeps_running", lambda: len(service.hub.sweeps))
        self.metrics.watch("subscriptions", lambda: service.hub.subscription_count)
        self.metrics.watch("acked_subscriptions", lambda: len(service.hub.acknowledging))
        self.metrics.watch("breakers_open", lambda: service.hub.acknowledging.open_breakers)
        return service

    async def finish(self, hosts: Hosts | None = None, supervisor: Connection | None = None) -> int:
        """Runs the process on its admin port, which serves requests to these `hosts` only (None: to any).

        A `supervisor` is told the port; when it is gone, the process drains.
        """
        self.traces.drain_last(self.process)
        admin = self.settings.admin
        host = admin.host or "127.0.0.1"
        if supervisor is None:
            return await self.process.run(host, admin.port, hosts)
        loop, there = asyncio.get_running_loop(), supervisor.fileno()

        def gone() -> None:
            loop.remove_reader(there)
            self.process.stopping.set()

        loop.add_reader(there, gone)  # it sends nothing: this is the end of its pipe
        try:
            return await self.process.run(host, admin.port, hosts, supervisor.send)
        finally:
            loop.remove_reader(there)


async def _ingest(settings: Settings) -> int:
    parts = Parts(settings, "ingest", frozenset({"ingest"}))
    log, watch = parts.log()
    service = parts.ingest(log, watch, parts.directory("ingest"), in_dev=False)
    heads, most = bounded(settings.limits.request_deadline_s), connections_of(settings)
    server = HttpServer(settings.ingest.host, settings.ingest.port, service.app, heads, connections=most)
    parts.serve(server)
    parts.process.on_drain("log", log.close)
    logger.info("ingest listens", port=server.port, log=log.address)
    return await parts.finish()


async def _dispatcher(settings: Settings) -> int:
    parts = Parts(settings, "dispatcher", frozenset({"dispatcher"}))
    log, watch = parts.log()
    address = advertised(settings, settings.dispatcher.port)
    service = parts.dispatcher(log, watch, address, settings.dispatcher.data)

    def accept(wire: WebSocketLink) -> None:
        service.accept(wire)

    host, port, credentials = settings.dispatcher.host, settings.dispatcher.port, parts.credentials()
    server = await serve_links(host, port, credentials, parts.node, parts.rng, accept, parts.metrics.refused)
    parts.process.on_drain("shards", service.drain)
    parts.process.on_drain("log", log.close)
    logger.info("dispatcher listens", address=address, log=log.address)
    try:
        return await parts.finish()
    finally:
        server.close()
        await server.wait_closed()


async def _gateway(settings: Settings, supervisor: Connection | None = None) -> int:
    parts = Parts(settings, "gateway", frozenset({"gateway"}))
    service = parts.gateway(parts.directory("gateway"))
    host, port, most = settings.gateway.host, settings.gateway.port, connections_of(settings)
    shared = supervisor is not None
    server = HttpServer(host, port, service.app(), service.protocol, connections=most, shared=shared)
    parts.serve(server)
    logger.info("gateway listens", port=server.port)
    return await parts.finish(supervisor=supervisor)


async def _dev(settings: Settings) -> int:
    parts = Parts(settings, "dev", frozenset({"ingest", "dispatcher", "gateway"}))
    log, watch = parts.log()
    if not (settings.log.url or "").startswith("kafka:"):
        await log.open()  # a fault of an embedded log does not go away by waiting
        watch.found()
    folder = settings.dispatcher.data if settings.dev.data is not None else None
    dispatcher = parts.dispatcher(log, watch, "memory", folder)
    directories = {role: LinkDirectory(role, f"{parts.node}-{role}") for role in ("gateway", "ingest")}

    async def connect() -> None:
        await dispatcher.ready.wait()
        for role, directory in directories.items():
            near, far = memory_link(role, "dispatcher")
            dispatcher.accept(far)
            directory.add(near)

    parts.process.task("connect", connect)
    gateway = parts.gateway(directories["gateway"])
    ingest = parts.ingest(log, watch, directories["ingest"], in_dev=True)
    host, port, most = settings.dev.host, settings.dev.port, connections_of(settings)
    inner = PageFiles(chat_folder()).before(ingest.app) if settings.dev.demo else ingest.app
    server = HttpServer(host, port, gateway.app(inner), gateway.protocol, connections=most)
    parts.serve(server)
    parts.process.on_drain("shards", dispatcher.drain)
    parts.process.on_drain("log", log.close)
    sys.stderr.write(greeting(settings, server.port, durable=log.durable, address=log.address))
    return await parts.finish(gateway.hosts)


async def _init(settings: Settings) -> int:
    from headgate.runtime.logs.kafka_init import init_kafka  # noqa: PLC0415 - aiokafka is slow to import

    why = f"no answer in {INIT_S:.0f} s"
    try:
        async with asyncio.timeout(INIT_S):
            while True:
                try:
                    report = await init_kafka(settings.log_options())
                    break
                except LogUnavailable as error:
                    why = str(error)
                    await asyncio.sleep(INIT_RETRY_S)
    except TimeoutError:
        raise CommandFailed(f"{settings.log.url} cannot be reached in {INIT_S:.0f} s: {why}") from None
    made = f"created {', '.join(report.created)}" if report.created else "nothing to do: all topics exist"
    sys.stderr.write(f"{report.address}: {report.shards} shards, replication {report.replication}; {made}\n")
    for line in report.drift:
        sys.stderr.write(f"differs, left as it is: {line}\n")
    return 0


def _run_role(main: Coroutine[Any, Any, int]) -> int:
    """Runs a role. An error that a person can act on is raised alone, without its group."""
    before = os.umask(PRIVATE_UMASK)
    try:
        return run(main)
    except BaseExceptionGroup as group:
        error = _leaf(group)
        if isinstance(error, (HeadgateError, OSError)):
            raise error from None
        raise
    finally:
        os.umask(before)


def _leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def dev(settings: Settings) -> int:
    """Runs everything in one process; returns the exit status."""
    return _run_role(_dev(settings))


def ingest(settings: Settings) -> int:
    """Runs the HTTP side; returns the exit status."""
    return _run_role(_ingest(settings))


def dispatcher(settings: Settings) -> int:
    """Runs an owner of shards; returns the exit status."""
    return _run_role(_dispatcher(settings))


def gateway(settings: Settings) -> int:
    """Runs the stream side; returns the exit status."""
    return _run_role(_gateway(settings))


def gateway_worker(settings: Settings, supervisor: Connection) -> int:
    """Runs the stream side as one of several processes; returns the exit status."""
    return _run_role(_gateway(settings, supervisor))


def init(settings: Settings) -> int:
    """Creates the Kafka topics; returns the exit status."""
    return run(_init(settings))
