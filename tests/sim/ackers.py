"""Devices that acknowledge, over fake sockets: they refuse by plan, fall silent, come back, take over from themselves.

What each is owed and was given is checked by the same ledger as the in-process broker and the processes of the e2e
tests. Only the session that was granted last counts: what an older one still reads it throws away.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.head import Head
from headgate.core.client.framing import WEBSOCKET
from headgate.core.fanout.subscription_acks import SubscriptionAcks
from tests.delivery_ledger import DeliveryLedger
from tests.sim.clients import Connection, texts_of
from tests.sim.loop import SimRng
from tests.sim.plan import MOST

if TYPE_CHECKING:
    from tests.sim.nodes import GatewayNode
    from tests.sim.world import World

DEVICE: Final = "desk"
OLD_S: Final = 3.0  # what was written to a session before it was replaced has been read by then
HEALED_S: Final = 16.0  # after a fault: a lease whose owner could not be asked has been settled
STAY_S: Final = 8.0  # an older session is left open for so long


class Sitting:
    """One session of a device: its socket, and the messages that it has not worked off."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.granted_at: float | None = None
        self.is_over = False  # replaced: it asks no more
        self.connection: Connection
        self.text = bytearray()
        self.messages: deque[tuple[int, int]] = deque()
        self.busy = False
        self.silent = 0  # a message that it lets time out: above it it acknowledges nothing
        self.refused: dict[int, int] = {}  # seq -> attempt, of messages that did not come again since


class Acker:
    """One device of one user, that works off one topic, message by message."""

    stalled_until = 0.0

    def __init__(self, world: "World", name: str, topic_id: str) -> None:
        self.name = name
        self.topic_id = topic_id
        self.connects = 0
        self.ledger = DeliveryLedger(name, at_least_once=True)
        self._world = world
        self._rng = world.rng(f"acker:{name}")
        self._begin = "earliest"  # until it knows that its cursor is in the log
        self._sittings: list[Sitting] = []
        self._current: Sitting | None = None
        self._begun = world.loop.now()
        world.loop.call_later(self._rng.random(), self._connect)
        world.loop.call_later(2.0, self._move)

    # Sessions

    def _move(self) -> None:
        """Now and then the device loses its connection, or another session of it begins beside the first."""
        if not self._world.is_active:
            return
        self._world.loop.call_later(self._rng.expovariate(1 / 3.0), self._move)
        if self._begin != "cursor":
            return  # another session would begin at the earliest, where this one has acknowledged already
        if self._rng.random() < 0.5:
            self._connect()
        elif self._sittings:
            self._sittings[-1].connection.cut()

    def _connect(self) -> None:
        gateway: GatewayNode = self._rng.choice(self._world.gateways)
        if not gateway.up:
            self._world.loop.call_later(0.1 + self._rng.random() * 0.4, self._connect)
            return
        self.connects += 1
        sitting = Sitting(self.connects)
        older = list(self._sittings)
        self._sittings.append(sitting)
        sessions = gateway.service.sessions
        connection = sitting.connection = Connection(self._world, gateway, self)
        connection.session = session = sessions.create(connection, WEBSOCKET)
        self._world.trace("acker", f"{self.name} connects to {gateway.name}, session {sitting.number}")
        sessions.start_websocket(session, Head("GET", "1.1", [("user", self.name)], {}, b""), lambda: None)
        self._ask(sitting)
        for each in older:
            self._world.loop.call_later(STAY_S, each.connection.cut)

    def disconnected(self, connection: Connection, why: tuple[int, str] | None) -> None:
        """A connection is gone; where it was the newest another one follows."""
        sitting = self._of(connection)
        if sitting is None:
            return
        self._world.trace("acker", f"{self.name} loses session {sitting.number} {why or ''}")
        self._sittings.remove(sitting)
        if sitting.number == self.connects:
            self._world.loop.call_later(0.02 + self._rng.random() * 0.5, self._connect)

    def _of(self, connection: Connection) -> Sitting | None:
        return next((each for each in self._sittings if each.connection is connection), None)

    def _ask(self, sitting: Sitting) -> None:
        if not sitting.is_over and sitting.number == self.connects:  # an older one that asked now would take over
            wish = {"topic_id": self.topic_id, "ack": True, "device_id": DEVICE, "from": self._begin}
            sitting.connection.send({"type": "subscribe", **wish})

    # Frames

    def received(self, connection: Connection, data: bytes) -> None:
        """Takes bytes of a connection."""
        sitting = self._of(connection)
        if sitting is None:
            return
        sitting.text += data
        for _, payload in texts_of(sitting.text):
            if not payload:
                connection.pong()
                continue
            frame = msgspec.json.decode(payload)
            told = f"{payload[:90].decode()} attempt {frame.get('attempt')}"
            self._world.trace("frame", f"{self.name}/{sitting.number} {told}")
            handler = _HANDLERS.get(frame["type"])
            if handler is not None:
                handler(self, sitting, frame)

    def _subscribed(self, sitting: Sitting, frame: dict[str, Any]) -> None:
        sitting.granted_at = self._world.loop.now()
        if frame.get("reason") is not None:
            self._world.violate("A1", f"{self.name}: its cursor was stored, and it is told {frame['reason']}")
        if self._current is None or self._current.number <= sitting.number:
            self._current = sitting
            self.ledger.died()

    def _message(self, sitting: Sitting, frame: dict[str, Any]) -> None:
        if sitting is not self._current:
            self._late(sitting, frame["seq"])
            return
        seq, attempt = frame["seq"], frame.get("attempt", 1)
        if seq not in self.ledger.seen:
            self.ledger.owe(seq)
        self._note(self.ledger.tried, seq, attempt)
        sitting.refused.pop(seq, None)
        sitting.messages.append((seq, attempt))
        self._work_soon(sitting)

    def _late(self, sitting: Sitting, seq: int) -> None:
        """A2: two sessions of a device do not both get messages, once everybody can be asked."""
        current = self._current
        now = self._world.loop.now()
        if current is None or current.granted_at is None or current.number < sitting.number:
            return
        if now - current.granted_at > OLD_S and self._is_calm(current.granted_at, now):
            text = f"session {sitting.number} gets {seq} of {self.topic_id}"
            self._world.violate("A2", f"{self.name}: {text}, session {current.number} took over")

    def _is_calm(self, since: float, until: float) -> bool:
        for at, fault in enumerate(self._world.plan.faults):
            if at not in self._world.plan.skip and fault.kind != "client":
                first = self._world.begun + fault.at
                if first <= until and since <= first + fault.length + HEALED_S:
                    return False
        return True

    def _ok(self, sitting: Sitting, frame: dict[str, Any]) -> None:
        number = frame["id"]
        if sitting is not self._current:
            return
        if number > 0:
            self._begin = "cursor"
            self._note(self.ledger.store, number)
        elif sitting.refused.get(-number, MOST) < MOST:  # else it may be given up by now
            self._note(self.ledger.failed, -number)

    def _unsubscribed(self, sitting: Sitting, frame: dict[str, Any]) -> None:
        if frame["reason"] == "replaced":
            sitting.is_over = True
            if sitting.number == self.connects and sitting.granted_at is not None:
                self._world.violate("A2", f"{self.name}: the newest session {sitting.number} was replaced")
        else:
            self._world.loop.call_later(0.2 + self._rng.random(), self._ask, sitting)

    def _error(self, sitting: Sitting, frame: dict[str, Any]) -> None:
        code = frame["code"]
        if (sitting.is_over and code == "not_found") or ("id" in frame and code == "not_ready"):
            return  # of an acknowledgement on a session that was replaced, or while many wait
        if code == "already_subscribed" and sitting.number != self.connects:
            sitting.is_over = True
            return
        if code not in ("topic_not_found", "not_ready", "already_subscribed"):
            self._world.violate("A1", f"{self.name}: error {code}: {frame['message']}")
        self._world.loop.call_later(0.2 + self._rng.random(), self._ask, sitting)

    # Work

    def _work_soon(self, sitting: Sitting) -> None:
        if sitting.busy or not sitting.messages:
            return
        sitting.busy = True
        pace = self._rng.choices((0.02, 0.2, 0.9), (90, 9, 1))[0]
        self._world.loop.call_later(self._rng.random() * pace, self._work, sitting)

    def _work(self, sitting: Sitting) -> None:
        sitting.busy = False
        if sitting not in self._sittings or sitting.is_over or sitting is not self._current:
            return
        seq, attempt = sitting.messages.popleft()
        if any(later == seq for later, _ in sitting.messages):
            self._work_soon(sitting)  # another copy of it has come
            return
        if seq == sitting.silent:
            sitting.silent = 0
        fate = fate_of(self._world.plan.seed, self.name, seq)
        if attempt > fate.failures:
            self._succeed(sitting, seq, attempt)
        elif fate.silent:
            sitting.silent = sitting.silent or seq
        else:
            sitting.refused[seq] = attempt
            self.ledger.refuse(seq)
            self._answer(sitting, "nack", seq, id=-seq, reason="planned")
        self._work_soon(sitting)

    def _succeed(self, sitting: Sitting, seq: int, attempt: int) -> None:
        self._note(self.ledger.succeeded, seq, in_order=False)
        if sitting.silent or (attempt == 1 and self._rng.random() < 0.1):
            return  # nothing is acknowledged: the next acknowledgement counts for it, or it comes again
        named = {"id": seq} if self._rng.random() < 0.7 else {}
        if named:
            self.ledger.acknowledge(seq)
        self._answer(sitting, "ack", seq, **named)

    def _answer(self, sitting: Sitting, kind: str, seq: int, **members: object) -> None:
        self._world.trace("acker", f"{self.name}/{sitting.number} {kind} {seq} {members}")
        sitting.connection.send({"type": kind, "topic_id": self.topic_id, "seq": seq, **members})

    def _note(self, what: Callable[..., None], *arguments: int, **named: bool) -> None:
        try:
            what(*arguments, **named)
        except AssertionError as error:
            self._world.violate("A1", f"{self.topic_id}: {str(error).splitlines()[0]}")

    # The end

    def acked(self) -> int:
        """Returns the number up to which everything is acknowledged or given up, as the gateway knows it; -1: nowhere."""
        current = self._current
        if current is None or current not in self._sittings:
            return -1
        subscription = current.connection.session.subscriptions.get(self.topic_id)
        acks = subscription.acks if subscription is not None else None
        return acks.window.acked if isinstance(acks, SubscriptionAcks) else -1


class Fate:
    """How often a message fails at a device, and how: it is refused, or there is silence."""

    def __init__(self, failures: int, silent: bool) -> None:
        self.failures = failures
        self.silent = silent


def fate_of(seed: int, name: str, seq: int) -> Fate:
    """Returns what a device does with a message: always the same."""
    rng = SimRng(f"{seed}:{name}:{seq}")
    failures = rng.choices((0, 1, 2, MOST * 100), (80, 8, 6, 6))[0]
    return Fate(failures, failures == 1 and rng.random() < 0.4)


_HANDLERS: Final[dict[str, Callable[[Acker, Sitting, dict[str, Any]], None]]] = {
    "subscribed": Acker._subscribed,
    "message": Acker._message,
    "ok": Acker._ok,
    "unsubscribed": Acker._unsubscribed,
    "error": Acker._error,
}
