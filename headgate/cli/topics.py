"""`headgate topics`: creates, changes, shows, lists and deletes topics over HTTP, and shows their statistics."""

from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from headgate.cli.client import Client, accepted, topic_path
from headgate.cli.invocation import Json, Token, Url, WrongCommand, needs_command, of
from headgate.cli.output import Output, fields, harmless
from headgate.cli.paging import pages

app = typer.Typer(help="Creates, changes, shows, lists and deletes topics; shows their statistics.")
app.callback(invoke_without_command=True)(needs_command)

TopicId = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic's id.")]


@app.command()
def create(
    context: typer.Context,
    *,
    topic: TopicId,
    name: Annotated[str | None, typer.Option(help="Its name; the id where none is given.")] = None,
    permissions: Annotated[
        str | None, typer.Option(help="PUBLIC, PRIVATE, PUBLISH_ONLY or SUBSCRIBE_ONLY.", show_default="PUBLIC")
    ] = None,
    topic_settings: Annotated[
        str | None, typer.Option("--settings", metavar="JSON", help='For instance {"profile":"ephemeral"}.')
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Creates a topic."""
    body: dict[str, Any] = {"topic_id": topic, "name": topic if name is None else name}
    if permissions is not None:
        body["permissions"] = permissions
    if topic_settings is not None:
        body["settings"] = _object(topic_settings)
    with _client(context, url, token) as client:
        Output(as_json).raw(accepted(client.post("/api/v1/topics", msgspec.json.encode(body))), topic_line)
    return 0


@app.command()
def update(
    context: typer.Context,
    *,
    topic: TopicId,
    name: Annotated[str | None, typer.Option(help="Another name.", show_default=False)] = None,
    permissions: Annotated[
        str | None, typer.Option(help="PUBLIC, PRIVATE, PUBLISH_ONLY or SUBSCRIBE_ONLY.", show_default=False)
    ] = None,
    topic_settings: Annotated[
        str | None,
        typer.Option(
            "--settings",
            metavar="JSON",
            help='Only what changes, for instance {"presence":"none"}; null restores a default.',
            show_default=False,
        ),
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Changes a topic; what is not given stays as it is."""
    given: dict[str, Any] = {"name": name, "permissions": permissions}
    body = {member: value for member, value in given.items() if value is not None}
    if topic_settings is not None:
        body["settings"] = _object(topic_settings)
    if not body:
        raise WrongCommand("give --name, --permissions or --settings")
    with _client(context, url, token) as client:
        Output(as_json).raw(accepted(client.patch(topic_path(topic), msgspec.json.encode(body))), _details)
    return 0


@app.command()
def get(context: typer.Context, topic: TopicId, url: Url = None, token: Token = None, as_json: Json = False) -> int:
    """Shows one topic."""
    with _client(context, url, token) as client:
        Output(as_json).raw(accepted(client.get(topic_path(topic))), _details)
    return 0


@app.command("list")
def list_topics(
    context: typer.Context,
    prefix: Annotated[str | None, typer.Option(help="Only ids that begin with this.", show_default=False)] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Lists the topics the caller may see."""
    output = Output(as_json)
    with _client(context, url, token) as client:
        for topic in pages(client, "/api/v1/topics", "topics", {"prefix": prefix}):
            output.raw(topic, topic_line, flush=False)
    output.flush()
    return 0


@app.command()
def delete(context: typer.Context, topic: TopicId, url: Url = None, token: Token = None, as_json: Json = False) -> int:
    """Deletes a topic and ends its subscriptions."""
    with _client(context, url, token) as client:
        accepted(client.delete(topic_path(topic)))
    Output(as_json).item({"topic_id": topic, "deleted": True}, lambda _: fields((topic, "bold"), ("deleted", "red")))
    return 0


@app.command()
def stats(context: typer.Context, topic: TopicId, url: Url = None, token: Token = None, as_json: Json = False) -> int:
    """Shows what happened to a topic's messages: published, delivered, waiting, refused."""
    with _client(context, url, token) as client:
        Output(as_json).raw(accepted(client.get(topic_path(topic, "/stats"))), _details)
    return 0


@app.command()
def flush(context: typer.Context, topic: TopicId, url: Url = None, token: Token = None, as_json: Json = False) -> int:
    """Delivers at once what the topic's strategy holds; for its admins."""
    with _client(context, url, token) as client:
        Output(as_json).raw(accepted(client.post(topic_path(topic, "/flush"), b"")), _details)
    return 0


def _client(context: typer.Context, url: str | None, token: str | None) -> Client:
    return Client.of(of(context).settings({"client.url": url, "client.token": token}))


def _object(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise WrongCommand(f"--settings is not a JSON object: {error}") from None


def topic_line(topic: dict[str, Any]) -> Text:
    """Returns a topic as a line for a person."""
    name = topic.get("name")
    return fields(
        (topic.get("topic_id"), "bold"),
        (None if name == topic.get("topic_id") else name, ""),
        (topic.get("permissions"), "cyan"),
        (f"{topic['seq']} messages" if "seq" in topic else None, ""),
        (topic.get("created_at"), "dim"),
    )


def _details(topic: dict[str, Any]) -> Text:
    width = max(map(len, topic), default=0)
    lines = [Text.assemble((f"{harmless(name):<{width}}  ", "dim"), _value(value)) for name, value in topic.items()]
    return Text("\n").join(lines)


def _value(value: Any) -> str:
    return harmless(value if isinstance(value, str) else msgspec.json.encode(value).decode())
