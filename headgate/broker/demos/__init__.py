"""The five demonstrations of the in-process broker that `headgate demo` runs."""

from collections.abc import Callable
from typing import Final

from headgate.broker.demos import backpressure_demo, basic_demo, broadcast_demo, retry_demo, strategies_demo
from headgate.broker.demos.demo_run import DemoRun

DEMOS: Final[dict[str, Callable[[DemoRun], None]]] = {
    "basic": basic_demo.run,
    "retry": retry_demo.run,
    "broadcast": broadcast_demo.run,
    "strategies": strategies_demo.run,
    "backpressure": backpressure_demo.run,
}

__all__ = ["DEMOS", "DemoRun"]
