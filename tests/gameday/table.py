"""The page that a game day writes: `docs/project/game-day.md`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.gameday.day import Played
from tests.gameday.shorter import LIMITS, LONGEST_HOLD_S

_HEAD = """# Game day

Faults on separate processes of every role, a canary and one real Kafka, watched by a real Prometheus that has the alert
rules of the chart. Written by `python -m tests.gameday --write`; run it again after a change of the rules.

All times of the rules (`for`, ranges, offsets, and `canary.lost_s`) were multiplied by {factor:g}, to no less than 1 s,
a range to no less than 6 s, a `for` to no more than {longest:g} s. A forecast looks a week ahead, from three days of
hours; here it looks 168 s ahead, from 72 s. Times that are in the server are the real ones: a link is missed
after 10 s, a full disk is tried again every 30 s. Thresholds are the real ones too, but for these, which two cores
do not reach in
minutes: {limits}. Prometheus scrapes and evaluates every second. In an installation alerts come later than here: by
about `for`, and by what the window of a rate needs to pass the limit. The column *for* is that of the rule.

*pending* and *firing*: seconds since the fault. *resolved*: seconds since the mend began, with the start of processes.
The runbook of each alert says what to do.

| fault | mended by | level | for | pending | firing | resolved | runbook |
|---|---|---|---|---|---|---|---|
"""


def page(played: Sequence[Played], rules: Mapping[str, Any], factor: float, checks: Sequence[str]) -> str:
    """Returns the page; `checks` are the lines about messages, one a paragraph."""
    holds = {rule["alert"]: rule["for"] for group in rules["groups"] for rule in group["rules"]}
    rows = "".join(row + "\n" for each in played for row in _rows(each, holds))
    limits = ", ".join(f"`{name}` {limit:g}" for name, limit in LIMITS.items())
    return _HEAD.format(factor=factor, longest=LONGEST_HOLD_S, limits=limits) + rows + "\n" + "\n\n".join(checks) + "\n"


def _rows(played: Played, holds: Mapping[str, str]) -> Iterator[str]:
    fault = played.fault
    for number, course in enumerate(played.courses):
        what = f"{fault.name} | {fault.mended_by}" if number == 0 else " | "
        anchor = f"[{course.alert}](../operations.md#{course.alert.lower()})"
        times = " | ".join(_seconds(at) for at in (course.pending_s, course.firing_s, course.resolved_s))
        yield f"| {what} | {course.severity} | {holds[course.alert]} | {times} | {anchor} |"
    for wrong in played.wrong:
        yield f"| {fault.name} | | | | | | | **{wrong}** |"


def _seconds(at: float | None) -> str:
    return "never" if at is None else f"{at:.0f} s"
