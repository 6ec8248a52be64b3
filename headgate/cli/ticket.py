"""`headgate ticket`: gets a ticket, the credential for the URL of a stream."""

from typing import Annotated, Any

import msgspec
import typer

from headgate.cli.client import Client, accepted
from headgate.cli.invocation import Json, Token, Url, WrongCommand, of
from headgate.cli.output import say


def ticket(
    context: typer.Context,
    topics: Annotated[
        list[str] | None, typer.Argument(metavar="TOPIC", help="The topics that it opens, as often as needed.")
    ] = None,
    ttl: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How long it is valid, else 3600. With topics only.", show_default=False),
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Prints a ticket for ?ticket= in a stream's URL. Without a topic: for one stream, within 30 seconds."""
    if ttl is not None and not topics:
        raise WrongCommand("--ttl is for a ticket with topics; one without is good for 30 seconds")
    body: dict[str, Any] = {"kind": "stream", "topic_ids": topics} if topics else {"kind": "once"}
    body |= {} if ttl is None else {"ttl_s": ttl}
    settings = of(context).settings({"client.url": url, "client.token": token})
    with Client.of(settings) as client:
        answer = accepted(client.post("/api/v1/tickets", msgspec.json.encode(body)))
    text: str = answer.decode() if as_json else msgspec.json.decode(answer)["ticket"]
    say(text)
    return 0
