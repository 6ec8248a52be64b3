"""Draws the three dashboards from a running Prometheus, without Grafana.

    python -m helm.observability.pictures --prometheus http://127.0.0.1:9090 --out pictures --seconds 3600
    chromium --headless --screenshot=health.png --window-size=1410,2100 pictures/health.html

The pages are drawn from the same JSON that Grafana reads: places, units, legends, thresholds and queries.
"""

import argparse
import json
import re
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from helm.observability.dashboards import PAGES, dashboard
from helm.observability.drawing import Line, page

POINTS: Final = 200  # of a line
ANSWER_S: Final = 30.0
_LABEL: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")

Ask = Callable[[str], list[dict[str, Any]]]


class NoAnswer(Exception):
    """Prometheus does not answer a query; the text says which."""


def asking(url: str, start_s: float, end_s: float, rate_interval: str) -> Ask:
    """Returns what asks a Prometheus for the series of a query over a range of Unix seconds. It raises NoAnswer."""

    def ask(query: str) -> list[dict[str, Any]]:
        values = {"query": query.replace("$__rate_interval", rate_interval), "start": f"{start_s:.3f}",
                  "end": f"{end_s:.3f}", "step": f"{max((end_s - start_s) / POINTS, 1.0):.3f}"}  # fmt: skip
        target = f"{url.rstrip('/')}/api/v1/query_range?{urllib.parse.urlencode(values)}"
        try:
            with urllib.request.urlopen(target, timeout=ANSWER_S) as answer:  # noqa: S310 - the person named it
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except (OSError, ValueError) as error:
            raise NoAnswer(f"{query}: {error}") from error
        return found

    return ask


def lines_of(panel: dict[str, Any], ask: Ask) -> list[Line]:
    """Returns the series of all queries of a panel, with their legends."""
    found = []
    for target in panel.get("targets", ()):
        legend = "" if target["legendFormat"] == "__auto" else target["legendFormat"]
        for series in ask(target["expr"]):
            labels: dict[str, str] = series["metric"]
            named = _LABEL.sub(lambda match, labels=labels: labels.get(match[1], ""), legend)
            found.append(Line(named, [(float(ts), float(value)) for ts, value in series["values"]]))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Writes a file for each dashboard. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helm.observability.pictures", description="Draws the dashboards.")
    parser.add_argument("--prometheus", metavar="URL", default="http://127.0.0.1:9090")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3600.0, help="until now")
    parser.add_argument("--rate-interval", default="1m", help="four times the scrape interval, at least")
    options = parser.parse_args(arguments)
    end_s = time.time()
    start_s = end_s - options.seconds
    ask = asking(options.prometheus, start_s, end_s, options.rate_interval)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        for each in PAGES:
            drawn = dashboard(each)
            lines = {panel["id"]: lines_of(panel, ask) for panel in drawn["panels"]}
            path = options.out / f"{each.name}.html"
            path.write_text(page(drawn, lines, start_s, end_s), "utf-8")
            sys.stderr.write(f"{path}\n")
    except NoAnswer as error:
        sys.stderr.write(f"{options.prometheus}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
