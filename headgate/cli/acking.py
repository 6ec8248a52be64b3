"""Which acknowledgements a reader owes: a few frames a second, however many messages come; pure."""

from collections.abc import Iterator
from typing import Final

import msgspec

from headgate.cli.following import Frame

EVERY_S: Final = 0.5
_FRAMES: Final = 4  # a time: a server takes ten frames a second


class Acking:
    """What was printed and is not acknowledged, by topic.

    Of messages in order the newest stands for all. One below it (sent again, or replayed) is named by its own number.
    """

    def __init__(self) -> None:
        self._newest: dict[str, int] = {}
        self._moved: dict[str, None] = {}  # topics whose newest is to be acknowledged
        self._single: dict[tuple[str, int], None] = {}

    @property
    def is_owed(self) -> bool:
        """Whether there is something to send."""
        return bool(self._moved or self._single)

    def printed(self, frame: Frame) -> None:
        """Takes a message."""
        if frame.seq is None:
            return
        if frame.seq > self._newest.get(frame.topic_id, -1):
            self._newest[frame.topic_id] = frame.seq
            self._moved[frame.topic_id] = None
        else:
            self._single[frame.topic_id, frame.seq] = None

    def began(self, topic_id: str) -> None:
        """The subscription begins anew: its numbers may be those of another topic of the same name."""
        self._newest.pop(topic_id, None)
        self._moved.pop(topic_id, None)
        self._single = {key: None for key in self._single if key[0] != topic_id}

    def take(self) -> Iterator[bytes]:
        """Yields the frames to send now, and forgets them."""
        for _ in range(_FRAMES):
            if self._moved:
                topic_id = next(iter(self._moved))
                del self._moved[topic_id]
                yield _ack(topic_id, self._newest[topic_id])
            elif self._single:
                topic_id, seq = next(iter(self._single))
                del self._single[topic_id, seq]
                yield _ack(topic_id, seq)


def _ack(topic_id: str, seq: int) -> bytes:
    return msgspec.json.encode({"type": "ack", "topic_id": topic_id, "seq": seq})
