"""The Grafana dashboards as plain JSON values: one for each page (docs/adr/0039)."""

from typing import Any, Final

from helm.observability.components_page import COMPONENTS
from helm.observability.health_page import HEALTH
from helm.observability.panels import WIDTH, Page, Panel
from helm.observability.topics_page import TOPICS

DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION: Final = 41
LINK: Final = {  # to the other pages, in the head of each
    "title": "Headgate", "type": "dashboards", "tags": ["headgate"], "asDropdown": False, "includeVars": True,
    "keepTime": True, "targetBlank": False, "icon": "external link", "tooltip": "", "url": "",
}  # fmt: skip
PAGES: Final = (HEALTH, COMPONENTS, TOPICS)


def dashboard(page: Page) -> dict[str, Any]:
    """Returns a page as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in page.rows:
        panels.append({**_place(0, y, WIDTH, 1), "id": len(panels) + 1, "type": "row", "title": title,
                       "collapsed": False, "panels": []})  # fmt: skip
        x, y = 0, y + 1
        for panel in row:
            if x + panel.width > WIDTH:
                x, y = 0, y + panel.height
            panels.append({**_place(x, y, panel.width, panel.height), **_panel(panel, len(panels) + 1)})
            x += panel.width
        y += row[-1].height
    return {
        "uid": f"headgate-{page.name}",
        "title": page.title,
        "tags": ["headgate"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "annotations": {"list": []},
        "links": [LINK],
        "panels": panels,
    }


def queries() -> list[str]:
    """Returns every query of every dashboard."""
    return [query for page in PAGES for _, row in page.rows for panel in row for _, query in panel.queries]


def _place(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {"gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [{"color": colour, "value": value} for value, colour in panel.thresholds]
    custom = {
        "thresholdsStyle": {"mode": "line" if panel.thresholds else "off"},
        "fillOpacity": 8,
        "showPoints": "never",
    }
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    options: dict[str, Any] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    if panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults | ({} if panel.kind == "stat" else {"custom": custom}), "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend or "__auto"}
            for n, (legend, expr) in enumerate(panel.queries)
        ],
    }
