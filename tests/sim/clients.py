"""Subscribers that reconnect and resume by cursor, over fake sockets; each checks what it is promised as it comes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from gateway.head import Head
from headgate.core.client import inbound
from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal
from tests.sim.follow import Follow, Gap, Seen

if TYPE_CHECKING:
    from tests.sim.nodes import GatewayNode
    from tests.sim.world import World

_decode: Final = msgspec.json.decode
_encode: Final = msgspec.json.encode


class Reader(Protocol):
    """Who reads a socket; it reads nothing before `stalled_until`, in seconds of the loop."""

    name: str
    connects: int
    stalled_until: float

    def received(self, connection: "Connection", data: bytes) -> None:
        """Takes bytes."""

    def disconnected(self, connection: "Connection", why: tuple[int, str] | None) -> None:
        """The connection is gone."""


class Connection:
    """A socket: the gateway's end is an `Outlet` with asyncio's water marks, the other end a client's reader."""

    def __init__(self, world: "World", gateway: "GatewayNode", client: "Reader") -> None:
        self.client = client
        self.dead = False
        self.session: Session
        self._world = world
        self._gateway = gateway
        self._rng = world.rng(f"socket:{client.name}:{client.connects}")
        self._buffer = bytearray()
        self._limits = gateway.service.sessions.limits
        self._paused = False
        self._flowing = False
        self._sent_at = 0.0  # when the last frame of the client arrives
        self._ended: tuple[int, str] | None = None
        gateway.on_crash[self] = self._crashed

    # What core asks of a socket

    def write(self, data: bytes) -> None:
        """Takes bytes; above the high-water mark the session is parked."""
        if self.dead or self._ended is not None:
            return
        self._buffer += data
        self._flow_soon(0.0003 + self._rng.random() * 0.01)
        if len(self._buffer) > self._limits.high_water and not self._paused:
            self._paused = True
            self._gateway.service.sessions.paused(self.session)

    def queued(self) -> int:
        """Returns the bytes not yet taken."""
        return len(self._buffer)

    def end(self, code: int, reason: str) -> None:
        """Closes once everything is written."""
        self._ended = (code, reason)
        self._flow_soon(0.001)

    def refuse(self, refusal: Refusal) -> None:
        """Answers a request that never became a stream."""
        self._ended = (refusal.status, refusal.code)
        self._flow_soon(0.001)

    # The far end

    def send(self, frame: dict[str, Any]) -> None:
        """The client sends a frame."""
        self._sent_at = max(self._world.loop.now() + 0.0003 + self._rng.random() * 0.01, self._sent_at + 1e-6)
        self._world.loop.call_at(self._sent_at, self._arrive, _encode(frame))

    def pong(self) -> None:
        """The client answers a ping."""
        self._world.loop.call_later(0.0003 + self._rng.random() * 0.01, self._alive)

    def _alive(self) -> None:
        if not self.dead and self._ended is None:
            self._gateway.service.sessions.heard(self.session)

    def cut(self) -> None:
        """The connection breaks; both ends know."""
        if self.dead:
            return
        self._die()
        self._gateway.service.sessions.lost(self.session)

    def _arrive(self, data: bytes) -> None:
        if self.dead or self._ended is not None:
            return
        self._gateway.service.sessions.heard(self.session)
        self._gateway.service.sessions.receive(self.session, data)

    def _flow_soon(self, delay: float) -> None:
        if not self._flowing:
            self._flowing = True
            self._world.loop.call_later(delay, self._flow)

    def _flow(self) -> None:
        self._flowing = False
        if self.dead:
            return
        stalled = self.client.stalled_until - self._world.loop.now()
        if stalled > 0:
            self._flow_soon(stalled)
            return
        size = self._rng.choice((50, 700, 40_000))
        chunk = bytes(self._buffer[:size])
        del self._buffer[:size]
        if self._buffer:
            self._flow_soon(0.002)
        if chunk:
            self.client.received(self, chunk)
        if self.dead:
            return
        if self._paused and len(self._buffer) <= self._limits.low_water and self._ended is None:
            self._paused = False
            self._gateway.service.sessions.resumed(self.session)
        if self._ended is not None and not self._buffer:
            self._die()
            self._gateway.service.sessions.lost(self.session)

    def _crashed(self) -> None:
        self._die()

    def _die(self) -> None:
        self.dead = True
        self._buffer.clear()
        self._gateway.on_crash.pop(self, None)
        self.client.disconnected(self, self._ended)


class Client:
    """One user with one connection at a time."""

    def __init__(self, world: "World", name: str, topics: list[str], *, sse: bool) -> None:
        self.name = name
        self.sse = sse
        self.connects = 0
        self.stalled_until = 0.0
        self.away_until = 0.0
        self._world = world
        self._rng = world.rng(f"client:{name}")
        forms = ("live", "live", "earliest", {"last": 3})
        self.follows = {t: Follow(t, self._rng.choice(forms)) for t in topics}
        self._socket: Connection | None = None
        self._text = bytearray()
        world.loop.call_later(self._rng.random() * 2, self._connect)

    # Connection

    def drop(self, away_s: float) -> None:
        """Loses its connection and stays away for a while."""
        self.away_until = self._world.loop.now() + away_s
        if self._socket is not None:
            self._socket.cut()

    def _connect(self) -> None:
        now = self._world.loop.now()
        gateway = self._rng.choice(self._world.gateways)
        if not gateway.up or now < self.away_until:
            self._world.loop.call_later(0.1 + self._rng.random() * 0.4, self._connect)
            return
        self.connects += 1
        self._text.clear()
        sessions = gateway.service.sessions
        connection = self._socket = Connection(self._world, gateway, self)
        connection.session = session = sessions.create(connection, SSE if self.sse else WEBSOCKET)
        self._world.trace("client", f"{self.name} connects to {gateway.name}")
        if not self.sse:
            sessions.start_websocket(session, Head("GET", "1.1", [("user", self.name)], {}, b""), lambda: None)
            for follow in self.follows.values():
                self._ask(follow)
            return
        (follow,) = self.follows.values()
        self._note_asked(follow)
        wanted = inbound.subscribe_from_query(follow.topic_id, {"from": _query_form(follow.asked)})
        caller: list[Any] = []
        sessions.callers.identify(Head("GET", "1.1", [("user", self.name)], {}, b""), caller.append)
        sessions.start_sse(session, caller[0], wanted)

    def disconnected(self, connection: Connection, why: tuple[int, str] | None) -> None:
        """The connection is gone: comes back soon."""
        if connection is not self._socket:
            return
        self._socket = None
        self._world.trace("client", f"{self.name} loses its connection {why or ''}")
        for follow in self.follows.values():
            follow.active = follow.asking = False
        self._world.loop.call_later(0.02 + self._rng.random() * 0.5, self._connect)

    # Subscribing

    def unfollow(self) -> None:
        """Ends one subscription by hand; it is resumed later."""
        follow = self._rng.choice(list(self.follows.values()))
        if self._socket is not None and follow.active and not self.sse:
            self._socket.send({"type": "unsubscribe", "topic_id": follow.topic_id})

    def _note_asked(self, follow: Follow) -> None:
        follow.asking = True
        if follow.position is None:
            follow.asked = follow.first
        else:
            follow.asked = {"epoch": follow.position[0], "seq": follow.position[1]}

    def _ask(self, follow: Follow) -> None:
        if self._socket is None or follow.active or follow.asking:
            return
        self._note_asked(follow)
        self._socket.send({"type": "subscribe", "topic_id": follow.topic_id, "from": follow.asked})

    def _ask_later(self, follow: Follow) -> None:
        follow.active = follow.asking = False
        self._world.loop.call_later(0.2 + self._rng.random(), self._ask, follow)

    # Frames

    def received(self, connection: Connection, data: bytes) -> None:
        """Takes bytes of the connection."""
        if connection is not self._socket:
            return
        self._text += data
        for event_id, payload in _events(self._text) if self.sse else texts_of(self._text):
            if not payload:
                connection.pong()
                continue
            frame = _decode(payload)
            self._world.trace("frame", f"{self.name} {payload[:160].decode()}")
            handler = _HANDLERS.get(frame["type"])
            if handler is None:
                continue
            follow = self.follows.get(frame.get("topic_id", ""))
            if follow is not None:
                handler(self, follow, frame, event_id)

    def _wrong(self, follow: Follow, text: str) -> None:
        self._world.violate("D1", f"client {self.name}, topic {follow.topic_id}: {text}")

    def _subscribed(self, follow: Follow, frame: dict[str, Any], _id: str) -> None:
        follow.asking, follow.active = False, True
        epoch, head, first = frame["epoch"], frame["seq"], frame["first_seq"]
        follow.head = head
        fresh = follow.position is None or follow.position[0] != epoch
        follow.expected = self._begin(follow, frame, epoch, head, first)
        if fresh:
            follow.begins.setdefault(epoch, follow.expected)
        follow.position = (epoch, follow.expected - 1)

    def _begin(self, follow: Follow, frame: dict[str, Any], epoch: int, head: int, first: int) -> int:
        """Returns the first seq that was promised (docs/protocol.md, section 3)."""
        asked = follow.asked
        if asked == "live":
            return head + 1
        if asked == "earliest":
            return first
        if "last" in asked:
            return max(head - int(asked["last"]), first - 1) + 1
        if frame.get("resumed"):
            if epoch != asked["epoch"]:
                self._wrong(follow, f"resumed at epoch {asked['epoch']} in another epoch, {epoch}")
            return first if asked["seq"] == 0 else int(asked["seq"]) + 1
        return self._not_resumed(follow, frame, epoch, head, first)

    def _not_resumed(self, follow: Follow, frame: dict[str, Any], epoch: int, head: int, first: int) -> int:
        asked, reason = follow.asked, frame.get("reason")
        if reason == "expired":
            self._world.suspect_gap(follow.topic_id, epoch, asked["seq"] + 1, first - 1, self.name)
            return int(asked["seq"]) + 1
        if reason == "ahead":
            self._world.ahead.append(f"{self.name} {follow.topic_id} at {asked['seq']}, head {head}")
            follow.seen = [s for s in follow.seen if s.epoch != epoch or s.seq <= head]
            return head + 1
        if reason != "epoch_changed" or epoch <= asked["epoch"]:
            self._wrong(follow, f"asked for {asked}, answered {reason} in epoch {epoch}")
        return first

    def _message(self, follow: Follow, frame: dict[str, Any], event_id: str) -> None:
        assert follow.position is not None or not follow.active
        if not follow.active or follow.position is None:
            self._wrong(follow, f"seq {frame['seq']} without a subscription")
            return
        epoch, seq = follow.position[0], frame["seq"]
        if seq != follow.expected:
            kind = "again" if seq < follow.expected else "after a hole"
            self._wrong(follow, f"epoch {epoch}: seq {seq} {kind}, expected {follow.expected}")
        if self.sse and event_id != f"{epoch}:{seq}":
            self._wrong(follow, f"event id {event_id}, expected {epoch}:{seq}")
        follow.expected = seq + 1
        follow.position = (epoch, seq)
        if self._world.plan.door_changes:
            self._let_in(follow, epoch, seq)
        follow.seen.append(Seen(epoch, seq, frame, follow.head))

    def _let_in(self, follow: Follow, epoch: int, seq: int) -> None:
        """Z1: nothing after a removal, until the client is let in again."""
        truth = self._world.truth
        truth.read_on()
        if not truth.doors.might_read(follow.topic_id, epoch, self.name, seq):
            name = f"client {self.name}, topic {follow.topic_id}"
            self._world.violate("Z1", f"{name}: seq {seq} of {epoch} came after the client was put out")

    def _gap(self, follow: Follow, frame: dict[str, Any], _id: str) -> None:
        assert follow.position is not None
        epoch = follow.position[0]
        gap = Gap(epoch, frame["from_seq"], frame["to_seq"], frame["reason"])
        if gap.first != follow.expected:
            self._wrong(follow, f"gap {gap}, expected seq {follow.expected}")
        self._world.suspect_gap(follow.topic_id, epoch, gap.first, gap.last, self.name)
        follow.gaps.append(gap)
        follow.expected = gap.last + 1
        follow.position = (epoch, gap.last)

    def _caught_up(self, follow: Follow, frame: dict[str, Any], _id: str) -> None:
        if frame["seq"] != follow.expected - 1 or frame["seq"] < follow.head:
            at = follow.expected - 1
            self._wrong(follow, f"caught_up at {frame['seq']}, the client is at {at}, subscribed at head {follow.head}")

    def _unsubscribed(self, follow: Follow, frame: dict[str, Any], _id: str) -> None:
        if frame["reason"] == "deleted" and follow.position is not None:
            follow.ends.append(follow.position[0])
        elif frame["reason"] == "forbidden" and follow.position is not None:
            follow.put_out.append(follow.position[0])
        self._ask_later(follow)

    def _error(self, follow: Follow, frame: dict[str, Any], _id: str) -> None:
        if frame["code"] == "not_found":
            return  # unsubscribed while the topic ended
        if frame["code"] not in ("topic_not_found", "not_ready") + ("forbidden",) * bool(self._world.plan.door_changes):
            self._wrong(follow, f"error {frame['code']}: {frame['message']}")
        self._ask_later(follow)


_HANDLERS: Final[dict[str, Callable[[Client, Follow, dict[str, Any], str], None]]] = {
    "subscribed": Client._subscribed,
    "message": Client._message,
    "gap": Client._gap,
    "caught_up": Client._caught_up,
    "unsubscribed": Client._unsubscribed,
    "error": Client._error,
}


def _query_form(asked: Any) -> str:
    if isinstance(asked, str):
        return asked
    return f"last:{asked['last']}" if "last" in asked else f"{asked['epoch']}:{asked['seq']}"


def texts_of(data: bytearray) -> list[tuple[str, bytes]]:
    """Takes the complete WebSocket text frames off the front of `data`."""
    found: list[tuple[str, bytes]] = []
    while len(data) >= 2:
        size, at = data[1], 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(data[2:10], "big"), 10
        if len(data) < at + size or (data[1] > 125 and len(data) < at):
            break
        if data[0] in (0x81, 0x89):  # a ping of the server's is empty
            found.append(("", bytes(data[at : at + size])))
        del data[: at + size]
    return found


def _events(data: bytearray) -> list[tuple[str, bytes]]:
    """Takes the complete events off the front of an SSE body: (id, data)."""
    found: list[tuple[str, bytes]] = []
    while (end := data.find(b"\n\n")) >= 0:
        lines = bytes(data[:end]).split(b"\n")
        del data[: end + 2]
        payload = b"\n".join(line[6:] for line in lines if line.startswith(b"data: "))
        event_id = next((line[4:].decode() for line in lines if line.startswith(b"id: ")), "")
        if payload:
            found.append((event_id, payload))
    return found
