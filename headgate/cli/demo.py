"""`headgate demo`: runs the in-process demonstrations and prints what happens, as it happens."""

from importlib import import_module
from types import ModuleType
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from headgate.cli.invocation import Json, WrongCommand
from headgate.cli.output import Output, compact, fields

_COLOURS: Final = {
    "subscriber_added": "blue",
    "message_enqueued": "cyan",
    "delivering": "yellow",
    "delivered": "green",
    "failed": "red",
    "retry_scheduled": "magenta",
    "dead_letter": "bold red",
    "strategy_swapped": "bold blue",
    "backpressure": "bold yellow",
    "batch_flush": "bold cyan",
}
_SHOWN: Final = ("event", "demo", "at", "topic", "id", "subscriber", "attempts", "status")


def demo(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="basic, retry, broadcast, strategies, backpressure.", show_default="all"),
    ] = None,
    as_json: Json = False,
) -> int:
    """Runs the in-process demonstrations: the life of a message in five minutes."""
    demos = import_module("headgate.broker.demos")  # other commands need not load the broker
    output = Output(as_json, go_on=True)  # a demonstration is short: there is nothing to cancel
    for name in names or demos.DEMOS:
        if name not in demos.DEMOS:
            raise WrongCommand(f"headgate demo: no demonstration {name}; there are {', '.join(demos.DEMOS)}")
        _run(demos, name, output)
    return 0


def _run(demos: ModuleType, name: str, output: Output) -> None:
    def show(line: dict[str, Any]) -> None:
        output.item(line, line_of)

    def tell(text: str) -> None:
        if not output.lines:
            output.item({"say": text}, line_of)

    run = demos.DEMOS[name]
    number = list(demos.DEMOS).index(name) + 1
    tell(f"\n{number} {name}\n{run.__doc__}")
    run(demos.DemoRun(name, show, tell))


def line_of(line: dict[str, Any]) -> Text:
    """Returns an event, a summary or a line of text for a person."""
    if "say" in line:
        return _narration(line["say"])
    if "summary" in line:
        return _summary(line["summary"])
    message = "" if line["id"] is None else f"#{line['id']}"
    more = ", ".join(f"{key} {compact(value)}" for key, value in line.items() if key not in _SHOWN)
    shown = fields(
        (f"{line['at']:6.2f} s", "dim"),
        (f"{line['event']:16}", _COLOURS[line["event"]]),
        (f"{line['topic']} {message}".strip().ljust(12), "bold"),
        ((line["subscriber"] or "").ljust(10), ""),
        (f"try {line['attempts']}" if line["attempts"] else " " * 5, ""),
        ((line["status"] or "").ljust(15), _COLOURS[line["event"]]),
        (more, "dim"),
    )
    shown.rstrip()
    return shown


def _narration(text: str) -> Text:
    title, _, rest = text.lstrip("\n").partition("\n")
    if rest:
        return Text("\n").append(title, "bold underline").append(f"\n{rest}\n", "italic")
    return Text(f"          {title}", "italic")


def _summary(metrics: dict[str, Any]) -> Text:
    shown = Text(f"\nsummary of {metrics['topic']}", "bold underline")
    for key, value in metrics.items():
        if key != "topic":
            shown.append(f"\n  {key:18} ", "").append(compact(value), "green" if value else "dim")
    return shown
