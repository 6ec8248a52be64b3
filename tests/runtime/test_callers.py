"""Who calls an API: a token whose key is being fetched waits, everybody else does not."""

import asyncio

import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller
from headgate.runtime.http.callers import KEY_FETCHES, Users
from headgate.runtime.http.origins import Origins
from headgate.runtime.jwks import UNKNOWN_S, JwksKeys, UnknownKey
from headgate.runtime.tokens import Authenticator, TokenKey, mint
from tests.runtime.key_pairs import key_set, published, signed
from tests.runtime.test_jwks import HandClock, Server

SECRET = "0123456789abcdef0123456789abcdef"
CLAIMS = {"sub": "ann", "exp": 2_000}


class Api:
    """The callers of an API with a key server that runs as in a process."""

    def __init__(self) -> None:
        self.server, self.clock = Server(published("old", "ES256")), HandClock()
        self.keys = JwksKeys(self.server, self.clock)
        self.users = Users(
            Authenticator("jwt", TokenKey(SECRET), self.clock, keys=self.keys), Origins(None, is_open=False)
        )
        self.running = asyncio.create_task(self.keys.run())

    async def who(self, token: str) -> Caller:
        async with asyncio.timeout(5):
            return (await self.users.known_identity({b"authorization": b"Bearer " + token.encode()}, {})).caller


async def test_a_token_of_a_fresh_key_waits_for_the_fetch_and_is_good() -> None:
    api = Api()
    assert await api.who(signed(CLAIMS, "ES256", kid="old")) == Caller("ann")
    api.server.answer = key_set(published("new", "ES256", 1))
    assert await api.who(signed(CLAIMS, "ES256", 1, kid="new")) == Caller("ann")
    assert api.server.asked == 2
    api.running.cancel()


async def test_a_fetch_that_began_before_the_key_was_published_is_followed_by_another() -> None:
    api = Api()
    api.server.may_answer.clear()
    await asyncio.sleep(0)
    waiting = asyncio.create_task(api.who(signed(CLAIMS, "ES256", 1, kid="new")))
    await asyncio.sleep(0)
    api.server.may_answer.set()
    while not api.keys.generation:
        await asyncio.sleep(0)
    api.server.answer = key_set(published("new", "ES256", 1))
    assert await waiting == Caller("ann")
    assert api.server.asked == KEY_FETCHES
    api.running.cancel()


async def test_invented_keys_are_refused_after_one_fetch_and_then_at_once() -> None:
    api = Api()
    await api.keys.fetched()
    for kid in ("x", "y", "z"):
        with pytest.raises(Refusal, match="unauthenticated"):
            await api.who(signed(CLAIMS, "ES256", 2, kid=kid))
    assert api.server.asked == 2
    api.clock.seconds += UNKNOWN_S
    with pytest.raises(Refusal, match="unauthenticated"):
        await api.who(signed(CLAIMS, "ES256", 2, kid="z"))
    assert api.server.asked == 3
    api.running.cancel()


async def test_other_tokens_do_not_wait_for_a_key_server_that_hangs() -> None:
    api = Api()
    await api.keys.fetched()
    api.server.may_answer.clear()
    waiting = asyncio.create_task(api.who(signed(CLAIMS, "ES256", 1, kid="new")))
    await asyncio.sleep(0)
    assert await api.who(mint(TokenKey(SECRET), Caller("bob"), now_s=1_000, ttl_s=60)) == Caller("bob")
    assert await api.who(signed(CLAIMS, "ES256", kid="old")) == Caller("ann")
    assert not waiting.done()
    waiting.cancel()
    api.running.cancel()


async def test_a_key_server_that_never_answered_is_503() -> None:
    api = Api()
    api.server.answer = OSError("refused")
    with pytest.raises(Refusal, match="not_ready") as caught:
        await api.who(signed(CLAIMS, "ES256", kid="old"))
    assert not isinstance(caught.value, UnknownKey)
    api.running.cancel()
