"""A hub with sockets that fill up and empty as a test says, without a loop."""

import json
from typing import Any

from headgate.core.client.framing import SSE, WEBSOCKET, Framing
from headgate.core.client.inbound import Subscribe
from headgate.core.client.limits import Limits
from headgate.core.fanout.commands import Commands
from headgate.core.fanout.hub import Hub
from headgate.core.fanout.ports import Moment, TokenReader
from headgate.core.fanout.session import Session
from headgate.core.fanout.user_requests import UserRequests
from headgate.core.fanout.write_counts import WriteCounts
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import FromOwner, Message
from headgate.core.wire.link_deliveries import CountWritten
from headgate.core.wire.position import from_query
from headgate.core.wire.rights import Caller, Identity
from tests.numbers_twin import Numbers
from tests.owners_twin import Owners


class Tokens:
    """A token is the user's name; `bad` is none."""

    open = False

    def authenticate(self, token: str) -> Identity:
        if token == "bad":
            raise Refusal("unauthenticated", "bad")
        name, _, expires = token.partition("@")
        return Identity(Caller(name), float(expires) if expires else None)


class Pipe:
    """A socket: the kernel takes all at once, or (`stuck`) nothing until `take`."""

    def __init__(self, scene: "Scene") -> None:
        self.scene = scene
        self.session: Session | None = None
        self.data = b""
        self.writes = 0
        self.waiting = 0
        self.highest = 0
        self.stuck = False
        self.paused = False
        self.code: int | None = None
        self.reason = ""
        self.refused: Any = None
        self.broken = False

    def write(self, data: bytes) -> None:
        if self.broken:
            raise RuntimeError("the transport is gone")
        assert self.code is None, "written after the end"
        self.data += data
        self.writes += 1
        if self.stuck:
            self.waiting += len(data)
            self.highest = max(self.highest, self.waiting)
        if self.waiting > self.scene.hub.limits.high_water and not self.paused:
            self.paused = True
            assert self.session is not None
            self.scene.hub.catchup.park(self.session, self.scene.now)

    def take(self, size: int) -> None:
        """The kernel takes some bytes."""
        self.waiting = max(0, self.waiting - size)
        if self.paused and self.waiting <= self.scene.hub.limits.low_water:
            self.paused = False
            assert self.session is not None
            if self.code is None:
                self.scene.hub.resume(self.session, self.scene.moment)

    def drain(self) -> None:
        while self.waiting:
            self.take(1 << 20)

    def queued(self) -> int:
        return self.waiting

    def end(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason

    def refuse(self, refusal: Any) -> None:
        self.refused = refusal

    def frames(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Everything written so far, or the frames of one type."""
        found = [json.loads(text) for text in texts(self.data)]
        return [frame for frame in found if kind is None or frame["type"] == kind]

    def seqs(self) -> list[int]:
        return [frame["seq"] for frame in self.frames("message")]


class Scene:
    """`publish` and `turn` are the two halves of a loop turn; `pass_time` ticks."""

    kind_of_owners = Owners

    def __init__(self, limits: Limits | None = None, tokens: TokenReader | None = None, **options: Any) -> None:
        self.owners = self.kind_of_owners()
        self.numbers = Numbers()
        self.now = 1_000.0
        self.scheduled = 0
        self.hub = Hub(
            limits or Limits(),
            self.owners,
            self.numbers,
            self._schedule,
            lambda _, then: then(),
            self.moment,
            **options,
        )
        self.owners.deliver_to(self)
        self.users = UserRequests(self.hub, "g")
        self.counts = WriteCounts(self.hub.feeds, self.owners)
        self.commands = Commands(self.hub, tokens or Tokens())

    @property
    def moment(self) -> Moment:
        return Moment(self.now, int(self.now * 1000))

    def on_push(self, shard_epoch: int, message: Message) -> None:
        if isinstance(message, FromOwner):
            self.users.receive(message, self.moment)
        elif isinstance(message, CountWritten):
            self.counts.begin(message, self.now)
        else:
            self.hub.on_push(shard_epoch, message)

    def on_owner(self, shard: int, up: bool) -> None:
        self.counts.owner_changed(shard)
        self.hub.on_owner(shard, up)

    def _schedule(self) -> None:
        self.scheduled += 1

    def socket(self, *topics: str, user: str = "bob", framing: Framing = WEBSOCKET, form: str = "live") -> Pipe:
        pipe = self.open(framing)
        assert pipe.session is not None
        if self.admit(pipe, Caller(user, service=True)):
            for topic in topics:
                self.follow(pipe, topic, form)
        return pipe

    def admit(self, pipe: Pipe, caller: Caller, expires_at: float | None = None) -> bool:
        assert pipe.session is not None
        return self.hub.admit(pipe.session, Identity(caller, expires_at), self.moment)

    def caller(self, user: str) -> Caller:
        return Caller(user)

    def open(self, framing: Framing = WEBSOCKET, preface: bytes = b"", raw_id: bytes = b"\x0c") -> Pipe:
        pipe = Pipe(self)
        pipe.session = Session(pipe, framing, raw_id, self.now, preface)
        self.hub.open(pipe.session)
        return pipe

    def follow(self, pipe: Pipe, topic: str, form: str = "live") -> None:
        assert pipe.session is not None
        self.hub.subscribe(pipe.session, Subscribe(topic, from_query(form), False), self.moment)

    def stream(self, topic: str) -> Pipe:
        return self.socket(topic, framing=SSE)

    def say(self, pipe: Pipe, **frame: Any) -> None:
        assert pipe.session is not None
        self.commands.receive(pipe.session, json.dumps(frame).encode(), self.moment)

    def publish(self, topic: str, *payloads: Any) -> None:
        self.owners.publish(topic, *payloads, ts=int(self.now * 1000))

    def turn(self) -> None:
        while self.scheduled:
            self.scheduled -= 1
            self.hub.flush(self.moment)
            self.counts.report()

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += step
            self.hub.tick(self.moment)
            faults, _ = self.hub.faults.take()
            if faults:
                raise faults[0]
            self.counts.tick(self.now)
            self.hub.held.wake(self.now)
            self.turn()


def texts(data: bytes) -> list[bytes]:
    """Cuts WebSocket frames, and leaves pings and close frames out."""
    found, at = [], 0
    while at < len(data):
        opcode, size, start = data[at] & 15, data[at + 1], at + 2
        if size == 126:
            size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
        elif size == 127:
            size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
        if opcode == 1:
            found.append(data[start : start + size])
        at = start + size
    return found
