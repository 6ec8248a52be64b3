"""What is remembered of control operations with an Idempotency-Key: which removals are done, and what was asked for."""

from collections import OrderedDict
from hashlib import blake2b
from typing import Any, Final

import msgspec

from headgate.core.wire.errors import Refusal

MAX_DONE: Final = 10_000  # about 1 MB
MAX_ASKED: Final = 10_000  # about 2 MB
FINGERPRINT_BYTES: Final = 8


class DoneOperations:
    """The records of removals with an Idempotency-Key, at most MAX_DONE; the oldest is forgotten first.

    A repeat finds nothing any longer, and would be refused.
    """

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


class AskedOperations:
    """What the operations asked for that were handed to the log, at most MAX_ASKED; the oldest is forgotten first."""

    def __init__(self) -> None:
        self._fingerprints: OrderedDict[bytes, bytes] = OrderedDict()  # by record id

    def require_same(self, record_id: bytes, asked: Any) -> bytes:
        """Returns the fingerprint of what is asked for (JSON). Raises Refusal where another body had the same key."""
        fingerprint = blake2b(msgspec.json.encode(asked, order="sorted"), digest_size=FINGERPRINT_BYTES).digest()
        if self._fingerprints.get(record_id, fingerprint) != fingerprint:
            raise Refusal("idempotency_conflict", "this Idempotency-Key was used with another body")
        return fingerprint

    def add(self, record_id: bytes, fingerprint: bytes) -> None:
        """Remembers an operation that was handed to the log."""
        self._fingerprints[record_id] = fingerprint
        if len(self._fingerprints) > MAX_ASKED:
            self._fingerprints.popitem(last=False)
