"""What is remembered of control operations with an Idempotency-Key that were handed over.

This process alone knows it: a repeat through another ingest is judged by the log (docs/reference/http.md).
"""

from collections import OrderedDict
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from headgate.core.wire.errors import Refusal
from headgate.runtime.http.call import Call
from headgate.runtime.ports import Clock

MAX_KEYS: Final = 20_000  # about 8 MB
KEEP_S: Final = 86_400.0  # as long as a client_msg_id is known
DIGEST_BYTES: Final = 16


class KeyedOperation(NamedTuple):
    """An operation with a key. `scope` is a digest of user, method, path, target and key, `fingerprint` of the body."""

    scope: bytes
    fingerprint: bytes


class _Known(NamedTuple):
    fingerprint: bytes
    until: float
    answer: str | None


class KeyedOperations:
    """The operations of at most MAX_KEYS keys, each for KEEP_S; the oldest is forgotten first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()  # by scope

    def __len__(self) -> int:
        return len(self._known)

    def read(self, call: Call, operation: str, body: Any = None) -> KeyedOperation | None:
        """Returns the operation of a request, None without a key. `operation` stands for its method and path.

        Raises Refusal: `bad_request` for a key that is none, `idempotency_conflict` where the key is known with another
        `body` (JSON).
        """
        if call.idempotency_key is None:
            return None
        call.check_key()
        fingerprint = _digest(msgspec.json.encode(body, order="sorted"))
        keyed = KeyedOperation(_scope(call, operation), fingerprint)
        found = self._find(keyed.scope)
        if found is not None and found.fingerprint != fingerprint:
            raise Refusal("idempotency_conflict", "this Idempotency-Key was used with another body")
        return keyed

    def is_known(self, call: Call, operation: str) -> bool:
        """Returns whether this operation was handed over with this key, whatever became of it."""
        return call.idempotency_key is not None and self._find(_scope(call, operation)) is not None

    def answer(self, call: Call, operation: str) -> str | None:
        """Returns the answer of an operation that was carried out with this key, None where none is known."""
        found = None if call.idempotency_key is None else self._find(_scope(call, operation))
        return None if found is None else found.answer

    def add(self, keyed: KeyedOperation | None, answer: str | None = None) -> None:
        """Remembers an operation that was handed over; with its `answer` once it is carried out."""
        if keyed is None:
            return
        self._known.pop(keyed.scope, None)
        self._known[keyed.scope] = _Known(keyed.fingerprint, self._clock.now() + KEEP_S, answer)
        if len(self._known) > MAX_KEYS:
            self._known.popitem(last=False)

    def forget(self, call: Call, operation: str) -> None:
        """Forgets an operation that was refused by its topic's owner."""
        self._known.pop(_scope(call, operation), None)

    def _find(self, scope: bytes) -> _Known | None:
        found = self._known.get(scope)
        if found is not None and found.until <= self._clock.now():
            del self._known[scope]
            return None
        return found


def _scope(call: Call, operation: str) -> bytes:
    named = f"{call.caller.user_id}\0{operation}\0{call.idempotency_key}"
    return _digest(named.encode("utf-8", "surrogatepass"))


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=DIGEST_BYTES).digest()
