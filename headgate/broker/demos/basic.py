"""Demonstration 1: publish and subscribe."""

from headgate.broker.demos.stage import Stage
from headgate.broker.publisher import Publisher


def run(stage: Stage) -> None:
    """A message goes to the subscriber of its topic; one that nobody waits for is dropped, and the publisher knows."""
    broker = stage.open()
    orders = Publisher(broker, "orders")

    receipt = orders.publish({"order": 1})
    stage.say(f"nobody was there: delivered to {receipt.delivered_to}, dropped is {receipt.dropped}")

    broker.subscribe("orders", stage.handler("billing"))
    receipt = orders.publish({"order": 2})
    stage.say(f"publish only queues and has returned: the message is {receipt.status}")
    broker.run_until_idle()
