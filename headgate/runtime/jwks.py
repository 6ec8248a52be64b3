"""The public keys of a key server (JWKS, RFC 7517), by key id: cached, and fetched again in the background.

No request waits for a fetch but one whose key is not known yet, and that one at most as long as one fetch takes.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import jwt
import structlog

from headgate.core.wire.errors import HeadgateError, Refusal
from headgate.runtime.logging import Reminder
from headgate.runtime.ports import Clock
from headgate.runtime.token_claims import unauthenticated

logger = structlog.get_logger("auth")

REFRESH_S: Final = 300.0
UNKNOWN_S: Final = 30.0  # between two fetches that unknown key ids cause: anybody can invent one
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 30.0
MAX_KEYS: Final = 100
MAX_KID: Final = 256  # characters
MIN_RSA_BITS: Final = 2_048  # RFC 7518 section 3.3
MAX_RSA_BITS: Final = 8_192  # the work of one check grows with the square
RETRY_AFTER_MS: Final = 1_000
_ALGORITHM: Final = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
ALGORITHMS: Final = frozenset(_ALGORITHM.values())

Fetch = Callable[[], Awaitable[bytes]]


class BadKeySet(HeadgateError):
    """What the key server answered is no set of keys, or has none that can be used."""


class UnknownKey(Refusal):
    """The token's key is not known and is being fetched: authenticate again when the fetch has ended."""

    def __init__(self) -> None:
        super().__init__("not_ready", "the token's key is being fetched; try again", retry_after_ms=RETRY_AFTER_MS)


class JwksKeys:
    """The newest keys. `run` is its task. `generation` grows whenever the keys change.

    A fetch that fails changes nothing: a key server that is away keeps its last keys.
    """

    def __init__(self, fetch: Fetch, clock: Clock, *, refresh_s: float = REFRESH_S) -> None:
        """`fetch` returns the key server's answer; it raises OSError, TimeoutError or BadKeySet."""
        self._fetch = fetch
        self._clock = clock
        self._refresh_s = refresh_s
        self._keys: dict[str, jwt.PyJWK] = {}
        self._documents: dict[str, Any] = {}  # the keys as the server published them
        self.generation = 0
        self._why = "the key server has not answered yet"  # why the newest keys are not known; empty where they are
        self._wanted = asyncio.Event()  # a token named a key that is not known
        self._fetching = True  # from the wish to the end of the fetch
        self._unknown_at = -UNKNOWN_S
        self._waiting: list[Callable[[], None]] = []
        self._reminder = Reminder(clock.now)

    def find(self, kid: object, algorithm: object) -> jwt.PyJWK:
        """Returns the key that a token's header names. Its own algorithm decides, the header must say the same.

        A token without a key id is checked with the only key, where there is only one.
        Raises UnknownKey while the key is being fetched, Refusal `unauthenticated`, and Refusal `not_ready` for a key
        that is not known where the last fetch failed: it may be a new one.
        """
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise unauthenticated("the token's algorithm (alg) is not accepted")
        if kid is None and len(self._keys) == 1:
            kid = next(iter(self._keys))
        if not isinstance(kid, str) or len(kid) > MAX_KID:
            raise unauthenticated(f"the token's header must name its key (kid) in at most {MAX_KID} characters")
        key = self._keys.get(kid)
        if key is None:
            raise self._unknown()
        if key.algorithm_name != algorithm:
            raise unauthenticated("the token's algorithm (alg) is not that of its key")
        return key

    def _unknown(self) -> Refusal:
        """Asks for a fetch where one is allowed now; returns what the token is refused with meanwhile."""
        now = self._clock.now()
        if not self._fetching and now - self._unknown_at >= UNKNOWN_S:
            self._unknown_at = now
            self._fetching = True
            self._wanted.set()
        if self._fetching:
            return UnknownKey()
        if self._why:
            return Refusal("not_ready", self._why, retry_after_ms=RETRY_AFTER_MS)
        return unauthenticated("the token's key (kid) is not known")

    def when_fetched(self, then: Callable[[], None]) -> None:
        """Calls `then` when the fetch under way has ended, at once where there is none; from the loop, never here."""
        if self._fetching:
            self._waiting.append(then)
        else:
            asyncio.get_running_loop().call_soon(then)

    async def fetched(self) -> None:
        """Waits for the end of the fetch under way."""
        ended = asyncio.get_running_loop().create_future()
        self.when_fetched(lambda: None if ended.done() else ended.set_result(None))
        await ended

    def not_ready(self) -> str | None:
        """Returns None once keys were fetched, else one sentence for the readiness probe."""
        return None if self._keys else self._why

    async def run(self) -> None:
        """Fetches now, then again and again until it is cancelled."""
        retry_s = RETRY_FIRST_S
        while True:
            good = await self.refresh()
            wait_s, retry_s = (self._refresh_s, RETRY_FIRST_S) if good else (retry_s, min(retry_s * 2, RETRY_MAX_S))
            try:
                async with asyncio.timeout(wait_s):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()

    async def refresh(self) -> bool:
        """Fetches once; returns whether the keys are the newest now."""
        self._fetching = True
        try:
            self._take(keys_in(await self._fetch()))
        except (OSError, TimeoutError, BadKeySet) as error:
            self._why = f"auth.jwks_url: {error or type(error).__name__}"
            if self._reminder.is_due("keys"):
                logger.warning("no keys from the key server; those it gave last stay", why=self._why)
            return False
        else:
            self._why = ""
        finally:
            self._fetching = False
            waiting, self._waiting = self._waiting, []
            for then in waiting:
                asyncio.get_running_loop().call_soon(then)
        return True

    def _take(self, documents: dict[str, Any]) -> None:
        if documents != self._documents:
            self._keys = {kid: jwt.PyJWK(document, _algorithm(document)) for kid, document in documents.items()}
            self._documents = documents
            self.generation += 1
            logger.info("keys of the key server", kids=sorted(documents))


def keys_in(data: bytes) -> dict[str, Any]:
    """Returns the usable keys of a JWKS document by key id, each as it is published. Raises BadKeySet.

    Usable are public keys for RS256, ES256 and EdDSA, for signatures. Of two keys of one id the first counts.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise BadKeySet("the answer is not JSON") from None
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise BadKeySet(f"the answer is no JSON object with a list of at most {MAX_KEYS} keys")
    usable: dict[str, Any] = {}
    for document in listed:
        if isinstance(document, dict) and _is_usable(document):
            usable.setdefault(document.get("kid", ""), document)
    if not usable:
        raise BadKeySet("the answer has no public key for RS256, ES256 or EdDSA")
    return usable


def _is_usable(document: dict[str, Any]) -> bool:
    algorithm = _algorithm(document)
    if algorithm is None or document.get("alg", algorithm) != algorithm or "d" in document:
        return False  # a private key that is published is nobody's secret any longer
    kid, operations = document.get("kid", ""), document.get("key_ops", ["verify"])
    if not isinstance(kid, str) or len(kid) > MAX_KID or document.get("use", "sig") != "sig":
        return False
    if not isinstance(operations, list) or "verify" not in operations:
        return False
    try:
        bits = getattr(jwt.PyJWK(document, algorithm).key, "key_size", MIN_RSA_BITS)
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
        return False
    return algorithm != "RS256" or MIN_RSA_BITS <= bits <= MAX_RSA_BITS


def _algorithm(document: dict[str, Any]) -> str | None:
    kind, curve = document.get("kty"), document.get("crv")
    if not isinstance(kind, str) or not isinstance(curve, str | None):
        return None
    return _ALGORITHM.get((kind, None if kind == "RSA" else curve))
