"""Demonstration 2: failure, retry, success."""

from headgate.broker.demos.demo_run import DemoRun
from headgate.core.delivery.retry import SimpleRetryPolicy


def run(demo: DemoRun) -> None:
    """A subscriber fails twice; the retries come when they are due, and its later message waits for them."""
    broker = demo.open(retry=SimpleRetryPolicy(max_attempts=3, backoff_factor=0.25))
    broker.subscribe("payments", demo.handler("ledger", fails=2))

    broker.publish("payments", {"amount": 20})
    broker.publish("payments", {"amount": 30})
    broker.run_until_idle()
    demo.say(f"nothing more is due now; the next retry is at {broker.next_due()} s, so time moves on by one second")
    broker.advance(1.0)
