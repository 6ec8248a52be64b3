"""The tokens that were revoked, and the log's record of a revocation.

A revocation names a user or a token's id (`jti`), and voids what was issued before a time. Of two for the same name the
later time counts, whatever order they come in: so every process comes to the same answer. One is forgotten once all
tokens that it voids have expired, where that is known (`until`).
"""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

import msgspec

from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.link_users import Revocation

MAX_REVOCATIONS: Final = 100_000  # users and token ids: beyond it no new one is accepted
FORGET_MS: Final = 10_000  # between two looks for what may be forgotten
LOOKED_AT: Final = 20_000  # users and as many token ids in one look: about 10 ms
CHUNK: Final = 1_000  # revocations of one message on a link
_NEVER: Final = (0, 0)


class RevokedTokens:
    """The revocations that a process knows."""

    def __init__(self) -> None:
        # Each with the Unix millisecond before which what was issued is void, and the one after which it is forgotten.
        self._users: dict[str, tuple[int, int]] = {}
        self._ids: dict[str, tuple[int, int]] = {}
        self._next_look = 0

    def __len__(self) -> int:
        return len(self._users) + len(self._ids)

    def add(self, revocation: Revocation) -> bool:
        """Takes a revocation; returns whether it voids anything that was not void before, or for longer."""
        if self.has(revocation):
            return False
        known, name = self._place(revocation)
        latest = self.latest(revocation)
        known[name] = (latest.not_before, latest.until)
        return True

    def forget(self, now_ms: int) -> None:
        """Forgets what voids only expired tokens. Called where many are known; looks at some, once in FORGET_MS."""
        if now_ms < self._next_look:
            return
        self._next_look = now_ms + FORGET_MS
        for known in (self._users, self._ids):
            for name in list(islice(known, LOOKED_AT)):
                times = known.pop(name)
                if not 0 < times[1] < now_ms:
                    known[name] = times  # behind those that the next look is for

    def latest(self, revocation: Revocation) -> Revocation:
        """Returns the revocation with the latest times that are known for its name."""
        known, name = self._place(revocation)
        if name not in known:
            return revocation
        not_before, until = known[name]
        later = max(until, revocation.until) if until and revocation.until else 0
        return Revocation(revocation.user_id, revocation.jti, max(not_before, revocation.not_before), later)

    def is_known(self, revocation: Revocation) -> bool:
        """Returns whether there is one for the same name."""
        known, name = self._place(revocation)
        return name in known

    def has(self, revocation: Revocation) -> bool:
        """Returns whether all that it voids is void, and for as long."""
        known, name = self._place(revocation)
        if name not in known:
            return False
        not_before, until = known[name]
        return not_before >= revocation.not_before and (not until or 0 < revocation.until <= until)

    def voids(self, user_id: str, jti: str, issued_ms: int) -> bool:
        """Returns whether a token is void; `issued_ms` is 0 for one that does not say when it was issued."""
        if issued_ms < self._users.get(user_id, _NEVER)[0]:
            return True
        return jti != "" and issued_ms < self._ids.get(jti, _NEVER)[0]

    def chunks(self) -> Iterator[list[Revocation]]:
        """Yields all of them, at most CHUNK at a time."""
        users = (Revocation(user_id, "", *times) for user_id, times in self._users.items())
        ids = (Revocation("", jti, *times) for jti, times in self._ids.items())
        everything = chain(users, ids)
        while chunk := list(islice(everything, CHUNK)):
            yield chunk

    def _place(self, revocation: Revocation) -> tuple[dict[str, tuple[int, int]], str]:
        return (self._users, revocation.user_id) if revocation.user_id else (self._ids, revocation.jti)


class _Stored(msgspec.Struct, omit_defaults=True):
    """The value of a record. `v` is its version: a change that old code must not overlook has another."""

    not_before: int
    user_id: str = ""
    jti: str = ""
    v: int = 1
    until: int = 0


_decode = msgspec.json.Decoder(_Stored).decode


def record_of(revocation: Revocation) -> tuple[bytes, bytes]:
    """Returns the key and value of a revocation's record. The log keeps the newest record of each key."""
    name = f"user:{revocation.user_id}" if revocation.user_id else f"jti:{revocation.jti}"
    stored = _Stored(revocation.not_before, revocation.user_id, revocation.jti, until=revocation.until)
    return name.encode(), msgspec.json.encode(stored)


def read_record(value: bytes) -> Revocation:
    """Reads the value of a record. Raises CorruptRecord."""
    try:
        stored = _decode(value)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise CorruptRecord(f"a revocation that cannot be read: {error}") from None
    if stored.v != 1 or bool(stored.user_id) == bool(stored.jti):
        raise CorruptRecord("a revocation of another version, or of no user and no token")
    return Revocation(stored.user_id, stored.jti, stored.not_before, stored.until)
