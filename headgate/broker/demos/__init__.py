"""The five demonstrations of document S2, as `headgate demo` runs them; knows no terminal."""

from collections.abc import Callable
from typing import Final

from headgate.broker.demos import backpressure, basic, broadcast, retry, strategies
from headgate.broker.demos.stage import Stage

DEMOS: Final[dict[str, Callable[[Stage], None]]] = {
    "basic": basic.run,
    "retry": retry.run,
    "broadcast": broadcast.run,
    "strategies": strategies.run,
    "backpressure": backpressure.run,
}

__all__ = ["DEMOS", "Stage"]
