"""Demonstration 4: immediate and batched delivery, swapped both ways while messages are held, and flushed."""

from headgate.broker.demos.demo_run import DemoRun
from headgate.core.delivery.strategy import BatchedDeliveryStrategy, ImmediateDeliveryStrategy


def run(demo: DemoRun) -> None:
    """Nothing is lost by a swap: the new strategy is asked about what the old one held."""
    broker = demo.open(strategy=BatchedDeliveryStrategy(batch_size=3))
    broker.subscribe("metrics", demo.handler("dashboard"))

    for value in (1, 2, 3, 4):
        broker.publish("metrics", value)
    broker.run_until_idle()
    demo.say("three went as a batch, the fourth is held; immediate delivery takes over and lets it go")
    broker.swap_strategy(ImmediateDeliveryStrategy())
    broker.publish("metrics", 5)
    broker.run_until_idle()

    demo.say("back to batches, now with a time limit of two seconds; 6 goes by hand, 7 when its time is up")
    broker.swap_strategy(BatchedDeliveryStrategy(batch_size=3, max_delay=2.0))
    broker.publish("metrics", 6)
    broker.flush("metrics")
    broker.publish("metrics", 7)
    broker.advance(2.0)
