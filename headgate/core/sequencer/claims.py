"""Who owns a shard: the newest claim; decides what a node claims and drops; knows no log and no group protocol."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec


class Claim(msgspec.Struct, frozen=True):
    """The value of a claim record: which run of which node, and where its links listen."""

    node: str
    incarnation: str
    address: str


class Standing(NamedTuple):
    """The newest claim of a shard and its epoch."""

    epoch: int
    claim: Claim


class Plan(NamedTuple):
    """What a node does now: append a claim for these shards, start serving those, stop serving the others."""

    claim: list[int]
    start: list[int]
    stop: list[int]


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Claim] = msgspec.json.Decoder(Claim)


def encode_claim(claim: Claim) -> bytes:
    """Returns the value of a claim record."""
    return _encoder.encode(claim)


def decode_claim(value: bytes | None) -> Claim | None:
    """Reads a claim record; None for what is none."""
    try:
        return _decoder.decode(value) if value else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def reconcile(
    assigned: Iterable[int] | None, standings: Mapping[int, Standing], mine: Claim, serving: Mapping[int, int]
) -> Plan:
    """Compares what a node is assigned with the newest claims; level-triggered, so it may be called at any time.

    `serving` maps a shard to the epoch it is served under. `assigned` None: the node is no member now; it claims
    nothing, and stops only what somebody else has claimed. A shard is served on while nobody else claimed it.
    """
    claim: list[int] = []
    start: list[int] = []
    stop = [
        shard
        for shard, epoch in serving.items()
        if shard in standings and standings[shard].epoch > epoch and standings[shard].claim != mine
    ]
    for shard in sorted(assigned or ()):
        standing = standings.get(shard)
        if standing is None or standing.claim != mine:
            claim.append(shard)
        elif serving.get(shard) != standing.epoch:
            start.append(shard)
    return Plan(claim, start, stop)
