"""How our clients reach Kafka: names, connection settings, TLS and SASL, errors."""

import ssl
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from aiokafka.helpers import create_ssl_context

from headgate.core.wire.records import LogName
from headgate.runtime.logs.options import KafkaUrl, LogOptions, LogSecurity, parse_url
from headgate.runtime.ports import LogUnavailable
from headgate.runtime.renewed_files import RenewedFiles

REQUEST_TIMEOUT_MS: Final = 5_000  # the producer ends an append first; our own wait is 6 s
METADATA_MAX_AGE_MS: Final = (
    1_000  # so a client knows a new leader before a request times out: 3 s without answers, not 10
)
RETRY_BACKOFF_MS: Final = 100

_T = TypeVar("_T")


class LogNotInitialised(LogUnavailable):
    """The cluster has no Headgate logs, or only some: `headgate init` creates them."""


class KafkaDeployment(NamedTuple):
    """The logs of one deployment: address, names and credentials for each of our clients."""

    url: KafkaUrl
    prefix: str
    security: LogSecurity
    node: str

    @property
    def address(self) -> str:
        """The address for messages to people."""
        return self.url.address

    def topic(self, log: LogName) -> str:
        """Returns the Kafka topic of a log."""
        return f"{self.prefix}.{log.value}"

    @property
    def group_id(self) -> str:
        """The consumer group of the dispatchers; a member needs READ on it."""
        return f"{self.prefix}.dispatchers"

    def connection(self) -> dict[str, Any]:
        """Returns the arguments that every aiokafka client takes. Certificates are read anew when they change."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": list(self.url.bootstrap),
            "client_id": f"headgate-{self.node}",
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "metadata_max_age_ms": METADATA_MAX_AGE_MS,
            "retry_backoff_ms": RETRY_BACKOFF_MS,
            "security_protocol": self.security.protocol,
        }
        if self.security.protocol.endswith("SSL"):
            arguments["ssl_context"] = _RenewedContext(self.security)
        if self.security.protocol.startswith("SASL"):
            arguments["sasl_mechanism"] = self.security.mechanism
            arguments["sasl_plain_username"] = self.security.user
            arguments["sasl_plain_password"] = self.security.password
        return arguments


def deployment_of(options: LogOptions, node: str = "headgate") -> KafkaDeployment:
    """Returns the deployment of a kafka:// URL. Raises ValueError for another URL."""
    url = parse_url(options.url)
    if not isinstance(url, KafkaUrl):
        raise ValueError(f"log url {options.url!r} is not kafka://host:port,host:port")
    return KafkaDeployment(url, options.prefix, options.security, node)


async def reached(deployment: KafkaDeployment, call: Awaitable[_T], needs: str = "Describe", on: str = "") -> _T:
    """Awaits a call to Kafka; raises LogUnavailable for whatever aiokafka raises.

    `needs` is the right that the call needs on the topic `on`, for the message when it is missing.
    """
    try:
        return await call
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogUnavailable(f"{deployment.address}: {reason(error, needs, on)}") from error


def no_right(right: str, resource: str) -> str:
    """Returns the sentence for a right that is missing, e.g. on the resource `topic headgate.messages`."""
    return f"the Kafka user has no right {right} on {resource} (docs/operations.md, rights in Kafka)"


def reason(error: BaseException, needs: str = "Describe", on: str = "") -> str:
    """Returns an error as one short phrase: the missing right, aiokafka's own text where it has one, or the class.

    `needs` and `on` as in `reached`; a topic that the error names itself counts first.
    """
    named = str(error.args[0]) if error.args and isinstance(error.args[0], str) else on
    if isinstance(error, TopicAuthorizationFailedError):
        return no_right(needs, f"topic {named}" if named else "a topic")
    if isinstance(error, GroupAuthorizationFailedError):
        return no_right("Read", f"group {named}" if named else "its group")
    if isinstance(error, ClusterAuthorizationFailedError):
        return no_right(needs, "the cluster")
    text = str(error).strip() or type(error).__name__
    if "Unable to bootstrap" in text:  # aiokafka keeps the reason (TLS, password) to its own log line
        text = f"{text}: the aiokafka line before it says why; check log.url and log.security"
    return text


class _RenewedContext(ssl.SSLContext):
    """A context for clients that keep theirs: each connection has one of the files as they are on disk then."""

    def __new__(cls, security: LogSecurity) -> "_RenewedContext":
        """Makes an empty one; no connection is of it."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, security: LogSecurity) -> None:
        paths = [Path(name) for name in (security.ca, security.certificate, security.key) if name is not None]
        self._contexts = RenewedFiles(paths, lambda: _ssl_context(security), "log")

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """Begins a connection; both event loops call it."""
        return self._contexts.current().wrap_bio(*arguments, **options)


def _ssl_context(security: LogSecurity) -> ssl.SSLContext:
    context: ssl.SSLContext = create_ssl_context(
        cafile=security.ca,
        certfile=security.certificate,
        keyfile=security.key,
        password="",  # None would ask the terminal for the password of an encrypted key
    )
    return context
