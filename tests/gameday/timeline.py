"""When each alert of one fault was pending, fired and was resolved. Decides on times that it is given."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

FIRING: Final = "firing"


@dataclass
class Course:
    """One alert during one fault: seconds from the fault, and for `resolved_s` from the mend."""

    alert: str
    severity: str
    pending_s: float | None = None
    firing_s: float | None = None
    resolved_s: float | None = None


class Timeline:
    """`began` and every `now` are seconds of one clock."""

    def __init__(self, began: float) -> None:
        self.courses: dict[str, Course] = {}
        self.active: set[str] = set()  # pending or firing, as of the last note
        self._began = began
        self._mended: float | None = None

    def mended(self, now: float) -> None:
        """The fault is over."""
        self._mended = now

    def note(self, now: float, alerts: Iterable[Mapping[str, Any]]) -> None:
        """Takes the alerts that Prometheus has now, each with `labels` and `state`."""
        states: dict[str, str] = {}
        for alert in alerts:
            name = alert["labels"]["alertname"]
            self.courses.setdefault(name, Course(name, alert["labels"]["severity"]))
            states[name] = FIRING if FIRING in (states.get(name), alert["state"]) else alert["state"]
        for name, state in states.items():
            self._is_active(self.courses[name], state, now - self._began)
        for name in self.active - set(states):
            self.courses[name].resolved_s = now - (self._mended or now)
        self.active = set(states)

    def fired(self) -> dict[str, Course]:
        """Returns the alerts that fired, in the order in which they did."""
        fired = [course for course in self.courses.values() if course.firing_s is not None]
        return {course.alert: course for course in sorted(fired, key=lambda course: course.firing_s or 0.0)}

    @staticmethod
    def _is_active(course: Course, state: str, after_s: float) -> None:
        course.resolved_s = None
        if course.pending_s is None:
            course.pending_s = after_s
        if state == FIRING and course.firing_s is None:
            course.firing_s = after_s
