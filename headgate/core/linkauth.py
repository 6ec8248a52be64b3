"""Who may open a link: an HMAC with the cluster's secret over who and when; knows no transport."""

import hashlib
import hmac
from typing import Final

SCHEME: Final = "Headgate-HMAC"
MAX_SKEW_MS: Final = 60_000
NONCE_BYTES: Final = 16


def _mac(secret: bytes, *parts: str) -> str:
    return hmac.new(secret, "\n".join(parts).encode(), hashlib.sha256).hexdigest()


def offer(secret: bytes, node: str, now_ms: int, nonce: str) -> str:
    """Returns the Authorization header of a client: `Headgate-HMAC <node> <ms> <nonce> <mac>`."""
    return f"{SCHEME} {node} {now_ms} {nonce} {_mac(secret, 'link 1 client', node, str(now_ms), nonce)}"


def check_offer(secret: bytes, header: str, now_ms: int) -> str:
    """Returns the nonce of a good offer. Raises ValueError with the reason."""
    parts = header.split(" ")
    if len(parts) != 5 or parts[0] != SCHEME or not parts[2].isdigit():
        raise ValueError("no link credentials")
    _, node, at, nonce, mac = parts
    if not hmac.compare_digest(mac, _mac(secret, "link 1 client", node, at, nonce)):
        raise ValueError("the cluster secrets differ")
    if abs(int(at) - now_ms) > MAX_SKEW_MS:
        raise ValueError(f"the clocks are {abs(int(at) - now_ms) / 1000:.0f} s apart")
    return nonce


def proof(secret: bytes, nonce: str) -> str:
    """Returns what the dispatcher answers to an offer's nonce: it knows the secret as well."""
    return _mac(secret, "link 1 server", nonce)


def check_proof(secret: bytes, nonce: str, answer: str) -> bool:
    """Says whether the far end knows the secret."""
    return hmac.compare_digest(answer, proof(secret, nonce))
