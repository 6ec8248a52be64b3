"""The alert rules with every time multiplied by a factor, so that a day of faults takes minutes.

Thresholds stay. So do the times that are in the server: a link is missed after 10 s, a full disk is tried every 30 s.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

LEAST_S: Final = 1.0  # rules are evaluated once a second
LEAST_WINDOW_S: Final = 6.0  # a rate needs a few scrapes, also when one fails
_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_WINDOW: Final = re.compile(r"\[(\d+[smhdw])(?::(\d+[smhdw]))?\]")
_OFFSET: Final = re.compile(r"\boffset (\d+[smhdw])")


def seconds(duration: str) -> float:
    """Returns the seconds of a duration of one unit, such as `5m`."""
    return float(duration[:-1]) * _UNITS_S[duration[-1]]


def shorter(expression: str, factor: float) -> str:
    """Returns a query whose ranges and offsets are multiplied by the factor."""

    def window(found: re.Match[str]) -> str:
        step = f":{_scaled(found[2], factor, LEAST_S)}" if found[2] else ""
        return f"[{_scaled(found[1], factor, LEAST_WINDOW_S)}{step}]"

    ranges = _WINDOW.sub(window, expression)
    return _OFFSET.sub(lambda found: f"offset {_scaled(found[1], factor, LEAST_S)}", ranges)


def shorter_rules(rules: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Returns the rule file with all times multiplied by the factor."""
    return {
        "groups": [
            {**group, "rules": [_rule(rule, factor) for rule in group["rules"]]} for group in rules["groups"]
        ]
    }  # fmt: skip


def _rule(rule: Mapping[str, Any], factor: float) -> dict[str, Any]:
    hold = "0s" if seconds(rule["for"]) == 0 else _scaled(rule["for"], factor, LEAST_S)
    return {**rule, "expr": shorter(rule["expr"], factor), "for": hold}


def _scaled(duration: str, factor: float, least_s: float) -> str:
    return f"{max(seconds(duration) * factor, least_s) * 1_000:.0f}ms"
