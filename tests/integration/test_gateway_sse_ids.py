"""The id that `subscribed` carries on an event stream: who has heard nothing yet comes back to the same place."""

import pytest

from tests.integration.gateway_twin import gateway
from tests.integration.test_gateway_sse import stream


@pytest.mark.parametrize(
    ("query", "begins"),
    [
        ("", 4),
        ("&from=live", 4),
        ("&from=last:0", 4),
        ("&from=last:2", 2),
        ("&from=earliest", 1),
        ("&from=seq:3", 3),
        ("&last_event_id=EPOCH:3", 3),
        ("&last_event_id=EPOCH:0", 1),
        ("&last_event_id=1:3", 1),
    ],
)
async def test_subscribed_carries_the_place_behind_which_delivery_begins(query: str, begins: int) -> None:
    async with gateway() as gate:
        topic = gate.owners.create("a")
        gate.owners.publish("a", 1, 2, 3, 4)
        gate.owners.forget("a", 2)
        path = f"/sse/subscribe?topic_id=a&presence=false{query.replace('EPOCH', str(topic.epoch))}"
        client, events = await stream(gate, path, 3)
        assert events[2]["event"] == "subscribed" and events[2]["id"] == f"{topic.epoch}:{begins}"
        client.close()
        client, events = await stream(
            gate, "/sse/subscribe?topic_id=a&presence=false", 3, Last_Event_ID=events[2]["id"]
        )
        assert events[2]["data"]["resumed"] is True, "who heard nothing else comes back to the same place"
        client.close()
