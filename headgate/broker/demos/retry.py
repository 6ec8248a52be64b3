"""Demonstration 2: failure, retry, success."""

from headgate.broker.demos.stage import Stage
from headgate.core.delivery.retry import SimpleRetryPolicy


def run(stage: Stage) -> None:
    """A subscriber fails twice; the retries come when they are due, and its later message waits for them."""
    broker = stage.open(retry=SimpleRetryPolicy(max_attempts=3, backoff_factor=0.25))
    broker.subscribe("payments", stage.handler("ledger", fails=2))

    broker.publish("payments", {"amount": 20})
    broker.publish("payments", {"amount": 30})
    broker.run_until_idle()
    stage.say(f"nothing more is due now; the next retry is at {broker.next_due()} s, so time moves on by one second")
    broker.advance(1.0)
