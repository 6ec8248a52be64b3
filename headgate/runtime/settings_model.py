"""The settings model: name, type, bounds and default of every setting. It knows no flag, variable or file."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from headgate.core.wire.ids import MAX_INTEGER
from headgate.core.wire.link_stats import MAX_TOP
from headgate.core.wire.records import LogName
from headgate.runtime.limit_settings import MIB, DrainSettings, HeartbeatSettings, HotSettings, LimitsSettings
from headgate.runtime.links.tls import TlsFiles
from headgate.runtime.logs.embedded import KEEP_MS
from headgate.runtime.logs.options import LogSecurity
from headgate.runtime.setting_types import (
    Address,
    Addresses,
    Count,
    File,
    HttpUrl,
    KeyUrl,
    LogUrl,
    Origins,
    Port,
    Seconds,
    Secret,
    SettingsGroup,
    Text,
)
from headgate.runtime.sockets import ANY


class SecuritySettings(SettingsGroup):
    """How the Kafka adapter proves itself and checks the brokers; `ca`, `certificate` and `key` are PEM files."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How to talk to the brokers. It must match their listener."""
    ca: File | None = None
    """PEM file with the certificate authority that signed the brokers' certificates. Unset: the system's."""
    certificate: File | None = None
    """PEM file with our certificate, for mutual TLS."""
    key: File | None = None
    """PEM file with the private key of `certificate`."""
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """How to log in, where `protocol` begins with `SASL`."""
    user: Text | None = None
    """The SASL user."""
    password: Secret | None = None
    """The SASL password."""

    def options(self) -> LogSecurity:
        """Returns what the adapter takes. Raises ValueError for combinations that cannot work."""
        return LogSecurity(
            protocol=self.protocol,
            ca=None if self.ca is None else str(self.ca),
            certificate=None if self.certificate is None else str(self.certificate),
            key=None if self.key is None else str(self.key),
            mechanism=self.mechanism,
            user=self.user,
            password=None if self.password is None else self.password.get_secret_value(),
        )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.options()
        return self


class LogSettings(SettingsGroup):
    """The log. `shards` and `replication` unset: the log's own value, or the adapter's default when it is created."""

    url: LogUrl | None = None
    """Where the log is: `memory:`, `sqlite:PATH`, or `kafka://host:port,host:port`, which production roles need."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")] = "headgate"
    """The first part of the name of every Kafka topic that Headgate uses."""
    shards: Annotated[int, Field(ge=1, le=4096)] | None = None
    """The number of shards of a log that is created: 64 in Kafka, 4 embedded. It cannot change later."""
    replication: Annotated[int, Field(ge=1, le=100)] | None = None
    """The replication of Kafka topics that are created. Unset: 3, or the number of brokers if smaller."""
    memory_bytes: Count = 256 * MIB
    """Bytes that `memory:` keeps. Above: old records are removed. Above twice this: publishes are refused."""
    retention_ms: Annotated[int, Field(ge=60_000, le=MAX_INTEGER)] = KEEP_MS[LogName.MESSAGES]
    """Milliseconds that messages are kept. `headgate init` creates Kafka topics with it. Set it on ingests too."""
    retention_bytes: Count | None = None
    """Bytes that Kafka keeps of the messages of each shard, for `headgate init`. Unset: no bound but the time."""
    dead_letters_retention_ms: Annotated[int, Field(ge=60_000, le=MAX_INTEGER)] = KEEP_MS[LogName.DEAD_LETTERS]
    """Milliseconds that dead letters are kept, also for `headgate init`."""
    security: SecuritySettings = SecuritySettings()


class AuthSettings(SettingsGroup):
    """Who callers are. `mode` unset: `open` for `dev` on loopback without `secret` and `jwks_url`, else `jwt`."""

    mode: Literal["jwt", "open"] | None = None
    """`jwt`: callers need a token. `open`: everybody may do everything; only for `dev` on loopback."""
    secret: Secret | None = None
    """The key of tokens (HS256). Production roles need 32 bytes or more. `headgate token mint` signs with it."""
    secret_second: Secret | None = None
    """A second key of tokens, while `secret` is being replaced. It signs nothing."""
    jwks_url: KeyUrl | None = None
    """Where a key server publishes the keys of tokens (JWKS: RS256, ES256, EdDSA). Works beside `secret`."""
    issuer: Text | None = None
    """If set, a token's `iss` must be this."""
    audience: Text | None = None
    """If set, a token's `aud` must contain this. Unset: a token with `aud` is refused."""
    token_life_s: Seconds | None = None
    """If set, a token without `iat`, or good for longer, is refused, and a revocation is forgotten after that time."""
    query_token: bool = True
    """Whether a stream may carry its token in the URL as `?token=`."""

    @model_validator(mode="after")
    def _one_signs(self) -> Self:
        if self.secret_second is not None and self.secret is None:
            raise ValueError("auth.secret_second is set and auth.secret, which signs, is not")
        return self


class DevSettings(SettingsGroup):
    """Everything in one process."""

    host: Text = "127.0.0.1"
    """The address to listen on."""
    port: Port = 8080
    """The one port for HTTP, WebSocket and SSE. 0: any free port."""
    data: File | None = None
    """The folder that keeps everything. Unset, and no `log.url`: nothing survives the process."""
    demo: bool = False
    """Whether the example chat is served at `/`."""


class IngestSettings(SettingsGroup):
    """The HTTP side."""

    host: Text = ANY  # a production role is reached from other machines
    """The address to listen on."""
    port: Port = 8080
    """The port to listen on. 0: any free port."""


class GatewaySettings(SettingsGroup):
    """The stream side. `publish`: whether clients may publish over their WebSocket."""

    host: Text = ANY  # a production role is reached from other machines
    """The address to listen on."""
    port: Port = 8081
    """The port to listen on. 0: any free port."""
    publish: bool = False
    """Not built yet: must be false. Later: whether clients may publish over their WebSocket."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that share the port and the admin port; each keeps one core busy and has limits of its own."""


class DispatcherSettings(SettingsGroup):
    """The owner of shards. `data` holds index files; `advertise` is where others reach its links (unset: found)."""

    host: Text = ANY  # a production role is reached from other machines
    """The address to listen on for links."""
    port: Port = 8090
    """The port to listen on for links. 0: any free port."""
    data: File = Path("headgate-data")
    """The folder for index files. It is a cache: if lost, it is built again from the log."""
    advertise: Address | None = None
    """The `host:port` at which gateways and ingests reach this dispatcher. Unset: the host name and the port."""


class AdminSettings(SettingsGroup):
    """Probes and metrics. `host` unset: the role's own, in `dev` 127.0.0.1."""

    host: Text | None = None
    """The address of the port for probes and metrics. Unset: the role's own host; in `dev` 127.0.0.1."""
    port: Port = 9090
    """The port for `/livez`, `/readyz` and `/metrics`."""


class TlsSettings(SettingsGroup):
    """TLS of the links between the services. Set on all of them or on none; a changed file needs no restart."""

    ca: File | None = None
    """PEM file with the authority that signed the certificates of all services. With `certificate`: links use TLS."""
    certificate: File | None = None
    """PEM file with the certificate of this service, which it shows to the others."""
    key: File | None = None
    """PEM file with the private key of `certificate`, without a password. Unset: it is in `certificate`."""
    server_name: Text | None = None
    """The name that every dispatcher's certificate carries. Unset: the host that is connected to."""

    def files(self) -> TlsFiles | None:
        """Returns the files; None: links are plain text. Raises ValueError when only some are set."""
        if self.ca is None and self.certificate is None and self.key is None and self.server_name is None:
            return None
        if self.ca is None or self.certificate is None:
            missing = "ca" if self.ca is None else "certificate"
            raise ValueError(f"cluster.tls needs ca and certificate, and {missing} is not set")
        return TlsFiles(self.ca, self.certificate, self.key, self.server_name)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        self.files()
        return self


class ClusterSettings(SettingsGroup):
    """How services find and trust each other. `secret` unset: derived from `auth.secret`."""

    dispatchers: Addresses = ("127.0.0.1:8090",)
    """Dispatchers to link to first, `host:port,host:port`. They name the others."""
    secret: Secret | None = None
    """The key with which services prove who they are, 32 bytes or more. Unset: derived from `auth.secret`."""
    tls: TlsSettings = TlsSettings()


class TopicsSettings(SettingsGroup):
    """`auto_create` unset: true in `dev`, false elsewhere."""

    auto_create: bool | None = None
    """Whether a publish or subscribe creates an unknown topic. Unset: true in `dev`, false elsewhere."""
    profile: Literal["durable", "ephemeral"] = "durable"
    """The profile of a topic that names none when it is created. Set it alike on ingests and dispatchers."""


class HttpSettings(SettingsGroup):
    """`origins` of browsers that may call, for CORS and WebSocket. Unset: the same origin, in `dev` also loopback."""

    origins: Origins | None = None
    """Web pages that may call us, such as `https://app.example.com`. `*`: all. `loopback`: pages of this machine."""


class ClientSettings(SettingsGroup):
    """Commands that talk to a server. `stream_url` unset: `url`."""

    url: HttpUrl = "http://127.0.0.1:8080"
    """The server that commands talk to."""
    stream_url: HttpUrl | None = None
    """The gateway, if it is not at `url`."""
    token: Secret | None = None
    """The bearer token that commands send."""


class CanarySettings(SettingsGroup):
    """What `headgate canary` publishes and how it judges what comes back."""

    topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = "headgate-canary"
    """The first part of the ids of its topics: `-0`, `-1` and so on follow."""
    topics: Annotated[int, Field(ge=1, le=64)] = 4
    """Topics that it publishes to in turn. They are made where they do not exist."""
    every_s: Annotated[float, Field(ge=0.01, le=60.0)] = 1.0
    """Seconds from one message to the next."""
    late_s: Annotated[float, Field(gt=0.0, le=600.0)] = 1.0
    """A message that comes back after more seconds counts as late."""
    lost_s: Annotated[float, Field(gt=0.0, le=600.0)] = 60.0
    """An accepted message that has not come back after so many seconds counts as lost."""
    run_s: Annotated[float, Field(ge=0.0, le=86_400.0)] = 0.0
    """It publishes for so many seconds and ends with status 0 where all was well, else 1. 0: it never ends."""

    @model_validator(mode="after")
    def _late_before_lost(self) -> Self:
        if self.late_s > self.lost_s:
            raise ValueError(f"canary.late_s is {self.late_s:g} and must not be above canary.lost_s, {self.lost_s:g}")
        return self


class IndexSettings(SettingsGroup):
    """The history index: frames kept per shard, newest first."""

    frame_bytes: Count = 4096 * MIB
    """Bytes of messages kept for history and resume, per shard. The oldest are dropped first."""
    total_bytes: Count | None = None
    """Bytes of all index files of a dispatcher, fewer than its disk has. Above it the largest files drop their oldest
    messages. If unset, nothing but `index.frame_bytes` bounds them."""


class EventsSettings(SettingsGroup):
    """Lifecycle events of messages in the structured log of dispatchers and gateways."""

    log_one_in: Count | None = None
    """If set, one lifecycle event in so many is a log line, at most 20 a second. It costs a little on every message."""


class MetricsSettings(SettingsGroup):
    """What dispatchers show of single topics and users."""

    top: Annotated[int, Field(ge=0, le=MAX_TOP)] = 10
    """Entries of each list of the first topics and users, in `/metrics` and `/api/v1/top`. 0: no id is shown there."""


class TracingSettings(SettingsGroup):
    """Spans of publishes whose header `traceparent` is sampled. Needs the extra `headgate[tracing]`."""

    endpoint: HttpUrl | None = None
    """Where spans are sent: OTLP over HTTP, such as `http://collector:4318/v1/traces`. Unset: nothing is traced."""
    spans_per_s: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Spans of each name (publish, append, sequence, deliver) that a process makes a second. Above: left out."""


class Model(SettingsGroup):
    """All settings."""

    log: LogSettings = LogSettings()
    auth: AuthSettings = AuthSettings()
    dev: DevSettings = DevSettings()
    ingest: IngestSettings = IngestSettings()
    gateway: GatewaySettings = GatewaySettings()
    dispatcher: DispatcherSettings = DispatcherSettings()
    admin: AdminSettings = AdminSettings()
    cluster: ClusterSettings = ClusterSettings()
    topics: TopicsSettings = TopicsSettings()
    http: HttpSettings = HttpSettings()
    hot: HotSettings = HotSettings()
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    limits: LimitsSettings = LimitsSettings()
    drain: DrainSettings = DrainSettings()
    client: ClientSettings = ClientSettings()
    canary: CanarySettings = CanarySettings()
    index: IndexSettings = IndexSettings()
    events: EventsSettings = EventsSettings()
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()
