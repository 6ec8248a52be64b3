"""Demonstration 1: publish and subscribe."""

from headgate.broker.demos.demo_run import DemoRun
from headgate.broker.publisher import Publisher


def run(demo: DemoRun) -> None:
    """A message goes to the subscriber of its topic; one that nobody waits for is dropped, and the publisher knows."""
    broker = demo.open()
    orders = Publisher(broker, "orders")

    receipt = orders.publish({"order": 1})
    demo.say(f"nobody was there: delivered to {receipt.delivered_to}, dropped is {receipt.dropped}")

    broker.subscribe("orders", demo.handler("billing"))
    receipt = orders.publish({"order": 2})
    demo.say(f"publish only queues and has returned: the message is {receipt.status}")
    broker.run_until_idle()
