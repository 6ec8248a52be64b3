"""Writes the table "Find it in a minute" of architecture.md from the sources' docstrings: `python docs/find_it.py`."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
GROUPS = {
    "headgate/core/wire": "The pure core: wire, what two processes must agree on",
    "headgate/core/sequencer": "The pure core: sequencer, from the log to numbers",
    "headgate/core/client": "The pure core: client, the client's language",
    "headgate/core/fanout": "The pure core: fanout, from frames to sockets",
    "headgate/core/publish": "The pure core: publish, from a body to a record",
    "headgate/core/inbox": "The pure core: inbox, a user's side",
    "headgate/core/delivery": "The pure core: delivery, one message for one subscriber",
    "headgate/runtime": "Adapters",
    "ingest": "Ingest",
    "dispatcher": "Dispatcher",
    "gateway": "Gateway",
    "headgate/cli": "Command line",
    "headgate/broker": "The in-process broker",
    "clients/python/src/headgate_client": "The Python client, a distribution of its own",
}


def sentence(path: Path) -> str:
    """Returns what a module says it is: its docstring up to the first semicolon, colon or full stop."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split())
    return re.split(r"; |\. |\.$", text, maxsplit=1)[0].replace("|", "\\|")


def table() -> str:
    """Returns the whole section."""
    parts = [
        "## Find it in a minute",
        "",
        "Written by `python docs/find_it.py` from each file's own first sentence.",
        "",
    ]
    for folder, title in GROUPS.items():
        files = sorted(p for p in (ROOT / folder).rglob("*.py") if p.name != "__init__.py")
        parts += [f"**{title}**", "", "| file | what it is |", "|---|---|"]
        parts += [f"| `{p.relative_to(ROOT).as_posix()}` | {sentence(p)} |" for p in files]
        parts.append("")
    return "\n".join(parts)


def main() -> None:
    """Replaces the section in the page."""
    page = PAGE.read_text("utf-8")
    PAGE.write_text(page[: page.index("## Find it in a minute")] + table(), "utf-8")


if __name__ == "__main__":
    main()
