"""In which state a deployment is when a fault strikes it. Must not know the faults."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tests.e2e.harness import Role, at_most
from tests.e2e.http import Http, NoAnswer
from tests.soak.load import Load
from tests.soak.subject import Reading

ASK_S: Final = 0.5

STEADY: Final = "steady"
BURST: Final = "a burst of 500 or more"
RECREATED: Final = "a topic being made again"
BEHIND: Final = "readers behind"
NOT_READY: Final = "a process not ready"
ANOTHER: Final = "another fault"
IN_USE: Final = {BURST: "bursts", RECREATED: "recreates"}  # what a worker does then
AFTER: Final = {NOT_READY, BEHIND, ANOTHER}  # an earlier fault is not over
STATES: Final = (STEADY, BURST, RECREATED, BEHIND, NOT_READY, ANOTHER)  # the later one counts


class Surroundings:
    """Looks at the processes, the load and the readers."""

    def __init__(self, roles: Sequence[Role], loads: Sequence[Load], readings: Callable[[], Iterable[Reading]]) -> None:
        self._roles = roles
        self._loads = loads
        self._readings = readings

    async def comes(self, state: str, timeout_s: float) -> None:
        """Waits for a state that comes by use, at most so long."""
        await at_most(timeout_s, lambda: any(load.does == IN_USE[state] for load in self._loads))

    async def state(self, *, another: bool) -> str:
        """Returns the state; `another`: a fault is there already."""
        if another:
            return ANOTHER
        does = {load.does for load in self._loads}
        ready = await asyncio.gather(*map(_is_ready, self._roles))
        holds = {
            NOT_READY: not all(ready),
            BEHIND: any(reading.is_late for reading in self._readings()),
            **{state: use in does for state, use in IN_USE.items()},
        }
        return next((state for state in reversed(STATES) if holds.get(state)), STEADY)


async def _is_ready(role: Role) -> bool:
    try:
        async with Http(role.admin, timeout_s=ASK_S) as http:
            return (await http.request("GET", "/readyz")).status == 200
    except (NoAnswer, TimeoutError):
        return False
