"""Authentication of a link and of each batch on it: MACs with the cluster's secret.

Both ends prove that they know the secret before anything else is read, each over a nonce of the other:

    dispatcher -> client   CHALLENGE   "HGL1" | 32 bytes nonce | the dispatcher's node
    client -> dispatcher   ANSWER      32 bytes nonce | 32 bytes MAC | role | "\\n" | the client's node
    dispatcher -> client   PROOF       32 bytes MAC

Each MAC covers both nonces, both nodes and the role, so a captured one is useless a second time, at another
dispatcher, in another role, or in the other direction. The keys of the two directions are made of the same parts. Each
batch carries a MAC over its number and its bytes, so nobody on the way can add, change, repeat or omit one. Nothing is
encrypted: use TLS for that.
"""

import hmac
import re
from hashlib import blake2b
from typing import Final, NamedTuple

from headgate.core.wire.errors import HeadgateError

NONCE_BYTES: Final = 32
MAX_BYTES: Final = 512  # of a message of the handshake; a stranger's is not read beyond it
SEAL_BYTES: Final = 16

_MAC_BYTES: Final = 32
_MAGIC: Final = b"HGL1"
_NODE: Final = re.compile(rb"[\x21-\x7e]{1,128}")
_WHO: Final = re.compile(rb"([a-z]{1,16})\n([\x21-\x7e]{1,128})")


class LinkRefused(HeadgateError):
    """The far end gave no proof, or sent a batch without the mark of its key; the link ends."""


class Seal:
    """Marks the batches of one direction in order, or checks them at the other end."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._count = 0

    def mark(self, batch: bytes) -> bytes:
        """Returns the batch behind its mark."""
        return self._next(batch) + batch

    def check(self, data: bytes) -> bytes:
        """Returns the batch of a marked one. Raises LinkRefused."""
        batch = data[SEAL_BYTES:]
        if not hmac.compare_digest(data[:SEAL_BYTES], self._next(batch)):
            raise LinkRefused("a batch that the far end did not send, or not at this place")
        return batch

    def _next(self, batch: bytes) -> bytes:
        mac = blake2b(self._count.to_bytes(8, "big"), key=self._key, digest_size=SEAL_BYTES)
        mac.update(batch)
        self._count += 1
        return mac.digest()


class Proven(NamedTuple):
    """The far end, once it is proven: its role ("" for a dispatcher), its node, and the seals of both directions."""

    role: str
    node: str
    sent: Seal
    received: Seal


class Challenge(NamedTuple):
    """The first message, a dispatcher's; `nonce` is fresh for every connection."""

    nonce: bytes
    node: bytes

    def encode(self) -> bytes:
        """Returns the CHALLENGE."""
        return _MAGIC + self.nonce + self.node


class Expected(NamedTuple):
    """The proof that a client expects after its ANSWER, and the far end that it proves."""

    proof: bytes
    proven: Proven


def challenge(node: str, nonce: bytes) -> Challenge:
    """Returns a dispatcher's challenge. Raises ValueError for a node's name that cannot be sent."""
    return Challenge(nonce, _node(node))


def answer(secret: bytes, data: bytes, role: str, node: str, nonce: bytes) -> tuple[bytes, Expected]:
    """Reads a CHALLENGE; returns the ANSWER of this client, and what proves that the dispatcher knows the secret too.

    Raises LinkRefused, and ValueError for a role or node that cannot be sent.
    """
    if len(data) > MAX_BYTES or not data.startswith(_MAGIC):
        raise LinkRefused("the far end does not speak this version of the link")
    theirs = Challenge(data[len(_MAGIC) :][:NONCE_BYTES], data[len(_MAGIC) + NONCE_BYTES :])
    if len(theirs.nonce) != NONCE_BYTES or _NODE.fullmatch(theirs.node) is None:
        raise LinkRefused("the far end's challenge cannot be read")
    who = b"%b\n%b" % (role.encode(), _node(node))
    if _WHO.fullmatch(who) is None:
        raise ValueError(f"a role is 1 to 16 small letters, not {role!r}")
    transcript = _Transcript(secret, theirs, nonce, who)
    proven = Proven("", theirs.node.decode(), Seal(transcript.mac(b"up")), Seal(transcript.mac(b"down")))
    return nonce + transcript.mac(b"client") + who, Expected(transcript.mac(b"server"), proven)


def check_answer(secret: bytes, sent: Challenge, data: bytes) -> tuple[bytes, Proven]:
    """Reads the ANSWER to a challenge; returns the PROOF and who the client is. Raises LinkRefused."""
    nonce, mac, who = data[:NONCE_BYTES], data[NONCE_BYTES:][:_MAC_BYTES], data[NONCE_BYTES + _MAC_BYTES :]
    read = _WHO.fullmatch(who)
    if len(data) > MAX_BYTES or read is None:
        raise LinkRefused("no link credentials")
    transcript = _Transcript(secret, sent, nonce, who)
    if not hmac.compare_digest(mac, transcript.mac(b"client")):
        raise LinkRefused("the cluster secrets differ")
    proven = Proven(read[1].decode(), read[2].decode(), Seal(transcript.mac(b"down")), Seal(transcript.mac(b"up")))
    return transcript.mac(b"server"), proven


def check_proof(expected: Expected, data: bytes) -> Proven:
    """Returns who the dispatcher is. Raises LinkRefused where it does not know the secret."""
    if not hmac.compare_digest(data, expected.proof):
        raise LinkRefused("the far end does not know the cluster secret")
    return expected.proven


def _node(node: str) -> bytes:
    raw = node.encode("utf-8", "replace")
    if _NODE.fullmatch(raw) is None:
        raise ValueError(f"a node is 1 to 128 printable ASCII characters without blanks, not {node!r}")
    return raw


class _Transcript:
    """Everything both ends have sent. Every MAC and key is made of it, each for one purpose."""

    def __init__(self, secret: bytes, sent: Challenge, nonce: bytes, who: bytes) -> None:
        self._secret = secret
        parts = (sent.nonce, sent.node, nonce, who)
        self._all = _MAGIC + b"".join(len(part).to_bytes(2, "big") + part for part in parts)

    def mac(self, purpose: bytes) -> bytes:
        return hmac.digest(self._secret, purpose + b"\0" + self._all, "sha256")
