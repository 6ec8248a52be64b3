"""`headgate messages`: shows, edits and redacts single messages of a topic, and reacts to them, over HTTP."""

import os
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
import typer
from rich.text import Text

from headgate.cli.client import Client, accepted, topic_path
from headgate.cli.history import message_line
from headgate.cli.invocation import Json, Token, Url, WrongCommand, needs_command, of
from headgate.cli.lines import check_json
from headgate.cli.output import Output, compact, fields
from headgate.cli.topics import TopicId
from headgate.core.wire.payload import without_lone

app = typer.Typer(help="Shows, edits and redacts single messages of a topic, and reacts to them.")
app.callback(invoke_without_command=True)(needs_command)

Message = Annotated[str, typer.Argument(metavar="MESSAGE", help="The message's id.")]
_VERSION_HELP: Final = "Edit this version only; without it the present version is asked for first."


class _Version(msgspec.Struct):
    version: int = 1


@app.command()
def get(
    context: typer.Context,
    *,
    topic: TopicId,
    message: Message,
    versions: Annotated[bool, typer.Option("--versions", help="With all its versions.")] = False,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Shows a message as it is now."""
    query = {"versions": "true"} if versions else {}
    with _client(context, url, token) as client:
        Output(as_json).raw(accepted(client.get(_path(topic, message), query)), _lines)
    return 0


@app.command()
def edit(
    context: typer.Context,
    *,
    topic: TopicId,
    message: Message,
    payload: Annotated[str, typer.Argument(metavar="PAYLOAD", help="The new payload: one JSON value.")],
    version: Annotated[int | None, typer.Option(metavar="N", min=1, help=_VERSION_HELP, show_default=False)] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Replaces the payload of your own message."""
    text = os.fsencode(payload)
    try:
        check_json(text)
    except ValueError as error:
        raise WrongCommand(f"PAYLOAD is {error.args[1]}") from None
    path = _path(topic, message)
    with _client(context, url, token) as client:
        replaced = version or _present_version(accepted(client.get(path)))
        body = b'{"version":%d,"payload":%b}' % (replaced, text)
        Output(as_json).raw(accepted(client.patch(path, body)), message_line)
    return 0


@app.command()
def redact(
    context: typer.Context,
    topic: TopicId,
    message: Message,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Removes the payload of a message for ever."""
    with _client(context, url, token) as client:
        accepted(client.delete(_path(topic, message)))
    _done(as_json, topic, message, redacted=True)
    return 0


@app.command()
def react(
    context: typer.Context,
    *,
    topic: TopicId,
    message: Message,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The reaction: 1 to 32 characters.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take the reaction back.")] = False,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Adds your reaction to a message, or takes it back."""
    path = f"{_path(topic, message)}/reactions/{quote(name, safe='')}"
    with _client(context, url, token) as client:
        accepted(client.delete(path) if remove else client.put(path, b""))
    _done(as_json, topic, message, name=name, removed=remove)
    return 0


def _path(topic_id: str, message_id: str) -> str:
    return topic_path(topic_id, f"/messages/{quote(message_id, safe='')}")


def _present_version(frame: bytes) -> int:
    return msgspec.json.decode(without_lone(frame), type=_Version).version


def _client(context: typer.Context, url: str | None, token: str | None) -> Client:
    return Client.of(of(context).settings({"client.url": url, "client.token": token}))


def _done(as_json: bool, topic_id: str, message_id: str, **what: Any) -> None:
    item = {"topic_id": topic_id, "message_id": message_id, **what}
    Output(as_json).item(item, _done_line)


def _done_line(item: dict[str, Any]) -> Text:
    name = item.get("name")
    done = "redacted" if name is None else f"{name} taken back" if item["removed"] else name
    return fields((item["message_id"], "bold"), (done, "magenta"))


def _lines(frame: dict[str, Any]) -> Text:
    return Text("\n").join([message_line(frame), *map(_version_line, frame.get("versions", []))])


def _version_line(version: dict[str, Any]) -> Text:
    return fields(
        (f"version {version['version']}", "dim"), (compact(version["payload"]), ""), (version["edited_at"], "dim")
    )
