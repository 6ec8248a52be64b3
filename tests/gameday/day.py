"""Plays faults one after the other on a fleet, and notes what each alert did. Must not know what the faults are."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.harness import at_most
from tests.gameday.faults import Fault
from tests.gameday.fleet import Fleet
from tests.gameday.timeline import Course, Timeline

FIRE_S = 240.0
RESOLVE_S = 240.0


@dataclass(frozen=True, slots=True)
class Played:
    """A fault, the courses of the alerts that fired, and what went otherwise than it should."""

    fault: Fault
    courses: Sequence[Course]
    wrong: Sequence[str]


async def play(fleet: Fleet, fault: Fault, *, others: bool = True) -> Played:
    """Inflicts, waits for the alerts, mends, waits until no alert is left: of the fault, or of the `others` too."""
    timeline = fleet.timeline = Timeline(time.monotonic())
    await fault.inflict(fleet)
    await at_most(FIRE_S, lambda: set(fault.alerts) <= set(timeline.fired()))
    timeline.mended(time.monotonic())
    await fault.mend(fleet)
    await fleet.settled()

    def left() -> set[str]:
        return timeline.active if others else timeline.active & set(fault.alerts)

    await at_most(RESOLVE_S, lambda: not left())
    fired = timeline.fired()
    silent = [f"{name} did not fire" for name in fault.alerts if name not in fired]
    return Played(fault, list(fired.values()), [*silent, *(f"{name} was not resolved" for name in sorted(left()))])


async def quiet(fleet: Fleet) -> list[str]:
    """Waits until no alert is left; returns those that fired before any fault, and those that are left."""
    await at_most(RESOLVE_S, lambda: not fleet.timeline.active)
    fired = [f"{name} fired before any fault" for name in fleet.timeline.fired()]
    return fired + [f"{name} was there before any fault" for name in sorted(fleet.timeline.active)]


async def play_all(fleet: Fleet, faults: Sequence[Fault]) -> list[Played]:
    """Plays them and says on standard error where it is."""
    found = []
    for fault in faults:
        played = await play(fleet, fault)
        found.append(played)
        names = ", ".join(f"{course.alert} after {course.firing_s:.0f} s" for course in played.courses)
        sys.stderr.write(f"{fault.name}: {names}{'; ' if played.wrong else ''}{', '.join(played.wrong)}\n")
        sys.stderr.flush()
    return found
