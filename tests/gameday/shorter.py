"""The alert rules with every time multiplied by a factor, so that a day of faults takes minutes.

No `for` is longer than LONGEST_HOLD_S, and a forecast of a week, from days of hours, is one of 168 s, from seconds.
Thresholds stay, but for LIMITS, which two cores do not reach in minutes: they are values of the chart. So do the times
that are in the server: a link is missed after 10 s, a full disk is tried every 30 s.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

LEAST_S: Final = 1.0  # rules are evaluated once a second
LEAST_WINDOW_S: Final = 6.0  # a rate needs a few scrapes, also when one fails
LONGEST_HOLD_S: Final = 60.0
FORECAST_FACTOR: Final = 1 / 3_600  # a forecast needs three steps of an hour
FORECAST: Final = "predict_linear"
LIMITS: Final = {  # in place of the chart's own
    "HeadgateLogLagUrgent": 50,
    "HeadgateShardDepthUrgent": 500,
    "HeadgateShardDepth": 500,
    "HeadgateSessionsForecast": 0.001,
}
_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_WINDOW: Final = re.compile(r"\[(\d+[smhdw])(?::(\d+[smhdw]))?\]")
_WEEK: Final = re.compile(r"(?<=\], )604800(?=\))")
_LIMIT: Final = re.compile(r"(?<=[<>] )[0-9.]+$")  # as the chart finds it
_OFFSET: Final = re.compile(r"\boffset (\d+[smhdw])")


def seconds(duration: str) -> float:
    """Returns the seconds of a duration of one unit, such as `5m`."""
    return float(duration[:-1]) * _UNITS_S[duration[-1]]


def shorter(expression: str, factor: float) -> str:
    """Returns a query whose ranges and offsets are multiplied by the factor; those of a forecast by its own."""
    factor = min(factor, FORECAST_FACTOR) if FORECAST in expression else factor

    def window(found: re.Match[str]) -> str:
        step = f":{_scaled(found[2], factor, LEAST_S)}" if found[2] else ""
        return f"[{_scaled(found[1], factor, LEAST_WINDOW_S)}{step}]"

    ranges = _WEEK.sub(lambda found: f"{float(found[0]) * factor:.0f}", _WINDOW.sub(window, expression))
    return _OFFSET.sub(lambda found: f"offset {_scaled(found[1], factor, LEAST_S)}", ranges)


def shorter_rules(
    rules: Mapping[str, Any], factor: float, limits: Mapping[str, float] = MappingProxyType({})
) -> dict[str, Any]:
    """Returns the rule file with all times multiplied by the factor, and the `limits` of some alerts."""
    return {
        "groups": [
            {**group, "rules": [_rule(rule, factor, limits) for rule in group["rules"]]} for group in rules["groups"]
        ]
    }  # fmt: skip


def _rule(rule: Mapping[str, Any], factor: float, limits: Mapping[str, float]) -> dict[str, Any]:
    hold = "0s" if seconds(rule["for"]) == 0 else _scaled(rule["for"], factor, LEAST_S, LONGEST_HOLD_S)
    limit = limits.get(rule["alert"])
    expression = rule["expr"] if limit is None else _LIMIT.sub(f"{limit:g}", rule["expr"])
    return {**rule, "expr": shorter(expression, factor), "for": hold}


def _scaled(duration: str, factor: float, least_s: float, most_s: float = float("inf")) -> str:
    return f"{min(max(seconds(duration) * factor, least_s), most_s) * 1_000:.0f}ms"
