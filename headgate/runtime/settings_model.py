"""The settings model: name, type, bounds and default of every setting. It knows no flag, variable or file."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headgate.runtime.links.tls import TlsFiles
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
    Text,
)
from headgate.runtime.sockets import ANY

MIB: Final = 1024 * 1024
DAY_S: Final = 86_400.0


class SettingsGroup(BaseModel):
    """A level of names. Values never change after start; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


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
    messages_s: Seconds = 7 * DAY_S
    """Seconds that an embedded log keeps messages. In Kafka its `retention.ms` decides; setting this is refused."""
    dead_letters_s: Seconds = 30 * DAY_S
    """Seconds that an embedded log keeps dead letters. In Kafka the topic's `retention.ms` decides."""
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


class HotSettings(SettingsGroup):
    """Subscriber counts at which a topic goes to the inbox and back."""

    enter: Count = 10_000
    """Not built yet: must be unset. Later: the number of subscribers at which a topic moves to the inbox."""
    exit: Count = 8_000
    """Not built yet: must be unset. Later: the number of subscribers at which a topic moves back."""


class HeartbeatSettings(SettingsGroup):
    """A connection is dead after `interval` x `missed_limit` seconds without a byte."""

    interval: Seconds = 30.0
    """Seconds between two pings to a client."""
    missed_limit: Count = 2
    """After this many intervals without a byte the connection is closed."""


class LimitsSettings(SettingsGroup):
    """The limits of docs/protocol.md, section 7, and the body sizes of section 0. Rates are per process."""

    payload_bytes: Count = 65_536
    """Largest payload of a message, in bytes of JSON text."""
    body_bytes: Count = 256 * 1024
    """Largest body of a request, except batches."""
    batch_bytes: Count = 8 * MIB
    """Largest body of a batch request."""
    batch_items: Annotated[int, Field(ge=1, le=1_000)] = 1_000
    """Most messages in one batch request."""
    topics_per_connection: Annotated[int, Field(ge=1, le=1_000)] = 128
    """Most topics that one WebSocket follows."""
    connections: Count | None = None  # unset: what the file descriptor limit allows
    """Most client connections of one gateway. Unset: what the limit on open files allows."""
    connections_per_user: Count = 20
    """Most connections of one user to one gateway."""
    outbound_bytes: Count = MIB
    """Bytes that may wait for one client's socket. Above: the session is parked."""
    outbound_frames: Count = 1_000
    """Frames that may wait for one client's socket. Above: the session is parked."""
    slow_messages: Count = 10_000
    """Messages that a client may be behind before the topic's `on_slow` applies."""
    slow_bytes: Count = 64 * MIB
    """Bytes that a client may be behind before the topic's `on_slow` applies."""
    ack_window: Annotated[int, Field(ge=1, le=256)] = 256
    """Messages of one acknowledged subscription that may be unacknowledged. Above: the subscription waits."""
    ack_breaker_failures: Count = 10
    """Failed deliveries in a row after which an acknowledged subscription gets nothing for `ack_breaker_s`."""
    ack_breaker_s: Seconds = 30.0
    """Seconds for which an acknowledged subscription that keeps failing gets nothing."""
    inbound_frame_bytes: Count = 65_536
    """Largest WebSocket frame from a client. Above: close code 1009."""
    control_per_s: Seconds = 10.0
    """Frames a second that one client may send, sustained."""
    control_burst: Count = 150
    """Frames that one client may send at once."""
    control_abuse_s: Seconds = 10.0  # above the rate for so long: 4503
    """Seconds above the rate after which the connection is closed with 4503."""
    frames_per_s: Seconds = 100.0
    """Frames of any kind (pings, pongs and fragments too) a second that one client may send. Above: 1008."""
    frames_burst: Count = 1_000
    """Frames of any kind that one client may send at once."""
    subscribers_listed: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    """Most users of a topic that its presence lists; all are counted. A setting of dispatchers."""
    auth_deadline_s: Seconds = 5.0
    """Seconds in which a WebSocket without credentials must send `auth`."""
    request_deadline_s: Seconds = 10.0
    """Seconds for the head of a request to arrive, and again for its body."""
    publish_per_user_per_min: Count = 100
    """Messages a minute that one user may publish, sustained, through all ingests together."""
    publish_per_topic_per_s: Count = 100
    """Messages a second that a topic without a `rate_limit` of its own takes, sustained. Dispatchers need it too."""
    creations_per_user_per_min: Count = 60
    """Topics a minute that one user may create, and members that it may change, sustained."""
    reads_per_user_per_min: Count = 600
    """Requests for history, info and lists a minute of one user, sustained."""
    held_bytes: Annotated[int, Field(ge=16 * MIB)] = 256 * MIB
    """Bytes of all requests that one ingest works on. Above: 503 `overloaded`. Keep it below the limit of its pod."""
    held_bytes_per_user: Annotated[int, Field(ge=16 * MIB)] = 64 * MIB  # at least two batches
    """Bytes of the requests of one user that one ingest works on. Above: 503 `overloaded`."""


class DrainSettings(SettingsGroup):
    """A SIGTERM ends the role within `deadline_s`; its sessions are told over the first `spread_s` of it."""

    deadline_s: Seconds = 20.0
    """Seconds from SIGTERM to the end of the process, at most."""
    spread_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    """Seconds over which a gateway spreads the `disconnect` frames, so that clients do not reconnect all at once."""


class ClientSettings(SettingsGroup):
    """Commands that talk to a server. `stream_url` unset: `url`."""

    url: HttpUrl = "http://127.0.0.1:8080"
    """The server that commands talk to."""
    stream_url: HttpUrl | None = None
    """The gateway, if it is not at `url`."""
    token: Secret | None = None
    """The bearer token that commands send."""


class IndexSettings(SettingsGroup):
    """The history index: frames kept per shard, newest first."""

    frame_bytes: Count = 4096 * MIB
    """Bytes of messages kept for history and resume, per shard. The oldest are dropped first."""


class EventsSettings(SettingsGroup):
    """Lifecycle events of messages in the structured log of dispatchers and gateways."""

    log_one_in: Count | None = None
    """If set, one lifecycle event in so many is a log line, at most 20 a second. It costs a little on every message."""


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
    index: IndexSettings = IndexSettings()
    events: EventsSettings = EventsSettings()
