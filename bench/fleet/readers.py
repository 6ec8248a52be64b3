"""Clients that follow topics, come back after a lost connection, and check each number they get."""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.head import Head
from headgate.core.client.framing import WEBSOCKET
from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal
from tests.sim.clients import texts_of

if TYPE_CHECKING:
    from bench.fleet.fleet import Fleet
    from bench.fleet.nodes import GatewayProcess

AWAY_S: Final = 2.8  # a client waits a random part of it (ADR 0038)
ASK_AGAIN_S: Final = 0.5
_decode: Final = msgspec.json.decode
_encode: Final = msgspec.json.encode


class Followed:
    """One topic of a reader: where it is. `expected` 0: it has never been subscribed."""

    __slots__ = ("active", "epoch", "expected")

    def __init__(self) -> None:
        self.active = False
        self.epoch = 0
        self.expected = 0


class Socket:
    """The gateway's end of a reader's connection; takes all bytes at once."""

    def __init__(self, fleet: "Fleet", reader: "Reader", gateway: "GatewayProcess") -> None:
        self.gateway = gateway
        self.session: Session
        self._fleet = fleet
        self._reader = reader
        self._buffer = bytearray()
        self._is_read = False

    def write(self, data: bytes) -> None:
        """Takes bytes; the reader sees them in the next loop turn."""
        self._buffer += data
        if not self._is_read:
            self._is_read = True
            self._fleet.loop.call_soon(self._read)

    def _read(self) -> None:
        self._is_read = False
        for _, text in texts_of(self._buffer):
            if text:
                self._reader.received(self, _decode(text))
            else:
                self.gateway.service.sessions.heard(self.session)

    def queued(self) -> int:
        """Returns the bytes not yet taken: none."""
        return 0

    def end(self, _code: int, _reason: str) -> None:
        """The gateway closes the connection."""
        self._fleet.loop.call_soon(self._ended)

    def refuse(self, _refusal: Refusal) -> None:
        """The gateway refuses the connection."""
        self._fleet.loop.call_soon(self._ended)

    def _ended(self) -> None:
        self._read()
        self.gateway.service.sessions.lost(self.session)
        self._reader.disconnected(self)


class Reader:
    """One user with one connection."""

    def __init__(self, fleet: "Fleet", name: str, topics: list[str]) -> None:
        self.name = name
        self.topics = {topic: Followed() for topic in topics}
        self.socket: Socket | None = None
        self._fleet = fleet
        self._rng = fleet.rng(name)
        self._connect_within(1.0)

    def received(self, socket: Socket, frame: dict[str, Any]) -> None:
        """Takes a frame; whatever is not in order is a fault of the fleet."""
        topic = self.topics.get(frame.get("topic_id", ""))
        if topic is None or socket is not self.socket:
            return
        kind = frame["type"]
        if kind == "message":
            self._message(topic, frame)
        elif kind == "subscribed":
            self._subscribed(topic, frame)
        elif kind in ("error", "unsubscribed"):
            topic.active = False
            self._fleet.count("asked again")
            self._fleet.loop.call_later(ASK_AGAIN_S * (0.5 + self._rng.random()), self._ask, socket, frame["topic_id"])
        elif kind == "gap":
            self._fleet.fault(f"{self.name}: a gap: {frame}")

    def disconnected(self, socket: Socket) -> None:
        """Comes back after a random time."""
        if socket is self.socket:
            self.socket = None
            for topic in self.topics.values():
                topic.active = False
            self._fleet.count("connections lost")
            self._connect_within(AWAY_S)

    def _message(self, topic: Followed, frame: dict[str, Any]) -> None:
        if not topic.active or frame["seq"] != topic.expected:
            self._fleet.fault(f"{self.name}: {frame['topic_id']}:{frame['seq']}, expected {topic.expected}")
        topic.expected = frame["seq"] + 1
        self._fleet.delivered += 1

    def _subscribed(self, topic: Followed, frame: dict[str, Any]) -> None:
        if topic.expected and not (frame.get("resumed") and frame["epoch"] == topic.epoch):
            self._fleet.fault(f"{self.name}: not resumed: {frame}")
        topic.active, topic.epoch = True, frame["epoch"]
        topic.expected = topic.expected or frame["seq"] + 1

    def _connect_within(self, seconds: float) -> None:
        self._fleet.loop.call_later(0.05 + self._rng.random() * seconds, self._connect)

    def _connect(self) -> None:
        gateway = self._rng.choice(self._fleet.gateways)
        if not gateway.is_open or gateway.directory.missing() is not None:  # a balancer sends nobody there
            self._connect_within(0.2)
            return
        sessions = gateway.service.sessions
        socket = self.socket = Socket(self._fleet, self, gateway)
        socket.session = sessions.create(socket, WEBSOCKET)
        sessions.start_websocket(socket.session, Head("GET", "1.1", [("user", self.name)], {}, b""), lambda: None)
        for topic_id in self.topics:
            self._ask(socket, topic_id)

    def _ask(self, socket: Socket, topic_id: str) -> None:
        if socket is not self.socket:
            return
        topic = self.topics[topic_id]
        place: object = {"epoch": topic.epoch, "seq": topic.expected - 1} if topic.expected else "live"
        asked = _encode({"type": "subscribe", "topic_id": topic_id, "from": place})
        socket.gateway.service.sessions.receive(socket.session, asked)
