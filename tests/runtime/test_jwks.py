"""The keys of a key server: which are taken, when they are fetched, and that a server that is away costs nothing."""

import asyncio
import json
from typing import Any

import pytest

from headgate.core.wire.errors import Refusal
from headgate.runtime.jwks import MAX_KEYS, UNKNOWN_S, BadKeySet, JwksKeys, UnknownKey, keys_in
from tests.runtime.key_pairs import key_set, published


class HandClock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return int(self.seconds * 1_000)


class Server:
    """A key server: what it answers, and how often it was asked."""

    def __init__(self, *documents: Any) -> None:
        self.answer: bytes | Exception = key_set(*documents)
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self) -> bytes:
        self.asked += 1
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def served(*documents: Any) -> tuple[JwksKeys, Server, HandClock]:
    server, clock = Server(*documents), HandClock()
    keys = JwksKeys(server, clock)
    await keys.refresh()
    return keys, server, clock


def refused(keys: JwksKeys, kid: object, algorithm: object = "ES256") -> str:
    with pytest.raises(Refusal) as caught:
        keys.find(kid, algorithm)
    return type(caught.value).__name__ if isinstance(caught.value, UnknownKey) else caught.value.code


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_key_is_found_by_its_id_and_its_own_algorithm_decides(algorithm: str) -> None:
    keys, _, _ = await served(published("a", algorithm), published("b", "ES256", 1))
    assert keys.find("a", algorithm).algorithm_name == algorithm
    for other in {"RS256", "ES256", "EdDSA"} - {algorithm}:
        assert refused(keys, "a", other) == "unauthenticated"


@pytest.mark.parametrize("algorithm", ["HS256", "none", "RS512", "PS256", "ES384", "", None, 5, ["RS256"], {}])
async def test_no_other_algorithm_is_taken_and_none_causes_a_fetch(algorithm: object) -> None:
    keys, server, _ = await served(published("a", "RS256"))
    for kid in ("a", "unknown"):
        assert refused(keys, kid, algorithm) == "unauthenticated"
    assert not keys._wanted.is_set() and server.asked == 1


@pytest.mark.parametrize("kid", [5, ["a"], {"a": 1}, True, "k" * 257])
async def test_kid_tricks_are_refused_and_cause_no_fetch(kid: object) -> None:
    keys, _, _ = await served(published("a", "ES256"), published("b", "ES256", 1))
    assert refused(keys, kid) == "unauthenticated"
    assert not keys._wanted.is_set()


@pytest.mark.parametrize("kid", ["../../etc/passwd", "https://evil.example/keys", "a' OR 1=1", "", "\u0000"])
async def test_a_kid_is_compared_and_never_opened(kid: str) -> None:
    keys, server, _ = await served(published("a", "ES256"), published("b", "ES256", 1))
    assert refused(keys, kid) == "UnknownKey"
    await keys.refresh()
    assert refused(keys, kid) == "unauthenticated"
    assert server.asked == 2


async def test_a_token_without_a_kid_is_checked_with_the_only_key() -> None:
    keys, server, _ = await served(published(None, "ES256"))
    assert keys.find(None, "ES256")
    server.answer = key_set(published("a", "ES256"), published("b", "ES256", 1))
    await keys.refresh()
    assert refused(keys, None) == "unauthenticated"


class TestUnknownKeys:
    async def test_an_unknown_kid_is_fetched_for_at_once(self) -> None:
        keys, server, _ = await served(published("a", "ES256"))
        running = asyncio.create_task(keys.run())
        try:
            while server.asked < 2:
                await asyncio.sleep(0)
            await keys.fetched()
            server.answer = key_set(published("a", "ES256"), published("b", "ES256", 1))
            assert refused(keys, "b") == "UnknownKey"
            await asyncio.wait_for(keys.fetched(), 5)
            assert keys.find("b", "ES256")
        finally:
            running.cancel()

    async def test_at_most_every_thirty_seconds(self) -> None:
        keys, _, clock = await served(published("a", "ES256"))
        assert refused(keys, "x1") == "UnknownKey"
        await keys.refresh()
        clock.seconds += UNKNOWN_S - 0.1
        assert refused(keys, "x2") == "unauthenticated"
        clock.seconds += 0.1
        assert refused(keys, "x3") == "UnknownKey"

    async def test_everybody_waits_for_one_fetch(self) -> None:
        keys, server, _ = await served(published("a", "ES256"))
        server.may_answer.clear()
        for kid in ("x", "y", "z"):
            assert refused(keys, kid) == "UnknownKey"
        waiting = [asyncio.create_task(keys.fetched()) for _ in range(3)]
        refreshing = asyncio.create_task(keys.refresh())
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        server.may_answer.set()
        await refreshing
        await asyncio.gather(*waiting)
        assert server.asked == 2

    async def test_who_waits_and_is_gone_harms_nobody(self) -> None:
        keys, _, _ = await served(published("a", "ES256"))
        assert refused(keys, "x") == "UnknownKey"
        gone, other = asyncio.create_task(keys.fetched()), asyncio.create_task(keys.fetched())
        await asyncio.sleep(0)
        gone.cancel()
        await keys.refresh()
        await asyncio.wait_for(other, 5)


class TestAServerThatIsAway:
    @pytest.mark.parametrize("fault", [OSError("refused"), TimeoutError(), BadKeySet("500"), b"<html>", key_set()])
    async def test_keeps_the_old_keys(self, fault: Exception | bytes) -> None:
        keys, server, _ = await served(published("a", "ES256"))
        generation = keys.generation
        server.answer = fault
        assert not await keys.refresh()
        assert keys.find("a", "ES256") and keys.generation == generation and keys.not_ready() is None

    async def test_says_of_a_key_that_may_be_new_that_it_cannot_be_checked_yet(self) -> None:
        keys, server, clock = await served(published("a", "ES256"))
        assert refused(keys, "b") == "UnknownKey"
        server.answer = OSError("refused")
        await keys.refresh()
        assert refused(keys, "b") == "not_ready", "a client that is told unauthenticated gives up"
        assert keys.not_ready() is None and keys.find("a", "ES256")
        server.answer = key_set(published("a", "ES256"))
        await keys.refresh()
        assert refused(keys, "b") == "unauthenticated"
        clock.seconds += UNKNOWN_S
        assert refused(keys, "b") == "UnknownKey"

    async def test_from_the_beginning_is_said_and_refuses_with_what_heals_by_waiting(self) -> None:
        server, clock = Server(), HandClock()
        server.answer = OSError("refused")
        keys = JwksKeys(server, clock)
        assert refused(keys, "a") == "UnknownKey"
        await keys.refresh()
        assert refused(keys, "a") == "UnknownKey", "the first unknown key asks at once"
        await keys.refresh()
        assert refused(keys, "a") == "not_ready"
        assert "refused" in (keys.not_ready() or "")
        server.answer = key_set(published("a", "ES256"))
        await keys.refresh()
        assert keys.find("a", "ES256") and keys.not_ready() is None

    async def test_a_key_that_is_withdrawn_is_gone_and_the_generation_says_so(self) -> None:
        keys, server, _ = await served(published("a", "ES256"), published("b", "ES256", 1))
        generation = keys.generation
        await keys.refresh()
        assert keys.generation == generation
        server.answer = key_set(published("b", "ES256", 1))
        await keys.refresh()
        assert keys.generation == generation + 1
        assert refused(keys, "a") == "UnknownKey"


class TestDocuments:
    def test_only_public_signing_keys_of_three_algorithms_are_taken(self) -> None:
        good = published("good", "ES256")
        secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "oct", "alg": "HS256"}
        private = published("private", "ES256") | {"d": "AAAA"}
        others: list[Any] = [
            *(secret, private, published("enc", "RS256", use="enc"), published("alg", "RS256", alg="RS512")),
            *(published("ops", "ES256", key_ops=["encrypt"]), published("ops2", "ES256", key_ops="verify")),
            *(published("small", "RS256", 9, 1_024), published("curve", "ES256", crv="P-384"), {"kty": "RSA"}, 5, None),
            *({"kty": []}, published("x", "ES256", x=5), published("y", "ES256", x="!"), published("z", "RS256", n="")),
            published("k" * 257, "ES256"),
        ]
        assert set(keys_in(key_set(*others, good))) == {"good"}

    def test_of_two_keys_of_one_id_the_first_counts(self) -> None:
        first, second = published("a", "ES256"), published("a", "RS256")
        assert keys_in(key_set(first, second)) == {"a": first}

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"[]",
            b"{}",
            b'{"keys":{}}',
            b"\xff",
            b"[" * 100_000,
            json.dumps({"keys": [{}] * (MAX_KEYS + 1)}).encode(),
        ],
    )
    def test_what_is_no_set_of_keys(self, data: bytes) -> None:
        with pytest.raises(BadKeySet):
            keys_in(data)
