"""Draws a dashboard as one HTML page with SVG in it: what Grafana would show, from the same JSON."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

COLUMN, ROW, SPACE = 58, 38, 8  # pixels of a grid cell, and between panels
COLOURS: Final = (
    "#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffcb7d", "#96d98d", "#ff7383",
)  # fmt: skip
NAMED: Final = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c"}
LEGENDS: Final = 10  # lines that a legend names; the rest is counted
_HEAD, _LEGEND = 26, 14  # pixels of a panel's title, and of a line of its legend
_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_STYLE: Final = (
    "body{margin:8px;background:#111217;font:12px sans-serif;color:#ccccdc}h1{font-size:16px;margin:4px 8px}"
    "svg text{fill:#ccccdc;font:11px sans-serif}svg .title{font-weight:bold;font-size:12px}svg .row{font-size:13px}"
)


class Line(NamedTuple):
    """One series of a panel: its legend and its points as (Unix seconds, value)."""

    legend: str
    points: Sequence[tuple[float, float]]


def page(dashboard: Mapping[str, Any], lines: Mapping[int, Sequence[Line]], start_s: float, end_s: float) -> str:
    """Returns the page; `lines` are the series by a panel's id, from `start_s` to `end_s` (Unix seconds)."""
    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * ROW
    drawn = "".join(_panel(panel, lines.get(panel["id"], ()), start_s, end_s) for panel in panels)
    title = html.escape(dashboard["title"])
    return (
        f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{24 * COLUMN}" height="{height}">{drawn}</svg>\n'
    )


def shown(value: float, unit: str) -> str:
    """Returns a value as people read it, in one of the units that the dashboards use."""
    if math.isnan(value):
        return "NaN"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 or value == 0 else f"{value * 1000:.3g} ms"
    if unit == "bytes":
        power = min(int(math.log(value, 1024)), len(_BINARY) - 1) if value >= 1 else 0
        return f"{value / 1024**power:.3g} {_BINARY[power]}"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}{'/s' if unit == 'ops' else ''}"
    return f"{value:.3g}{'/s' if unit == 'ops' else ''}"


def _panel(panel: Mapping[str, Any], lines: Sequence[Line], start_s: float, end_s: float) -> str:
    place = panel["gridPos"]
    width, height = place["w"] * COLUMN - SPACE, place["h"] * ROW - SPACE
    inner = _title(panel["title"], panel["type"])
    if panel["type"] != "row":
        inner = f'<rect width="{width}" height="{height}" rx="3" fill="#181b1f" stroke="#2c3235"/>{inner}'
        inner += (
            _stat(panel, lines) if panel["type"] == "stat" else _chart(panel, lines, (width, height), start_s, end_s)
        )
    return f'<g transform="translate({place["x"] * COLUMN},{place["y"] * ROW})">{inner}</g>'


def _title(text: str, kind: str) -> str:
    style = "row" if kind == "row" else "title"
    return f'<text class="{style}" x="8" y="18">{"&#9662; " if kind == "row" else ""}{html.escape(text)}</text>'


def _stat(panel: Mapping[str, Any], lines: Sequence[Line]) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    values = [line.points[-1][1] for line in lines if line.points]
    if not values:
        return _words("No data", 14, 70)
    steps = defaults["thresholds"]["steps"]
    colour = next(step["color"] for step in reversed(steps) if step["value"] is None or values[0] >= step["value"])
    text = html.escape(shown(values[0], defaults["unit"]))
    return f'<text x="14" y="90" style="font-size:34px;fill:{NAMED.get(colour, colour)}">{text}</text>'


def _words(text: str, x: float, y: float, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{html.escape(text)}</text>'


def _chart(panel: Mapping[str, Any], lines: Sequence[Line], size: tuple[int, int], start_s: float, end_s: float) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    lines = [line for line in lines if any(math.isfinite(value) for _, value in line.points)]
    rows = math.ceil(min(len(lines), LEGENDS) / 2)
    left, top, right, bottom = 58, _HEAD + 6, size[0] - 12, size[1] - 24 - rows * _LEGEND
    most = _top(max((v for line in lines for _, v in line.points if math.isfinite(v)), default=0.0), defaults["unit"])

    def at(ts: float, value: float) -> str:
        x = left + (ts - start_s) / max(end_s - start_s, 1) * (right - left)
        return f"{x:.1f},{bottom - min(value, most) / most * (bottom - top):.1f}"

    parts = [_grid(defaults["unit"], most, (left, top, right, bottom), end_s - start_s)]
    parts += [_threshold(step, most, (left, top, right, bottom)) for step in defaults["thresholds"]["steps"]]
    for n, line in enumerate(lines):
        points = " ".join(at(ts, value) for ts, value in line.points if math.isfinite(value))
        parts.append(
            f'<polyline fill="none" stroke="{COLOURS[n % len(COLOURS)]}" stroke-width="1.5" points="{points}"/>'
        )
    parts.append(
        _legend(lines, size, rows) if lines else _words("No data", (left + right) / 2 - 20, (top + bottom) / 2)
    )
    return "".join(parts)


def _top(most: float, unit: str) -> float:
    """Returns the end of an axis: 1, 2 or 5 times a power of ten (of bytes: beside one of 1024), 1 where all is 0."""
    if most <= 0:
        return 1.0
    if unit == "bytes":
        scale = 1024.0 ** int(math.log(max(most, 1.0), 1024))
        return _top(most / scale, "") * scale
    power = 10.0 ** math.floor(math.log10(most))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= most * 0.999)


def _grid(unit: str, most: float, box: tuple[int, int, int, int], seconds: float) -> str:
    left, top, right, bottom = box
    parts = []
    for n in range(5):
        y = bottom - n * (bottom - top) / 4
        parts.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#2c3235"/>')
        parts.append(_words(shown(most * n / 4, unit), left - 6, y + 4, 'text-anchor="end"'))
    parts.append(_words(f"-{seconds:.0f} s", left, bottom + 14))
    parts.append(_words("now", right, bottom + 14, 'text-anchor="end"'))
    return "".join(parts)


def _threshold(step: Mapping[str, Any], most: float, box: tuple[int, int, int, int]) -> str:
    left, top, right, bottom = box
    if step["value"] is None or step["value"] > most:
        return ""
    y = bottom - step["value"] / most * (bottom - top)
    colour = NAMED.get(step["color"], step["color"])
    return f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-dasharray="4 3"/>'


def _legend(lines: Sequence[Line], size: tuple[int, int], rows: int) -> str:
    parts = []
    cut: Callable[[str], str] = lambda text: text if len(text) <= 36 else f"{text[:35]}…"  # noqa: E731
    for n, line in enumerate(lines[:LEGENDS]):
        x, y = 12 + n % 2 * (size[0] // 2), size[1] - 8 - (rows - 1 - n // 2) * _LEGEND
        parts.append(f'<rect x="{x}" y="{y - 8}" width="10" height="4" fill="{COLOURS[n % len(COLOURS)]}"/>')
        more = f" (+{len(lines) - LEGENDS} more)" if n == LEGENDS - 1 and len(lines) > LEGENDS else ""
        parts.append(_words(cut(line.legend) + more, x + 14, y))
    return "".join(parts)
