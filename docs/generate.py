"""Fills the generated parts of the pages: `python -m docs.generate` writes, `--check` only names stale pages.

Two kinds of parts, both ended by `<!-- end -->`:

* `<!-- generated: NAME -->`: kept in the page, to be read without a build. A test says when it is stale.
* `<!-- built: NAME -->`: empty in the page, filled each time `make docs` builds the site. It cannot become stale.

The OpenAPI and AsyncAPI documents are whole files; a test says when they are stale.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.capacity import capacity_tables
from bench.sizing import sizing_table
from docs.site.command_lines import command_lines
from docs.site.diagrams import diagram, flat
from docs.site.error_tables import error_table
from docs.site.metric_sections import metric_sections
from docs.site.setting_sections import setting_sections
from docs.site.vector_steps import step_table
from headgate.broker.demos import DEMOS, DemoRun
from headgate.cli.demo import line_of
from headgate.core.delivery import breaker, delivery
from headgate.core.fanout import subscription
from headgate.core.publish import circuit, recent_publishes
from headgate.core.sequencer import shard_state
from headgate.runtime.api.asyncapi import asyncapi_document
from headgate.runtime.api.openapi import openapi_document

HERE: Final = Path(__file__).parent

KEPT: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
BUILT: Final = re.compile(r"(<!-- built: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(argv: list[str]) -> int:
    """Writes or checks the kept parts of every page; returns the exit status."""
    wanted = {page: filled(page.read_text()) for page in sorted(HERE.rglob("*.md"))}
    wanted |= {HERE / name: json.dumps(build(), indent=1) + "\n" for name, build in DOCUMENTS.items()}
    stale = {page: text for page, text in wanted.items() if not page.exists() or page.read_text() != text}
    for page, text in stale.items():
        if "--check" in argv:
            sys.stderr.write(f"{page.relative_to(HERE)} is stale: run python -m docs.generate\n")
        else:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text)
    return int(bool(stale) and "--check" in argv)


def filled(text: str, marks: re.Pattern[str] = KEPT) -> str:
    """Returns a page with its generated parts as they should be. Raises KeyError for a name that is not in PARTS."""
    return marks.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}{found[3]}", text)


def demo_output() -> str:
    """Returns what `headgate demo` prints to a person, without its colours."""
    lines: list[str] = []

    def show(line: dict[str, object]) -> None:
        lines.extend(line_of(line).plain.split("\n"))

    for number, (name, run) in enumerate(DEMOS.items(), 1):
        show({"say": f"\n{number} {name}\n{run.__doc__}"})
        run(DemoRun(name, show, lambda text: show({"say": text})))
    return "```text\n$ headgate demo" + "\n".join(lines) + "\n```\n"


PARTS: Final[dict[str, Callable[[], str]]] = {
    "breaker": lambda: diagram(breaker.BREAKER_TRANSITIONS, breaker.BreakerState.CLOSED),
    "capacity": capacity_tables,
    "circuit": lambda: diagram(flat(circuit.TRANSITIONS), circuit.CircuitState.CLOSED),
    "commands": command_lines,
    "delivery": lambda: diagram(delivery.TRANSITIONS, delivery.Status.CREATED),
    "demo": demo_output,
    "errors": error_table,
    "metrics": metric_sections,
    "publishes": lambda: diagram(flat(recent_publishes.TRANSITIONS), recent_publishes.PublishState.IN_FLIGHT),
    "settings": setting_sections,
    "shard": lambda: diagram(flat(shard_state.TRANSITIONS), shard_state.ShardState.CLAIMING),
    "sizing": sizing_table,
    "subscription": lambda: diagram(flat(subscription.TRANSITIONS), subscription.SubscriptionState.ASKED),
    "vectors": step_table,
}
DOCUMENTS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "reference/openapi.json": openapi_document,
    "reference/asyncapi.json": asyncapi_document,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
