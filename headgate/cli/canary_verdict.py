"""Decides from a canary's counters whether an installation is good enough: the verdict of `canary.run_s`."""

from collections.abc import Mapping
from typing import Final

from headgate.runtime.canary_metrics import ACCEPTED

TOLERATED: Final = 0.01  # of the messages may be late, or not accepted: the same as p99 within canary.late_s
NEVER: Final = ("repeated", "disordered")


def faults(published: Mapping[str, int], counted: Mapping[str, int]) -> list[str]:
    """Returns what speaks against it, one line each; none: it is good.

    `published` are publishes by outcome; `counted` has received, late, lost, found, repeated, disordered and skipped.
    """
    tried = sum(published.values()) + counted["skipped"]
    accepted = published.get(ACCEPTED, 0)
    if not accepted:
        return [f"none of {tried} messages was accepted: {_by_outcome(published)}"]
    wrong = [f"{counted[name]} messages {name}" for name in NEVER if counted[name]]
    if lost := counted["lost"] - counted["found"]:
        wrong.append(f"{lost} of {accepted} messages lost")
    if tried - accepted > TOLERATED * tried:
        wrong.append(f"{tried - accepted} of {tried} messages not accepted: {_by_outcome(published)}")
    if counted["late"] > TOLERATED * accepted:
        wrong.append(f"{counted['late']} of {accepted} messages late")
    return wrong


def _by_outcome(published: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in published.items() if count) or "nothing was sent"
