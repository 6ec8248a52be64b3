"""`headgate config`: prints the settings in use and the source of each."""

from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from headgate.cli.invocation import Json, of
from headgate.cli.output import Output, compact, fields
from headgate.runtime.settings import resolve


def config(
    context: typer.Context,
    role: Annotated[
        Literal["dev", "ingest", "dispatcher", "gateway", "init"] | None,
        typer.Option(help="With the defaults and checks of this role.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> int:
    """Prints the effective settings, secrets masked."""
    settings = of(context).settings()
    output = Output(as_json)
    for entry in (settings if role is None else resolve(settings, role)).report():
        output.item(entry, _line)
    return 0


def _line(entry: dict[str, Any]) -> Text:
    source = entry["source"]
    value = entry["value"]
    shown = value if isinstance(value, str) else compact(value)
    return fields((f"{entry['name']:<32}", "bold"), (shown, ""), (None if source == "default" else source, "yellow"))
