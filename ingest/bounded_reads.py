"""Requests of a kind that read from owners: so many at once, or a crowd that comes in one moment waits for owners until
it is refused, and all others with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller
from headgate.runtime.ports import Rng
from ingest.rates import Rates

MAX_READS: Final = 1_000  # as many are answered within a second, an owner's answer being awaited for 3 s
_BACK_MS: Final = 5_000  # within so long those come again for whom there was no room: several thousand are answered


class BoundedReads:
    """Counts the requests about `subject` that are being answered; the length is their number."""

    def __init__(self, subject: str, rates: Rates, rng: Rng) -> None:
        self._subject = subject
        self._rates = rates
        self._rng = rng
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def one(self, caller: Caller) -> Iterator[None]:
        """Takes a read of the user, and a place until the end of the `with`.

        Raises Refusal `rate_limited`, and `overloaded` where no place is free: that costs no read.
        """
        if self._count >= MAX_READS:
            self._rates.require_read(caller)
            why = f"too many requests about {self._subject} are being answered; this one cost no read"
            raise Refusal("overloaded", why, retry_after_ms=int(self._rng.random() * _BACK_MS) + 1)
        self._rates.read(caller)
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
