"""Messages of one shard whose deliveries are counted (`wait=delivered`), from the push to the answer."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Message
from headgate.core.wire.link_deliveries import COUNTED_S, MAX_MESSAGES, NOT_COUNTED, CountWritten, Written

MAX_COUNTED: Final = 10_000  # messages of one shard, about 1 KB each
LINK_VERSION: Final = 2  # the lowest of a gateway that counts

Key = tuple[int, bytes]  # topic epoch, message id
Answer = Callable[[int], None]


class CountingGateway(Protocol):
    """The far end of a gateway's link."""

    version: int

    def send(self, message: Message) -> None:
        """Queues a message."""


class CountedMessage:
    """One message, for `publishers` requests. `watch` is 0 until it was pushed.

    `missing` are the gateways that are not done counting.
    """

    __slots__ = ("counts", "expires", "missing", "publishers", "pushed_at", "topic_id", "waiting", "watch")

    def __init__(self, topic_id: str, expires: float) -> None:
        self.topic_id = topic_id
        self.expires = expires
        self.publishers = 0
        self.watch = 0
        self.pushed_at = 0.0
        self.counts: dict[CountingGateway, int] = {}
        self.missing: set[CountingGateway] = set()
        self.waiting: list[Answer] = []

    @property
    def count(self) -> int:
        """How many sockets took it, as far as the gateways have told; NOT_COUNTED where one of them cannot tell."""
        counts = self.counts.values()
        return NOT_COUNTED if NOT_COUNTED in counts else sum(counts)

    def resolve(self) -> None:
        """Answers who waits, with the count so far."""
        waiting, self.waiting = self.waiting, []
        for answer in waiting:
            answer(self.count)


class CountedMessages:
    """At most MAX_COUNTED messages, each for COUNTED_S; false while there are none, which every push looks at."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` returns monotonic seconds."""
        self._now = now
        self._expected: OrderedDict[Key, CountedMessage] = OrderedDict()  # oldest first
        self._by_watch: dict[int, CountedMessage] = {}
        self._next_watch = 1

    def __bool__(self) -> bool:
        return bool(self._expected)

    def __len__(self) -> int:
        return len(self._expected)

    def expect(self, topic_id: str, epoch: int, ids: list[bytes]) -> None:
        """Counts the deliveries of these messages once they are pushed. Raises Refusal `overloaded`."""
        if len(ids) > MAX_MESSAGES or len(self._expected) + len(ids) > MAX_COUNTED:
            raise Refusal("overloaded", "too many messages are being counted", retry_after_ms=1_000)
        expires = self._now() + COUNTED_S
        for each in ids:
            self._expected.setdefault((epoch, each), CountedMessage(topic_id, expires)).publishers += 1
        asyncio.get_running_loop().call_later(COUNTED_S, self._forget_old)

    def forget(self, epoch: int, ids: list[bytes]) -> None:
        """A publisher asks no more about these messages."""
        for each in ids:
            message = self._expected.get((epoch, each))
            if message is not None:
                message.publishers -= 1
                if message.publishers <= 0:
                    self._drop((epoch, each), message)

    def pushed(self, epoch: int, message_id: bytes, seq: int, gateways: Iterable[CountingGateway]) -> None:
        """Asks the gateways to count a message that they are sent next; nothing happens where it is not expected."""
        message = self._expected.get((epoch, message_id))
        if message is None or message.watch:
            return
        message.watch = self._next_watch
        self._next_watch += 1
        message.pushed_at = self._now()
        self._by_watch[message.watch] = message
        for gateway in gateways:
            if gateway.version >= LINK_VERSION:
                message.missing.add(gateway)
                gateway.send(CountWritten(message.topic_id, epoch, seq, message.watch))

    def written(self, gateway: CountingGateway, told: Written) -> None:
        """Takes the count of a gateway."""
        message = self._by_watch.get(told.watch)  # a watch of the shard's owner before is another topic's, or done
        if message is None or message.topic_id != told.topic_id or gateway not in message.missing:
            return
        message.counts[gateway] = told.count
        if told.done:
            self._done(message, gateway)

    def left(self, gateway: CountingGateway) -> None:
        """A gateway has closed its link: what it told so far counts."""
        for message in list(self._by_watch.values()):
            if gateway in message.missing:
                self._done(message, gateway)

    def ask(self, epoch: int, message_id: bytes, wait_s: float, answer: Answer) -> None:
        """Answers with the count, once it is final or `wait_s` after the push; NOT_COUNTED for one that was not."""
        message = self._expected.get((epoch, message_id))
        if message is None or not message.watch:
            answer(NOT_COUNTED)
            return
        left_s = message.pushed_at + wait_s - self._now()
        if not message.missing or left_s <= 0:
            answer(message.count)
            return
        message.waiting.append(answer)
        asyncio.get_running_loop().call_later(left_s, partial(_late, message, answer))

    def _done(self, message: CountedMessage, gateway: CountingGateway) -> None:
        message.missing.discard(gateway)
        if not message.missing:
            message.resolve()

    def _forget_old(self) -> None:
        now = self._now()
        while self._expected:
            key, message = next(iter(self._expected.items()))
            if message.expires > now:
                return
            self._drop(key, message)

    def _drop(self, key: Key, message: CountedMessage) -> None:
        message.resolve()
        self._by_watch.pop(message.watch, None)
        del self._expected[key]


def _late(message: CountedMessage, answer: Answer) -> None:
    if answer in message.waiting:
        message.waiting.remove(answer)
        answer(message.count)
