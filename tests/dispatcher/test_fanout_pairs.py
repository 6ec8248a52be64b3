"""No gateway gets a topic that it does not host: (message, gateway) pairs over recording links equal the computed."""

import asyncio
import random
from collections import Counter

from headgate.core.wire import link
from headgate.core.wire.rights import Caller
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.testing.encoded_link import encoded_link
from tests.dispatcher.test_links_and_requests import Bed, Pushes, running

GATEWAYS, TOPICS, SUBSCRIBERS, MESSAGES = 3, 40, 25, 600


async def test_each_message_goes_once_to_each_gateway_that_hosts_its_topic() -> None:
    rng = random.Random(11)
    async with running() as bed:
        epochs = {f"t{n}": (await bed.create(f"t{n}")).epoch for n in range(TOPICS)}
        gateways = [await recording(bed) for _ in range(GATEWAYS)]
        hosted: set[tuple[int, str]] = set()
        for _ in range(SUBSCRIBERS):
            number, topic = rng.randrange(GATEWAYS), rng.choice(list(epochs))
            directory, _pushes = gateways[number]
            shard = directory.shard_of(topic)
            await directory.ask(shard, lambda r, t=topic: link.AskSubscribe(r, t, Caller("u")))  # type: ignore[misc]
            hosted.add((number, topic))
        sent = Counter[str]()
        for n in range(MESSAGES):
            topic = rng.choice(list(epochs))
            sent[topic] += 1
            await bed.publish(topic, epochs[topic], str(n))
        computed = sum(sent[topic] for _, topic in hosted)
        async with asyncio.timeout(10):
            while sum(received(pushes) for _, pushes in gateways) < computed:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        for number, (_, pushes) in enumerate(gateways):
            for topic in epochs:
                wanted = list(range(1, sent[topic] + 1)) if (number, topic) in hosted else []
                assert pushes.seqs(topic) == wanted


async def recording(bed: Bed) -> tuple[LinkDirectory, Pushes]:
    near, far = encoded_link()
    bed.service.accept(far)
    directory, pushes = LinkDirectory("gateway", "g"), Pushes()
    directory.deliver_to(pushes)
    directory.add(near)
    async with asyncio.timeout(5):
        while directory.missing() is not None:
            await asyncio.sleep(0.01)
    return directory, pushes


def received(pushes: Pushes) -> int:
    return sum(len(m.frames) for m in pushes.messages if isinstance(m, link.Messages))
