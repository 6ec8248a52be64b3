"""The Python client leaves a topic and follows it again on the same connection, against a scripted server."""

from typing import Any

import pytest

from headgate_client import Client, SubscriptionEnded
from tests.clients.python_streams import Peer, streams, take


@pytest.mark.parametrize("answer", [("unsubscribed", {"reason": "requested"}), ("error", {"code": "not_found"})])
async def test_a_topic_that_is_followed_again_at_once_gets_nothing_of_the_one_before(
    answer: tuple[str, dict[str, Any]],
) -> None:
    """The answer to `unsubscribe`, and what was on its way before it, come when the next subscription stands."""

    async def script(peer: Peer) -> None:
        await peer.subscribed("a")
        asked = await peer.hear("unsubscribe")
        again = await peer.hear("subscribe")
        await peer.messages("a", 1)
        await peer.say(answer[0], "a", id=asked["id"], **answer[1])
        await peer.say("subscribed", again["topic_id"], profile="durable", epoch=7, seq=1)
        await peer.messages("a", 2)
        await peer.say("unsubscribed", "a", reason="deleted")
        await peer.stay()

    async with streams(script) as server, Client(server.url, trust_env=False) as client:
        async with client.subscribe("a") as first:
            await first.ready()
        second = client.subscribe("a")
        assert await take(second, 1) == [2]
        with pytest.raises(SubscriptionEnded, match="deleted"):
            await anext(second)
