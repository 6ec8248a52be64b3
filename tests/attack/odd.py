"""Odd text, bytes, JSON and claims from a seed: what clients, peers and foreign producers should never send."""

import base64
import hashlib
import hmac
import json
import random
import time
from typing import Any, Final

TEXTS: Final = (
    *("", " ", "\x00", "\n", "\r\n", "\t", "a\nb", "\ud83d", "\udc80", "\ud83d\ude00", "😀", "é", "e\u0301"),
    *("\u202e", "\u2028", "\ufeff", "\uffff", "\x7f", "\x1b[2J", "%00", "%ff", "%ED%A0%80", "%2e%2e/", "../.."),
    *("*", "**", "a*", "*a", "a b", "-", "null", "true", "NaN", "1e400", "-1", "0", str(2**53), str(2**64)),
    *(str(-(2**63) - 1), "9" * 400, "0x10", "１２３", "{}", "[]", '"', "'", "\\", "\\u0000", "${x}", "{0.__class__}"),
    *("%s%n", "<script>", "javascript:1", "data: x\n\nid: 9", "kafka", "hg:x", "dm:x", "anonymous", "hello", "good"),
    *("a" * 128, "a" * 129, "ä" * 64, "ä" * 65, "x" * 5_000),
)
NUMBERS: Final = (
    *(0, 1, -1, 2**31, 2**53 - 1, 2**53, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, -0.0, 1e300, 1e-300),
    *(float("nan"), float("inf"), float("-inf")),
)
BYTES: Final = (
    *(b"", b"\x00", b"\xff", b"\xfe\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf{}"),
    *(b"\x80" * 40, b"{", b"}", b"[" * 70, b'{"a":' * 70, b'{"a":1}\n', b'"\\ud800"', b'{"a":"\\ud83d"}', b"1e999"),
    *(b"-", b"01", b"nul", b"\xffHG\x00", b"\xffHG\x01\x01", b"\xffHGK" + bytes(60), b"\xc1", b"\xdd\xff\xff\xff\xff"),
    *(b"\xdc\xff\xff", b"\x91" * 64),
)
MEMBERS: Final = (
    *("type", "id", "topic_id", "from", "epoch", "seq", "ts", "last", "token", "payload", "client_msg_id", "priority"),
    *("name", "permissions", "settings", "profile", "presence", "ack", "device_id", "attachments", "url", "t", "x"),
)


class Odd:
    """A source of odd things; equal seeds give equal things in equal order."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one_of(self, *things: Any) -> Any:
        """Returns one of them."""
        return self.random.choice(things)

    def text(self) -> str:
        """Returns odd text, now and then a mixture of several or of any code points."""
        kind = self.random.random()
        if kind < 0.1:
            return self.random.choice(("\ud83d", "\udc80*", "a\udfff", "*\ud800"))  # what no UTF-8 can hold
        if kind < 0.7:
            return self.random.choice(TEXTS)
        if kind < 0.9:
            return "".join(self.random.choices(TEXTS, k=3))
        return "".join(chr(self.random.randrange(0x110000)) for _ in range(self.random.randrange(1, 20)))

    def octets(self) -> bytes:
        """Returns odd bytes: known ones, random ones, or JSON with a few bytes changed."""
        kind = self.random.random()
        if kind < 0.4:
            return self.random.choice(BYTES)
        if kind < 0.6:
            return self.random.randbytes(self.random.randrange(1, 200))
        return self.changed(self.json())

    def changed(self, data: bytes) -> bytes:
        """Returns data with some bytes replaced, repeated, or cut off."""
        out = bytearray(data)
        for _ in range(self.random.randrange(1, 4)):
            if out:
                out[self.random.randrange(len(out))] = self.random.randrange(256)
        return bytes(out[: self.random.randrange(len(out) + 1)]) if self.random.random() < 0.3 else bytes(out)

    def value(self, depth: int = 3) -> Any:
        """Returns an odd JSON value."""
        kind = self.random.randrange(8 if depth else 5)
        if kind < 2:
            return self.text()
        if kind < 4:
            return self.random.choice(NUMBERS)
        if kind == 4:
            return self.one_of(None, True, False)
        if kind < 7:
            return {self.one_of(*MEMBERS): self.value(depth - 1) for _ in range(self.random.randrange(4))}
        return [self.value(depth - 1) for _ in range(self.random.randrange(4))]

    def json(self) -> bytes:
        """Returns an odd value as JSON text (NaN and lone surrogates as Python writes them)."""
        return json.dumps(self.value()).encode()

    def claims(self) -> dict[str, Any]:
        """Returns a token's claims that are good but for a few."""
        claims: dict[str, Any] = {"sub": "fuzz", "exp": time.time() + 300, "headgate": {"subscribe": ["*"]}}
        for _ in range(self.random.randrange(1, 3)):
            name = self.one_of("sub", "exp", "nbf", "iat", "aud", *["headgate"] * 5)
            claims[name] = self._rights() if name == "headgate" and self.random.random() < 0.9 else self.value()
        return claims

    def _rights(self) -> dict[str, Any]:
        """Returns rights that are mostly of the right types: what is odd in them gets further than the first look."""
        rights: dict[str, Any] = {}
        for name in self.random.sample(("publish", "subscribe", "subscribe", "admin", "only", "service"), 2):
            good = (
                [self.text() for _ in range(self.random.randrange(1, 4))] if name in ("publish", "subscribe") else True
            )
            rights[name] = good if self.random.random() < 0.9 else self.value()
        return rights

    def token(self, secret: str) -> str:
        """Returns a token of the right issuer, odd in its claims, its header, or its text."""
        header = {"alg": "HS256", "typ": "JWT"}
        if self.random.random() < 0.15:
            header[self.one_of("alg", "typ", "kid", "crit", "b64", "jku")] = self.value()
        signed = ".".join(_part(json.dumps(part).encode()) for part in (header, self.claims()))
        token = f"{signed}.{_part(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"
        return token if self.random.random() < 0.9 else self.changed(token.encode()).decode("latin-1")

    def percent(self) -> str:
        """Returns odd text or bytes as a part of a URL, at times not encoded as it should be."""
        if self.random.random() < 0.2:
            return self.text().encode("utf-8", "surrogatepass").decode("latin-1")
        raw = self.octets() if self.random.random() < 0.3 else self.text().encode("utf-8", "surrogatepass")
        return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"%{byte:02x}" for byte in raw[:2_000])


def _part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
