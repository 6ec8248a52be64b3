"""Publishes with `wait=delivered`: their owners are told before, and asked afterwards how many sockets took them."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_deliveries import AskDelivered, Delivered, ExpectDeliveries, ForgetDeliveries
from ingest.admission import Publish
from ingest.owners import OwnerQueries

EXPECT_S: Final = 1.0  # a linked owner answers in milliseconds; without his answer the count is unknown
SLACK_S: Final = 0.5  # for the way to the owner and back


class DeliveryQuestions:
    """Asks the owners of all shards."""

    def __init__(self, owners: OwnerQueries) -> None:
        self._owners = owners

    async def expect(self, publishes: Iterable[Publish | Refusal]) -> None:
        """Has the deliveries of publishes counted, which are handed over next; never raises."""
        asked = [self._expect(of_topic) for of_topic in _by_topic(publishes)]
        if asked:
            await asyncio.gather(*asked)

    def forget(self, publishes: Iterable[Publish | Refusal]) -> None:
        """Ends the counting of publishes that were answered, or are not handed over; of others nothing happens."""
        for of_topic in _by_topic(publishes):
            info, ids = of_topic[0].info, [publish.id for publish in of_topic if publish.is_counted]
            for publish in of_topic:
                publish.count(False)
            if ids:
                self._owners.tell(info.topic_id, ForgetDeliveries(info.topic_id, info.epoch, ids))

    async def count(self, publish: Publish, wait_s: float) -> int | None:
        """Returns how many sockets took a message within `wait_s` of its push; None where nobody can say."""
        if not publish.is_counted:
            return None
        topic_id, epoch = publish.info.topic_id, publish.info.epoch
        try:
            async with asyncio.timeout(wait_s + SLACK_S):
                answer = await self._owners.ask_now(
                    topic_id, lambda req: AskDelivered(req, topic_id, epoch, publish.id, int(wait_s * 1_000))
                )
        except (Refusal, TimeoutError):
            return None
        return answer.count if isinstance(answer, Delivered) and answer.count >= 0 else None

    async def _expect(self, publishes: list[Publish]) -> None:
        info = publishes[0].info
        ids = [publish.id for publish in publishes]
        try:
            async with asyncio.timeout(EXPECT_S):
                await self._owners.ask_now(
                    info.topic_id, lambda req: ExpectDeliveries(req, info.topic_id, info.epoch, ids)
                )
        except (Refusal, TimeoutError):
            return
        for publish in publishes:
            publish.count(True)


def _by_topic(publishes: Iterable[Publish | Refusal]) -> Iterator[list[Publish]]:
    topics: dict[str, list[Publish]] = {}
    for publish in publishes:
        if isinstance(publish, Publish):
            topics.setdefault(publish.info.topic_id, []).append(publish)
    yield from topics.values()
