"""The times that refused callers wait: longer by a random part, or a crowd that was refused comes again in one moment.

`Retry-After` is in whole seconds, so whole seconds are added. Refusals of publishes by a rate are left alone: they name
when there is a token again, and each publisher has his own.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final

from headgate.core.wire.errors import Refusal
from headgate.runtime.http.call import Call, Handler, Reply
from headgate.runtime.http.problem import retry_after_s
from headgate.runtime.ports import Rng

_SHARE: Final = 4  # up to a quarter of the wait is added, at least up to a second
_HEALS: Final = 503


def later(refusal: Refusal, rng: Rng) -> Refusal:
    """Returns the refusal with a longer wait. It is another one: others may have been given the same."""
    wait_s = retry_after_s(refusal)
    wait_s += int(rng.random() * (max(1, wait_s // _SHARE) + 1))
    return Refusal(refusal.code, refusal.detail, retry_after_ms=1_000 * wait_s, **refusal.extra)


def with_spread_waits(handlers: Mapping[str, Handler], rng: Rng) -> dict[str, Handler]:
    """Returns the handlers, whose refusals with 503 name longer waits."""
    return {name: partial(_spread, rng, handler) for name, handler in handlers.items()}


async def _spread(rng: Rng, handler: Handler, call: Call) -> Reply:
    try:
        return await handler(call)
    except Refusal as refusal:
        if refusal.status != _HEALS:
            raise
        raise later(refusal, rng) from None
