"""Ids of topics that are created without one."""

from hashlib import blake2b
from typing import Final

from headgate.core.wire.rights import Caller
from headgate.runtime.ports import Rng
from ingest.controls import ENTROPY

KEY_BYTES: Final = 32


class TopicIds:
    """Makes ids. `key` is the same on every ingest, and secret; empty: a random one of this process."""

    def __init__(self, rng: Rng, key: bytes) -> None:
        self._rng = rng
        self._key = key or rng.entropy(KEY_BYTES)

    def make(self, caller: Caller, idempotency_key: str | None) -> str:
        """Returns an id: the same for the same caller and key, so that a repeat names the same topic.

        Nobody else can name it before: that takes the secret key.
        """
        if idempotency_key is None:
            return self._rng.entropy(ENTROPY).hex()
        named = f"{caller.user_id}\0{idempotency_key}".encode()
        return blake2b(named, key=self._key, digest_size=ENTROPY).hexdigest()
