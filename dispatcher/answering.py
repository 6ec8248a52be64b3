"""Answers requests of links: a refusal is an answer too."""

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import structlog

from dispatcher.shard import Destination
from dispatcher.sliced_work import ANSWER_S, SlicedWork
from headgate.core.wire import link
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


def answer_in_steps(
    work: SlicedWork, peer: Destination, message: Any, steps: Generator[None, None, link.Message]
) -> None:
    """Answers a request with what `steps` return. The first step is made at once, the others in loop turns of theirs.

    Raises Refusal, `overloaded` where too much is under way; what is not done in ANSWER_S is refused.
    """
    try:
        next(steps)
    except StopIteration as end:
        peer.send(end.value)
    else:
        work.begin(steps, partial(_send, peer), partial(_refuse, peer, message), ANSWER_S)


def refuse(peer: Destination, message: Any, refusal: Refusal) -> None:
    """Refuses a message, if it is one that has an answer."""
    req = getattr(message, "req", None)
    if req is not None:
        peer.send(refused_with(req, refusal))


def _send(peer: Destination, answer: link.Message) -> None:
    if peer.open:
        peer.send(answer)


def _refuse(peer: Destination, message: Any, refusal: Refusal) -> None:
    if peer.open:
        refuse(peer, message, refusal)
