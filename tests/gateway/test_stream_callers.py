"""Who opens a stream: tickets and tokens whose key is fetched, on both kinds of streams, and revocations."""

import asyncio
import json
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from gateway import sessions
from gateway.stream_callers import REDEEM_S
from headgate.core.client.limits import Limits
from headgate.core.wire.link import Refused
from headgate.core.wire.link_users import Redeem, Revocation, Revocations
from headgate.core.wire.rights import Caller
from headgate.runtime.jwks import JwksKeys
from headgate.runtime.tokens import TokenKey, mint
from tests.gateway.bed import SECRET, UPGRADE, Bed, HandClock, Wire, request
from tests.runtime.key_pairs import key_set, published, signed
from tests.runtime.test_jwks import Server

CLAIMS = {"sub": "ann", "exp": 2_000}


def frame(**members: Any) -> bytes:
    return Frame(Opcode.TEXT, json.dumps(members).encode()).serialize(mask=True)


class Streams:
    """A gateway with the topics `a`, `b` and `mine`, which is Ann's alone."""

    def __init__(self, keys: JwksKeys | None = None, **options: Any) -> None:
        self.bed = Bed(mode="jwt", keys=keys, **options)
        for topic_id in ("a", "b"):
            self.bed.owners.create(topic_id)
        self.bed.owners.create("mine", permissions="PRIVATE", owner_id="ann")

    def token(self, sub: str = "ann", *, ttl_s: float = 600, jti: str | None = None, **claims: Any) -> str:
        now_s = self.bed.clock.wall_ms() / 1_000
        return mint(TokenKey(SECRET), Caller(sub, **claims), now_s=now_s, ttl_s=ttl_s, jti=jti)

    def once(self, token: str | None = None) -> str:
        identity = self.bed.authenticator.authenticate(token or self.token())
        entropy = self.bed.chance.entropy(16)
        return self.bed.authenticator.tickets.sign_once(identity, self.bed.clock.wall_ms(), entropy).text

    def stream(self, *topics: str, ttl_s: float = 60, token: str | None = None) -> str:
        identity = self.bed.authenticator.authenticate(token or self.token())
        now_ms, entropy = self.bed.clock.wall_ms(), self.bed.chance.entropy(16)
        return self.bed.authenticator.tickets.sign_stream(identity, topics, int(ttl_s * 1_000), now_ms, entropy).text

    def sse(self, query: str, method: str = "GET") -> Wire:
        return self.bed.asked(request(method, f"/sse/subscribe?presence=false&{query}"))

    def websocket(self, query: str = "", *frames: bytes) -> Wire:
        return self.bed.asked(request("GET", f"/ws/subscribe?{query}", *UPGRADE) + b"".join(frames))


def kinds(wire: Wire) -> list[str]:
    """The kinds of the frames that a stream of either kind got."""
    found, data = [], wire.written
    while (at := data.find(b'"type":"')) >= 0:
        data = data[at + 8 :]
        found.append(data[: data.index(b'"')].decode())
    return found


def ended_with(wire: Wire, code: int) -> bool:
    return f'"code":{code}'.encode() in wire.written and wire.ends != []


class TestOnce:
    async def test_opens_one_stream_of_either_kind(self) -> None:
        streams = Streams()
        for opened in (
            streams.sse(f"topic_id=a&ticket={streams.once()}"),
            streams.websocket(f"ticket={streams.once()}"),
        ):
            assert opened.ends == [] and "welcome" in kinds(opened) and b'"user_id":"ann"' in opened.written

    async def test_gives_all_rights_of_its_token(self) -> None:
        streams = Streams()
        wire = streams.websocket(f"topic_id=mine&presence=false&ticket={streams.once()}")
        assert kinds(wire) == ["welcome", "subscribed"]
        other = streams.websocket(f"topic_id=mine&presence=false&ticket={streams.once(streams.token('bob'))}")
        assert kinds(other) == ["welcome", "error"]

    async def test_replayed_is_401_and_4401(self) -> None:
        streams = Streams()
        ticket = streams.once()
        assert streams.sse(f"topic_id=a&ticket={ticket}").status == 200
        assert streams.sse(f"topic_id=a&ticket={ticket}").status == 401
        assert ended_with(streams.websocket(f"ticket={ticket}"), 4401)
        assert streams.bed.numbers.refusals == ["unauthenticated"] * 2

    async def test_its_stream_ends_with_its_token_and_not_after_30_seconds(self) -> None:
        streams = Streams()
        wire = streams.websocket(f"ticket={streams.once(streams.token(ttl_s=50))}")
        streams.bed.forward(40)
        assert wire.ends == [] and "token_expiring" in kinds(wire)
        streams.bed.forward(20)
        assert ended_with(wire, 4610)

    async def test_with_the_owner_away_is_retryable_and_no_silent_accept(self) -> None:
        streams = Streams()
        streams.bed.owners.go()
        sse = streams.sse(f"topic_id=a&ticket={streams.once()}")
        assert sse.status == 200 and ended_with(sse, 4503) and "welcome" not in kinds(sse)
        assert b'"retry_after_ms":1000' in sse.written
        assert streams.sse(f"topic_id=a&ticket={streams.once()}", "HEAD").status == 503
        websocket = streams.websocket(f"ticket={streams.once()}")
        assert ended_with(websocket, 4503) and "welcome" not in kinds(websocket)

    async def test_with_an_owner_that_does_not_answer_is_retryable(self) -> None:
        streams = Streams()
        streams.bed.owners.slow = True
        sse, websocket = (
            streams.sse(f"topic_id=a&ticket={streams.once()}"),
            streams.websocket(f"ticket={streams.once()}"),
        )
        streams.bed.forward(REDEEM_S - 0.5)
        assert sse.written == b"" and kinds(websocket) == []
        streams.bed.forward(1)
        assert ended_with(sse, 4503) and ended_with(websocket, 4503)
        streams.bed.owners.deliver()
        assert "welcome" not in kinds(sse) + kinds(websocket), "the late answer opens nothing"

    async def test_no_frame_is_read_before_the_owner_has_answered_and_none_is_lost(self) -> None:
        streams = Streams()
        streams.bed.owners.slow = True
        wire = streams.websocket(f"ticket={streams.once()}", frame(type="ping", id=1))
        assert wire.status == 101 and kinds(wire) == [] and not wire.reads
        streams.bed.owners.deliver()
        assert kinds(wire) == ["welcome", "pong"] and wire.reads

    async def test_a_client_that_is_gone_before_the_answer_harms_nobody(self) -> None:
        streams = Streams()
        streams.bed.owners.slow = True
        for wire in (streams.sse(f"topic_id=a&ticket={streams.once()}"), streams.websocket(f"ticket={streams.once()}")):
            wire.goes()
        streams.bed.owners.deliver()
        assert streams.bed.hub.session_count == 0

    async def test_is_used_up_at_the_owner_of_its_users_shard(self) -> None:
        streams = Streams()
        streams.sse(f"topic_id=a&ticket={streams.once()}")
        (asked,) = [message for message in streams.bed.owners.asked if isinstance(message, Redeem)]
        assert asked.user_id == "ann" and asked.expires_ms - asked.issued_ms == 30_000

    async def test_revoked_while_it_is_used_up_opens_nothing(self) -> None:
        streams = Streams()
        streams.bed.owners.slow = True
        wire = streams.sse(f"topic_id=a&ticket={streams.once()}")
        streams.bed.service.on_push(0, Revocations([Revocation("ann", "", 1_000_001)]))
        streams.bed.owners.deliver()
        assert wire.status == 401


class TestStreamTickets:
    async def test_open_the_same_topics_again_and_again(self) -> None:
        streams = Streams()
        ticket = streams.stream("a", "mine")
        for topic in ("a", "mine", "a"):
            assert streams.sse(f"topic_id={topic}&ticket={ticket}").status == 200
        assert not any(isinstance(message, Redeem) for message in streams.bed.owners.asked)

    @pytest.mark.parametrize("topic", ["b", "nobodys", "mine"])
    async def test_another_topic_is_403_whether_it_exists_or_not(self, topic: str) -> None:
        streams = Streams()
        ticket = streams.stream("a")
        for method in ("GET", "HEAD"):
            assert streams.sse(f"topic_id={topic}&ticket={ticket}", method).status == 403

    async def test_on_a_websocket_another_topic_is_forbidden_and_the_connection_stays(self) -> None:
        streams = Streams()
        frames = frame(type="subscribe", topic_id="b"), frame(type="subscribe", topic_id="a", presence=False)
        wire = streams.websocket(f"topic_id=mine&ticket={streams.stream('a')}", *frames)
        assert kinds(wire) == ["welcome", "error", "error", "subscribed"] and wire.written.count(b"forbidden") == 2
        assert wire.ends == []

    async def test_gives_no_right_that_its_user_has_not(self) -> None:
        streams = Streams()
        assert streams.sse(f"topic_id=mine&ticket={streams.stream('mine', token=streams.token('bob'))}").status == 404

    async def test_makes_no_topic(self) -> None:
        streams = Streams(auto_create=True)
        assert streams.sse(f"topic_id=new&ticket={streams.stream('new')}").status == 404
        assert "new" not in streams.bed.owners.topics

    async def test_its_streams_end_with_4610_when_it_expires(self) -> None:
        streams = Streams()
        ticket = streams.stream("a", ttl_s=10)
        wires = streams.sse(f"topic_id=a&ticket={ticket}"), streams.websocket(f"topic_id=a&ticket={ticket}")
        streams.bed.forward(9)
        assert all(wire.ends == [] for wire in wires)
        streams.bed.forward(2)
        assert all(ended_with(wire, 4610) for wire in wires)
        assert streams.sse(f"topic_id=a&ticket={ticket}").status == 401

    async def test_a_refresh_takes_a_token_and_no_ticket(self) -> None:
        streams = Streams()
        ticket = streams.stream("a")
        wire = streams.websocket(f"ticket={ticket}", frame(type="refresh", token=ticket))
        assert kinds(wire) == ["welcome", "error"]
        wire.say(
            frame(type="refresh", token=streams.token()) + frame(type="subscribe", topic_id="mine", presence=False)
        )
        assert kinds(wire)[2:] == ["refreshed", "subscribed"]


class TestConfusion:
    async def test_a_ticket_is_no_token_anywhere(self) -> None:
        streams = Streams()
        for ticket in (streams.once(), streams.stream("a")):
            assert streams.sse(f"topic_id=a&token={ticket}").status == 401
            header = f"Authorization: Bearer {ticket}"
            assert streams.bed.asked(request("GET", "/sse/subscribe?topic_id=a", header)).status == 401
            assert ended_with(streams.websocket("", frame(type="auth", token=ticket)), 4401)
            offer = f"Sec-WebSocket-Protocol: headgate.v1, bearer.{ticket}"
            assert ended_with(streams.bed.asked(request("GET", "/ws/subscribe", *UPGRADE, offer)), 4401)

    async def test_a_token_is_no_ticket(self) -> None:
        streams = Streams()
        assert streams.sse(f"topic_id=a&ticket={streams.token(admin=True)}").status == 401

    async def test_a_bad_ticket_is_not_followed_by_a_good_token(self) -> None:
        streams = Streams()
        assert streams.sse(f"topic_id=a&ticket=x&token={streams.token()}").status == 401


class TestRevocations:
    async def test_end_the_live_streams_of_the_user_with_4401_and_no_others(self) -> None:
        streams = Streams()
        token = streams.token()
        anns = [
            streams.sse(f"topic_id=a&token={token}"),
            streams.websocket(f"topic_id=a&token={token}"),
            streams.sse(f"topic_id=a&ticket={streams.stream('a', token=token)}"),
            streams.websocket(f"ticket={streams.once(token)}"),
        ]
        bob, nobody = streams.sse(f"topic_id=a&token={streams.token('bob')}"), streams.websocket()
        streams.bed.service.on_push(0, Revocations([Revocation("ann", "", 1_000_001)]))
        assert all(ended_with(wire, 4401) for wire in anns)
        assert bob.ends == nobody.ends == []
        assert streams.sse(f"topic_id=a&token={token}").status == 401

    async def test_end_the_streams_of_one_token_by_its_id(self) -> None:
        streams = Streams()
        one, two = (streams.websocket(f"token={streams.token(jti=jti)}") for jti in ("t1", "t2"))
        streams.bed.service.on_push(0, Revocations([Revocation("", "t1", 1_000_001)]))
        assert ended_with(one, 4401) and two.ends == []

    async def test_of_many_streams_some_are_looked_at_in_each_loop_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sessions, "SLICE_SESSIONS", 2)
        streams = Streams(limits=Limits(connections_per_user=100))
        wires = [streams.websocket(f"token={streams.token()}") for _ in range(5)]
        streams.bed.service.on_push(0, Revocations([Revocation("ann", "", 1_000_001)]))
        ended = [sum(ended_with(wire, 4401) for wire in wires)]
        for _ in range(2):
            await asyncio.sleep(0)
            ended.append(sum(ended_with(wire, 4401) for wire in wires))
        assert ended == [2, 4, 5]

    async def test_spare_a_stream_whose_token_is_newer(self) -> None:
        streams = Streams()
        wire = streams.websocket(f"token={streams.token()}")
        streams.bed.service.on_push(0, Revocations([Revocation("ann", "", 1_000_000)]))
        assert wire.ends == []

    async def test_a_refresh_with_a_revoked_token_is_refused(self) -> None:
        streams = Streams()
        old = streams.token()
        streams.bed.clock.seconds += 5  # type: ignore[attr-defined]
        wire = streams.websocket(f"token={streams.token()}")
        streams.bed.service.on_push(0, Revocations([Revocation("ann", "", 1_003_000)]))
        assert wire.ends == []
        wire.say(frame(type="refresh", token=old))
        assert kinds(wire) == ["welcome", "error"] and b"unauthenticated" in wire.written


class TestFreshKeys:
    """A token whose key the gateway does not know yet waits for the fetch, and nobody else does."""

    async def made(self) -> tuple[Streams, JwksKeys, Server]:
        server, clock = Server(published("old", "ES256")), HandClock()
        keys = JwksKeys(server, clock)
        await keys.refresh()
        server.answer = key_set(published("new", "ES256", 1))
        return Streams(keys, clock=clock), keys, server

    async def test_both_kinds_of_streams_open_once_the_key_is_there(self) -> None:
        streams, keys, _ = await self.made()
        token = signed(CLAIMS, "ES256", 1, kid="new")
        sse = streams.sse(f"topic_id=a&token={token}")
        websocket = streams.websocket(f"topic_id=a&presence=false&token={token}", frame(type="ping"))
        assert sse.written == b"" and kinds(websocket) == [] and not websocket.reads
        assert streams.sse(f"topic_id=a&token={streams.token()}").status == 200
        await keys.refresh()
        await asyncio.sleep(0)
        assert sse.status == 200 and kinds(websocket) == ["welcome", "subscribed", "pong"]

    async def test_an_unknown_key_is_401_after_the_fetch(self) -> None:
        streams, keys, _ = await self.made()
        token = signed(CLAIMS, "ES256", 2, kid="invented")
        sse, websocket = streams.sse(f"topic_id=a&token={token}"), streams.websocket(f"token={token}")
        await keys.refresh()
        await asyncio.sleep(0)
        assert sse.status == 401 and ended_with(websocket, 4401)

    async def test_auth_frames_come_again_and_a_refresh_is_repeated(self) -> None:
        streams, keys, _ = await self.made()
        token = signed(CLAIMS, "ES256", 1, kid="new")
        wire = streams.websocket("", frame(type="auth", token=token))
        assert ended_with(wire, 4503), "the class that comes again with back-off"
        live = streams.websocket(f"token={streams.token()}", frame(type="refresh", token=token))
        assert kinds(live) == ["welcome", "error"] and b"not_ready" in live.written
        await keys.refresh()
        live.say(frame(type="refresh", token=token))
        assert kinds(live)[2:] == ["refreshed"]


async def test_an_owner_of_an_older_version_opens_nothing_and_the_client_comes_again() -> None:
    streams = Streams()
    streams.bed.owners._Redeem = lambda ask: Refused(ask.req, "bad_request", "no request")  # type: ignore[method-assign]
    assert ended_with(streams.sse(f"topic_id=a&ticket={streams.once()}"), 4503)
