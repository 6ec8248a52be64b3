"""How our clients reach Kafka: names, connection settings, TLS and SASL, errors."""

import ssl
from collections.abc import Awaitable
from typing import Any, Final, NamedTuple, TypeVar

from aiokafka.errors import KafkaError
from aiokafka.helpers import create_ssl_context

from headgate.core.wire.records import LogName
from headgate.runtime.logs.options import KafkaUrl, LogOptions, LogSecurity, parse_url
from headgate.runtime.ports import LogUnavailable

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
        """Returns the arguments that every aiokafka client takes. Certificates are read anew with each call."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": list(self.url.bootstrap),
            "client_id": f"headgate-{self.node}",
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "metadata_max_age_ms": METADATA_MAX_AGE_MS,
            "retry_backoff_ms": RETRY_BACKOFF_MS,
            "security_protocol": self.security.protocol,
        }
        if self.security.protocol.endswith("SSL"):
            arguments["ssl_context"] = _ssl_context(self.security)
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


async def reached(deployment: KafkaDeployment, call: Awaitable[_T]) -> _T:
    """Awaits a call to Kafka; raises LogUnavailable for whatever aiokafka raises."""
    try:
        return await call
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogUnavailable(f"{deployment.address}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Returns an error as one short phrase: aiokafka's own text where it has one, else the class."""
    return str(error).strip() or type(error).__name__


def _ssl_context(security: LogSecurity) -> ssl.SSLContext:
    context: ssl.SSLContext = create_ssl_context(
        cafile=security.ca, certfile=security.certificate, keyfile=security.key
    )
    return context
