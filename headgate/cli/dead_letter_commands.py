"""`headgate dead-letters`: lists, shows, replays and purges deliveries that were given up, over HTTP."""

from collections.abc import Iterator
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
import typer
from rich.text import Text

from headgate.cli.client import Client, accepted
from headgate.cli.history import message_line
from headgate.cli.invocation import Json, Token, Url, WrongCommand, needs_command, of
from headgate.cli.output import Output, fields
from headgate.cli.paging import pages

PATH: Final = "/api/v1/dead-letters"

app = typer.Typer(help="Lists, shows, replays and purges deliveries that were given up.")
app.callback(invoke_without_command=True)(needs_command)

Letters = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of dead letters.", show_default=False)]
_TOPIC_HELP: Final = "Of this topic; without it of all topics that you administer."
_ALL_HELP: Final = "All dead letters of this topic."
_Topic = Annotated[str | None, typer.Option("--topic", metavar="TOPIC", help=_TOPIC_HELP, show_default=False)]
_AllOf = Annotated[str | None, typer.Option("--all-of", metavar="TOPIC", help=_ALL_HELP, show_default=False)]


class _Letter(msgspec.Struct):
    id: str


@app.command("list")
def list_letters(
    context: typer.Context, *, topic: _Topic = None, url: Url = None, token: Token = None, as_json: Json = False
) -> int:
    """Lists the dead letters of a topic, for its admins; those that are being replayed are not among them."""
    output = Output(as_json)
    with _client(context, url, token) as client:
        for letter in pages(client, PATH, "dead_letters", {"topic_id": topic}):
            output.raw(letter, _line, flush=False)
    output.flush()
    return 0


@app.command()
def show(
    context: typer.Context,
    letter: Annotated[str, typer.Argument(metavar="ID", help="The id of a dead letter.")],
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Shows a dead letter, and its message as it is now."""
    with _client(context, url, token) as client:
        Output(as_json).raw(accepted(client.get(_path(letter))), _details)
    return 0


@app.command()
def replay(
    context: typer.Context,
    *,
    letters: Letters = None,
    all_of: _AllOf = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Delivers messages again, each to the subscription that gave it up."""
    output = Output(as_json)
    with _client(context, url, token) as client:
        for letter in _chosen(client, letters, all_of):
            accepted(client.post(_path(letter, "/replay"), b""))
            output.item({"id": letter, "replayed": True}, lambda done: _done(done["id"], "replayed", "green"))
    return 0


@app.command()
def purge(
    context: typer.Context,
    *,
    letters: Letters = None,
    all_of: _AllOf = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Removes dead letters. Their messages stay in the topic; nobody delivers them again."""
    output = Output(as_json)
    with _client(context, url, token) as client:
        for letter in _chosen(client, letters, all_of):
            accepted(client.delete(_path(letter)))
            output.item({"id": letter, "purged": True}, lambda done: _done(done["id"], "purged", "red"))
    return 0


def _chosen(client: Client, letters: list[str] | None, all_of: str | None) -> Iterator[str]:
    """Returns the ids that were given, or those of a topic. Raises WrongCommand."""
    if bool(letters) == (all_of is not None):
        raise WrongCommand("give the ID of one or more dead letters, or --all-of TOPIC")
    if all_of is None:
        return iter(letters or ())
    return iter([_id_of(letter) for letter in pages(client, PATH, "dead_letters", {"topic_id": all_of})])


def _path(letter_id: str, rest: str = "") -> str:
    return f"{PATH}/{quote(letter_id, safe='')}{rest}"


def _id_of(letter: bytes) -> str:
    return msgspec.json.decode(letter, type=_Letter).id


def _client(context: typer.Context, url: str | None, token: str | None) -> Client:
    return Client.of(of(context).settings({"client.url": url, "client.token": token}))


def _line(letter: dict[str, Any]) -> Text:
    whom = letter.get("group") or "/".join(filter(None, (letter["user_id"], letter["device_id"])))
    return fields(
        (letter["id"], "bold"),
        (f"{letter['topic_id']} #{letter['seq']}", "cyan"),
        (whom, ""),
        (f"{letter['attempts']} attempts", "dim"),
        (letter["reason"], "red"),
        (letter["last_error"] or None, ""),
        (letter["at"], "dim"),
    )


def _details(letter: dict[str, Any]) -> Text:
    message = letter["message"]
    lines = [_line(letter), Text("the message is no longer kept") if message is None else message_line(message)]
    if letter["replaying"]:
        lines.insert(1, Text("is being replayed"))
    return Text("\n").join(lines)


def _done(letter_id: str, what: str, style: str) -> Text:
    return fields((letter_id, "bold"), (what, style))
