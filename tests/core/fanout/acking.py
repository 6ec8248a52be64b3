"""A scene with subscriptions that acknowledge."""

from typing import Any

from headgate.core.client.framing import WEBSOCKET
from headgate.core.client.limits import Limits
from headgate.core.wire.rights import Caller
from tests.core.scene import Pipe, Scene
from tests.owners_twin import Topic

RETRY = {"max_attempts": 3, "kind": "fixed", "first_ms": 1_000, "max_ms": 1_000, "jitter": 0}


class AckScene(Scene):
    """One topic, `a`."""

    def __init__(self, limits: Limits | None = None, retry: dict[str, Any] | None = None, **topic: Any) -> None:
        super().__init__(limits)
        self.topic: Topic = self.owners.create("a", settings={"retry": RETRY | (retry or {})}, **topic)
        self.cursors = self.owners.cursors
        self._ids = 0

    def acker(self, user: str = "bob", form: Any = "cursor", topic: str = "a", **frame: Any) -> Pipe:
        """Opens a connection of its own, and subscribes with `ack`."""
        self._ids += 1
        pipe = self.open(WEBSOCKET, raw_id=self._ids.to_bytes(2, "big"))
        self.admit(pipe, Caller(user, service=True))
        self.say(pipe, **{"type": "subscribe", "topic_id": topic, "ack": True, "from": form} | frame)
        return pipe

    def ack(self, pipe: Pipe, seq: int, **frame: Any) -> None:
        self.say(pipe, type="ack", topic_id="a", seq=seq, **frame)

    def nack(self, pipe: Pipe, seq: int, **frame: Any) -> None:
        self.say(pipe, type="nack", topic_id="a", seq=seq, **frame)

    def send(self, *payloads: Any) -> None:
        """Publishes, and lets the loop turn."""
        self.publish("a", *payloads)
        self.turn()


def got(pipe: Pipe) -> list[tuple[int, int]]:
    """Returns (seq, attempt) of the messages since the last call."""
    frames = pipe.frames("message")
    at = getattr(pipe, "told", 0)
    pipe.told = len(frames)  # type: ignore[attr-defined]
    return [(frame["seq"], frame.get("attempt", 1)) for frame in frames[at:]]
