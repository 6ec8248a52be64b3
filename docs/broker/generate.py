"""Writes the generated parts of these pages: `python docs/broker/generate.py`, with `--check` only says what is stale.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from headgate.broker.demos import DEMOS, Stage
from headgate.cli.demo import line_of
from headgate.core.breaker import BREAKER_TRANSITIONS, BreakerState
from headgate.core.delivery import TRANSITIONS, Status

HERE: Final = Path(__file__).parent
PART: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(argv: list[str]) -> int:
    """Writes or checks every page; returns the exit status."""
    stale = [page for page in sorted(HERE.glob("*.md")) if filled(page.read_text()) != page.read_text()]
    for page in stale:
        if "--check" in argv:
            sys.stderr.write(f"{page.name} is stale: run python docs/broker/generate.py\n")
        else:
            page.write_text(filled(page.read_text()))
    return int(bool(stale) and "--check" in argv)


def filled(text: str) -> str:
    """Returns a page with its generated parts as they should be."""
    return PART.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}{found[3]}", text)


def demo_output() -> str:
    """What `headgate demo` prints to a person, without its colours."""
    lines: list[str] = []

    def show(line: dict[str, Any]) -> None:
        lines.extend(line_of(line).plain.split("\n"))

    for number, (name, run) in enumerate(DEMOS.items(), 1):
        show({"say": f"\n{number} {name}\n{run.__doc__}"})
        run(Stage(name, show, lambda text: show({"say": text})))
    return "```text\n$ headgate demo" + "\n".join(lines) + "\n```\n"


def diagram(transitions: Mapping[tuple[Any, Any], Any], first: str) -> str:
    """A state diagram from a transition table."""
    sources = {source for source, _ in transitions}
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {_name(first)}"]
    for (source, step), target in transitions.items():
        lines.append(f"    {_name(source)} --> {_name(target)}: {step}")
    finals = [state for state in dict.fromkeys(transitions.values()) if state not in sources]
    lines += [f"    {_name(state)} --> [*]" for state in finals]
    return "\n".join([*lines, "```"]) + "\n"


def _name(state: str) -> str:
    return str(state).replace(" ", "_")


PARTS: Final[dict[str, Callable[[], str]]] = {
    "demo": demo_output,
    "delivery": lambda: diagram(TRANSITIONS, Status.CREATED),
    "breaker": lambda: diagram(BREAKER_TRANSITIONS, BreakerState.CLOSED),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
