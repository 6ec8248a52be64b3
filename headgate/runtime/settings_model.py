"""The one settings model: every setting's name, type, bounds and default; knows no flag, variable or file."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from headgate.runtime.http.origins import is_entry
from headgate.runtime.logs.options import LogSecurity, parse_url
from headgate.runtime.sockets import ANY

MIB: Final = 1024 * 1024
_HTTP_URL: Final = re.compile(r"https?://[^/?#\s]+(/[^?#\s]*)?")


def is_loopback(host: str) -> bool:
    """Says whether only this machine can reach an address to listen on."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def split_address(text: str) -> tuple[str, int]:
    """Reads `host:port` or `[ipv6]:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare and bare == host) or any(c in bare for c in " /@[]"):
        raise ValueError(f"expected host:port, not {text!r}")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise ValueError(f"expected a port from 1 to 65535 in {text!r}")
    return bare, int(port)


def _commas(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _address(text: str) -> str:
    split_address(text)
    return text


def _origin(text: str) -> str:
    lower = text.lower().rstrip("/")
    if not is_entry(lower):
        raise ValueError(f"expected an origin such as https://app.example.com, not {text!r}")
    return lower


def _log_url(text: str) -> str:
    parse_url(text)
    return text


def _http_url(text: str) -> str:
    if _HTTP_URL.fullmatch(text) is None:
        raise ValueError("expected http://host:port or https://host")
    return text.rstrip("/")


def _named(value: Any) -> Any:
    if value == "":
        raise ValueError("must not be empty")
    return value


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65_535)]  # 0: any free one
Text = Annotated[str, Field(min_length=1)]
File = Annotated[Path, BeforeValidator(_named)]
Secret = Annotated[SecretStr, Field(min_length=1)]
Address = Annotated[str, AfterValidator(_address)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(_commas), Field(min_length=1)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_commas)]
LogUrl = Annotated[str, AfterValidator(_log_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]


class Group(BaseModel):
    """A level of names. Values never change after start; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Security(Group):
    """How the Kafka adapter proves itself and checks the brokers; `ca`, `certificate` and `key` are PEM files."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ca: File | None = None
    certificate: File | None = None
    key: File | None = None
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    user: Text | None = None
    password: Secret | None = None

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


class Log(Group):
    """The log. `shards` and `replication` unset: the log's own value, or the adapter's default when it is created."""

    url: LogUrl | None = None
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")] = "headgate"
    shards: Annotated[int, Field(ge=1, le=4096)] | None = None
    replication: Annotated[int, Field(ge=1, le=100)] | None = None
    memory_bytes: Count = 256 * MIB
    security: Security = Security()


class Auth(Group):
    """Who callers are. `mode` unset: `open` for `dev` on loopback without `secret` and `jwks_url`, else `jwt`."""

    mode: Literal["jwt", "open"] | None = None
    secret: Secret | None = None
    jwks_url: HttpUrl | None = None
    issuer: Text | None = None
    audience: Text | None = None
    query_token: bool = True


class Dev(Group):
    """Everything in one process."""

    host: Text = "127.0.0.1"
    port: Port = 8080
    data: File | None = None


class Ingest(Group):
    """The HTTP side."""

    host: Text = ANY  # a production role is reached from other machines
    port: Port = 8080


class Gateway(Group):
    """The stream side. `publish`: whether clients may publish over their WebSocket."""

    host: Text = ANY  # a production role is reached from other machines
    port: Port = 8081
    publish: bool = False


class Dispatcher(Group):
    """The owner of shards. `data` holds index files; `advertise` is where others reach its links (unset: found)."""

    host: Text = ANY  # a production role is reached from other machines
    port: Port = 8090
    data: File = Path("headgate-data")
    advertise: Address | None = None


class Admin(Group):
    """Probes and metrics. `host` unset: the role's own, in `dev` 127.0.0.1."""

    host: Text | None = None
    port: Port = 9090


class Tls(Group):
    """TLS between the services (PEM files)."""

    ca: File | None = None
    certificate: File | None = None
    key: File | None = None


class Cluster(Group):
    """How services find and trust each other. `secret` unset: derived from `auth.secret`."""

    dispatchers: Addresses = ("127.0.0.1:8090",)
    secret: Secret | None = None
    tls: Tls = Tls()


class Topics(Group):
    """`auto_create` unset: true in `dev`, false elsewhere."""

    auto_create: bool | None = None


class Http(Group):
    """`origins` of browsers that may call, for CORS and WebSocket. Unset: the same origin, in `dev` also loopback."""

    origins: Origins | None = None


class Hot(Group):
    """Subscriber counts at which a topic goes to the inbox and back."""

    enter: Count = 10_000
    exit: Count = 8_000


class Heartbeat(Group):
    """A connection is dead after `interval` x `missed_limit` seconds without a byte."""

    interval: Seconds = 30.0
    missed_limit: Count = 2


class Limits(Group):
    """PROTOCOL section 7 (and the body sizes of section 0). Rates are per process."""

    payload_bytes: Count = 65_536
    body_bytes: Count = 256 * 1024
    batch_bytes: Count = 8 * MIB
    batch_items: Annotated[int, Field(ge=1, le=1_000)] = 1_000
    topics_per_connection: Annotated[int, Field(ge=1, le=1_000)] = 128
    connections: Count | None = None  # unset: what the file descriptor limit allows
    connections_per_user: Count = 20
    outbound_bytes: Count = MIB
    outbound_frames: Count = 1_000
    slow_messages: Count = 10_000
    slow_bytes: Count = 64 * MIB
    inbound_frame_bytes: Count = 65_536
    control_per_s: Seconds = 10.0
    control_burst: Count = 150
    control_abuse_s: Seconds = 10.0  # above the rate for so long: 4503
    frames_per_s: Seconds = 100.0  # pings, pongs and fragments; above: 1008
    frames_burst: Count = 1_000
    subscribers_listed: Count = 1_000
    auth_deadline_s: Seconds = 5.0
    request_deadline_s: Seconds = 10.0
    publish_per_user_per_min: Count = 100
    publish_per_topic_per_s: Count = 100
    creations_per_user_per_min: Count = 60
    reads_per_user_per_min: Count = 600
    held_bytes: Annotated[int, Field(ge=16 * MIB)] = 256 * MIB  # of all requests to an ingest; below its pod's limit
    held_bytes_per_user: Annotated[int, Field(ge=16 * MIB)] = 64 * MIB  # at least two batches


class Drain(Group):
    """A SIGTERM ends the role within `deadline_s`; its sessions are told over the first `spread_s` of it."""

    deadline_s: Seconds = 20.0
    spread_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0


class Client(Group):
    """Commands that talk to a server. `stream_url` unset: `url`."""

    url: HttpUrl = "http://127.0.0.1:8080"
    stream_url: HttpUrl | None = None
    token: Secret | None = None


class Index(Group):
    """The history index: frames kept per shard, newest first."""

    frame_bytes: Count = 4096 * MIB


class Model(Group):
    """All settings."""

    log: Log = Log()
    auth: Auth = Auth()
    dev: Dev = Dev()
    ingest: Ingest = Ingest()
    gateway: Gateway = Gateway()
    dispatcher: Dispatcher = Dispatcher()
    admin: Admin = Admin()
    cluster: Cluster = Cluster()
    topics: Topics = Topics()
    http: Http = Http()
    hot: Hot = Hot()
    heartbeat: Heartbeat = Heartbeat()
    limits: Limits = Limits()
    drain: Drain = Drain()
    client: Client = Client()
    index: Index = Index()
