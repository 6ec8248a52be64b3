"""Which files are generated, and their text."""

import json
from pathlib import Path
from typing import Final

from helm.observability.alerts import rule_tests, rules
from helm.observability.dashboards import PAGES, dashboard

ROOT: Final = Path(__file__).resolve().parents[2]
FILES: Final = ROOT / "helm" / "headgate" / "files"
RULES: Final = FILES / "alerts.yaml"
RULE_TESTS: Final = ROOT / "tests" / "deploy" / "alerts_test.yaml"
DASHBOARDS: Final = FILES / "dashboards"
_NOTE: Final = "# Written by `python -m helm.observability`.\n"


def contents() -> dict[Path, str]:
    """Returns every generated file. JSON is YAML: the rules need no library to be written."""
    return {
        RULES: _NOTE + json.dumps(rules(), indent=2) + "\n",
        RULE_TESTS: _NOTE + json.dumps(rule_tests("../../helm/headgate/files/alerts.yaml"), indent=2) + "\n",
        **{DASHBOARDS / f"{page.name}.json": json.dumps(dashboard(page), indent=2) + "\n" for page in PAGES},
    }
