"""The tokens that were revoked, and the log's record of a revocation.

A revocation names a user or a token's id (`jti`), and voids what was issued before a time. Of two for the same name the
later time counts, whatever order they come in: so every process comes to the same answer. None is ever forgotten, for
nobody knows how long the tokens that it voids are good.
"""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

import msgspec

from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.link_users import Revocation

MAX_REVOCATIONS: Final = 100_000  # users and token ids: beyond it no new one is accepted
CHUNK: Final = 1_000  # revocations of one message on a link


class RevokedTokens:
    """The revocations that a process knows."""

    def __init__(self) -> None:
        self._users: dict[str, int] = {}  # each with the Unix millisecond before which what was issued is void
        self._ids: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._users) + len(self._ids)

    def add(self, revocation: Revocation) -> bool:
        """Takes a revocation; returns whether it voids anything that was not void before."""
        known, name = self._place(revocation)
        if revocation.not_before <= known.get(name, 0):
            return False
        known[name] = revocation.not_before
        return True

    def latest(self, revocation: Revocation) -> Revocation:
        """Returns the revocation with the latest time that is known for its name."""
        known, name = self._place(revocation)
        return Revocation(revocation.user_id, revocation.jti, max(revocation.not_before, known.get(name, 0)))

    def is_known(self, revocation: Revocation) -> bool:
        """Returns whether there is one for the same name."""
        known, name = self._place(revocation)
        return name in known

    def has(self, revocation: Revocation) -> bool:
        """Returns whether all that it voids is void."""
        known, name = self._place(revocation)
        return known.get(name, 0) >= revocation.not_before

    def voids(self, user_id: str, jti: str, issued_ms: int) -> bool:
        """Returns whether a token is void; `issued_ms` is 0 for one that does not say when it was issued."""
        if issued_ms < self._users.get(user_id, 0):
            return True
        return jti != "" and issued_ms < self._ids.get(jti, 0)

    def chunks(self) -> Iterator[list[Revocation]]:
        """Yields all of them, at most CHUNK at a time."""
        users = (Revocation(user_id, "", at) for user_id, at in self._users.items())
        ids = (Revocation("", jti, at) for jti, at in self._ids.items())
        everything = chain(users, ids)
        while chunk := list(islice(everything, CHUNK)):
            yield chunk

    def _place(self, revocation: Revocation) -> tuple[dict[str, int], str]:
        return (self._users, revocation.user_id) if revocation.user_id else (self._ids, revocation.jti)


class _Stored(msgspec.Struct, omit_defaults=True):
    """The value of a record. `v` is its version: a change that old code must not overlook has another."""

    not_before: int
    user_id: str = ""
    jti: str = ""
    v: int = 1


_decode = msgspec.json.Decoder(_Stored).decode


def record_of(revocation: Revocation) -> tuple[bytes, bytes]:
    """Returns the key and value of a revocation's record. The log keeps the newest record of each key."""
    name = f"user:{revocation.user_id}" if revocation.user_id else f"jti:{revocation.jti}"
    stored = _Stored(revocation.not_before, revocation.user_id, revocation.jti)
    return name.encode(), msgspec.json.encode(stored)


def read_record(value: bytes) -> Revocation:
    """Reads the value of a record. Raises CorruptRecord."""
    try:
        stored = _decode(value)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise CorruptRecord(f"a revocation that cannot be read: {error}") from None
    if stored.v != 1 or bool(stored.user_id) == bool(stored.jti):
        raise CorruptRecord("a revocation of another version, or of no user and no token")
    return Revocation(stored.user_id, stored.jti, stored.not_before)
