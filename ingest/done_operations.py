"""Removals that are known to be done: a repeat finds nothing any longer, and would be refused."""

from collections import OrderedDict
from typing import Final

MAX_DONE: Final = 10_000  # about 1 MB


class DoneOperations:
    """The records of removals with an Idempotency-Key, at most MAX_DONE; the oldest is forgotten first."""

    def __init__(self) -> None:
        self._records: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, record_id: bytes) -> bool:
        return record_id in self._records

    def add(self, record_id: bytes, idempotency_key: str | None) -> None:
        """Remembers a removal; without a key nobody can repeat it."""
        if idempotency_key is None:
            return
        self._records[record_id] = None
        if len(self._records) > MAX_DONE:
            self._records.popitem(last=False)
