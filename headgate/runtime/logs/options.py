"""The options of a log: URL, prefix, sizes and credentials."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from headgate.core.wire.records import LogName
from headgate.runtime.logs.embedded import KEEP_MS

DEFAULT_PREFIX: Final = "headgate"
DEFAULT_KAFKA_PORT: Final = 9092
_FORMS: Final = "memory:, sqlite:PATH or kafka://host:port,host:port"
_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class LogSecurity:
    """TLS and SASL towards Kafka. `ca`, `certificate` and `key` are paths of PEM files; `key` may be in `certificate`.

    Raises ValueError for combinations that cannot work.
    """

    protocol: str = "PLAINTEXT"
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    mechanism: str = "PLAIN"
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.protocol not in _PROTOCOLS:
            raise ValueError(f"log protocol {self.protocol!r}, expected one of {', '.join(_PROTOCOLS)}")
        if self.mechanism not in _MECHANISMS:
            raise ValueError(f"log mechanism {self.mechanism!r}, expected one of {', '.join(_MECHANISMS)}")
        if self.protocol.startswith("SASL") and (self.user is None or self.password is None):
            raise ValueError(f"log protocol {self.protocol} needs a user and a password")
        self._check_unused()

    def _check_unused(self) -> None:
        """Raises ValueError for what the protocol would ignore: an operator who gives it believes that it protects."""
        files = [name for name in ("ca", "certificate", "key") if getattr(self, name) is not None]
        if files and not self.protocol.endswith("SSL"):
            raise ValueError(f"log protocol {self.protocol} uses no TLS, but {files[0]} is set: SSL or SASL_SSL use it")
        if self.key is not None and self.certificate is None:
            raise ValueError("key is set, but the certificate that it belongs to is not")
        given = {"user": self.user, "password": self.password, "mechanism": self.mechanism}
        login = [name for name, value in given.items() if value not in (None, "PLAIN")]
        if login and not self.protocol.startswith("SASL"):
            raise ValueError(f"log protocol {self.protocol} logs nobody in, but {login[0]} is set: SASL_SSL uses it")


@dataclass(frozen=True)
class LogOptions:
    """The options of an adapter. `shards` and `replication` None: the value that the log has, or the default."""

    url: str
    prefix: str = DEFAULT_PREFIX
    shards: int | None = None
    replication: int | None = None
    memory_bytes: int = 256 << 20
    keep_ms: Mapping[LogName, int] = field(default_factory=lambda: KEEP_MS)  # in Kafka of topics that are created
    security: LogSecurity = LogSecurity()
    keep_bytes: int | None = None  # of messages a shard, in Kafka


class SqliteUrl(NamedTuple):
    """`sqlite:PATH`, the path of one file."""

    path: Path


class KafkaUrl(NamedTuple):
    """`kafka://host:port,host:port`, as the list aiokafka takes."""

    bootstrap: tuple[str, ...]

    @property
    def address(self) -> str:
        """The address for messages to people."""
        return f"kafka://{','.join(self.bootstrap)}"


MEMORY_URL: Final = "memory:"
LogUrl = Literal["memory:"] | SqliteUrl | KafkaUrl


def parse_url(url: str) -> LogUrl:
    """Reads a log URL. Raises ValueError that names the three forms."""
    if url == MEMORY_URL:
        return MEMORY_URL
    if url.startswith("sqlite:") and url != "sqlite:":
        return SqliteUrl(Path(url.removeprefix("sqlite:")).expanduser())
    if url.startswith("kafka://"):
        return KafkaUrl(tuple(_broker(url, part) for part in url.removeprefix("kafka://").split(",")))
    raise _malformed(url, "of none of these forms")


def _broker(url: str, text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        host, port = text, str(DEFAULT_KAFKA_PORT)
    if not host or any(sign in host for sign in "/@?# "):
        raise _malformed(url, f"{without_password(text)!r} is no host:port")
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise _malformed(url, f"{without_password(text)!r} has no port")
    return f"{host}:{port}"


def _malformed(url: str, why: str) -> ValueError:
    return ValueError(f"log url {without_password(url)!r}: {why}; expected {_FORMS}")


def without_password(url: str) -> str:
    """Returns a URL, or a part of one, for people: the password before the last `@` is masked."""
    begin, at, rest = url.rpartition("@")
    if not at:
        return url
    scheme, slashes, user = begin.rpartition("//")
    name, colon, _ = user.partition(":")
    return f"{scheme}{slashes}{name}{':****' if colon else ''}@{rest}"
