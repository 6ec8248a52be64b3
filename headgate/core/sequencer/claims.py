"""Who owns a shard: the node of the newest claim. `reconcile` decides what a node claims, starts and stops."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec


class Claim(msgspec.Struct, frozen=True):
    """The value of a claim record: a node, its run (`incarnation`), and the host:port where its links listen.

    `logic` is the newest meaning of records that the node knows (`headgate.core.wire.control.LOGIC`).
    """

    node: str
    incarnation: str
    address: str
    logic: int = 1


class NewestClaim(NamedTuple):
    """The newest claim of a shard, and the epoch that it gives (log generation and offset)."""

    epoch: int
    claim: Claim


class Plan(NamedTuple):
    """The shards that a node has to claim, to start serving and to stop serving now."""

    claim: list[int]
    start: list[int]
    stop: list[int]


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Claim] = msgspec.json.Decoder(Claim)


def encode_claim(claim: Claim) -> bytes:
    """Returns the value of a claim record."""
    return _encoder.encode(claim)


def decode_claim(value: bytes | None) -> Claim | None:
    """Reads a claim record; None where the record is no claim."""
    try:
        return _decoder.decode(value) if value else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def agreed_logic(newest: Mapping[int, NewestClaim], shards: int) -> int:
    """Returns the newest logic that the owners of all shards know; 1 while one of them has no claim."""
    return min(newest[shard].claim.logic if shard in newest else 1 for shard in range(shards))


def reconcile(
    assigned: Iterable[int] | None, newest: Mapping[int, NewestClaim], mine: Claim, serving: Mapping[int, int]
) -> Plan:
    """Compares the assignment of a node with the `newest` claims.

    Level-triggered: it looks at the present state alone, so it may be called at any time and any number of times.
    `serving` maps a shard to the epoch under which the node serves it. `assigned` is None while the node is not a
    member of the group: then it claims nothing. A node serves a shard until another node has claimed it.
    """
    claim: list[int] = []
    start: list[int] = []
    stop = [
        shard
        for shard, epoch in serving.items()
        if shard in newest and newest[shard].epoch > epoch and newest[shard].claim != mine
    ]
    for shard in sorted(assigned or ()):
        known = newest.get(shard)
        if known is None or known.claim != mine:
            claim.append(shard)
        elif serving.get(shard) != known.epoch:
            start.append(shard)
    return Plan(claim, start, stop)
