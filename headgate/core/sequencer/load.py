"""How much of a dispatcher's strength is in use, and whether messages of priority LOW are shed.

Load is the larger of two parts. 1 means that the part is used up; both may be above it.

* The event loop: how late it runs what is due, as a part of FULL_LAG_S. It is an average over about AVERAGE_S, so that
  one pause is no load.
* The links to gateways: bytes that are queued on all of them, as a part of what they may queue.
"""

from math import exp
from typing import Final

FULL_LAG_S: Final = 0.25  # a loop that is so late holds up every delivery by as much
MAX_LAG: Final = 1.5  # of FULL_LAG_S; what is above it would only make the way back longer
AVERAGE_S: Final = 0.5
SHED_ABOVE: Final = 0.8
NORMAL_BELOW: Final = 0.6  # lower, so that shedding does not begin and end with every sample


class Load:
    """The load of one dispatcher. `value` is 0 at rest; `sheds` while LOW messages are refused."""

    def __init__(self) -> None:
        self.value = 0.0
        self.sheds = False
        self._lag = 0.0  # the average, as a part of FULL_LAG_S

    def sample(self, passed_s: float, lag_s: float, queued: int, room: int) -> None:
        """Takes a measurement: `passed_s` since the last one, how late it came, and the bytes on links of `room`."""
        weight = 1 - exp(-passed_s / AVERAGE_S)
        self._lag += (min(lag_s / FULL_LAG_S, MAX_LAG) - self._lag) * weight
        self.value = max(self._lag, queued / room if room else 0.0)
        if self.value > SHED_ABOVE:
            self.sheds = True
        elif self.value < NORMAL_BELOW:
            self.sheds = False
