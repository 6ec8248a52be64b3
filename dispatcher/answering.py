"""Answers requests of links: a refusal is an answer too."""

from collections.abc import Callable
from typing import Any

import structlog

from dispatcher.shard import Destination
from headgate.core.wire.errors import Refusal
from headgate.core.wire.linkcodec import refused_with

logger = structlog.get_logger("dispatcher")


def answer_with(handler: Callable[..., None], peer: Destination, message: Any) -> None:
    """Calls `handler(peer, message)`. It never raises: what the handler raises is answered."""
    try:
        handler(peer, message)
    except Refusal as refusal:
        refuse(peer, message, refusal)
    except Exception:  # one bad question must not end the process that answers all others
        logger.exception("a request failed", kind=type(message).__name__)
        refuse(peer, message, Refusal("internal", "the owner failed at this request"))


def refuse(peer: Destination, message: Any, refusal: Refusal) -> None:
    """Refuses a message, if it is one that has an answer."""
    req = getattr(message, "req", None)
    if req is not None:
        peer.send(refused_with(req, refusal))
