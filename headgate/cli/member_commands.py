"""`headgate members`: lists, adds and removes the members of a topic, over HTTP."""

from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
import typer
from rich.text import Text

from headgate.cli.client import Client, accepted, topic_path
from headgate.cli.invocation import Json, Token, Url, needs_command, of
from headgate.cli.output import Output, fields
from headgate.cli.paging import pages
from headgate.cli.topics import TopicId

app = typer.Typer(help="Lists, adds and removes the members of a topic.")
app.callback(invoke_without_command=True)(needs_command)

User = Annotated[str, typer.Argument(metavar="USER", help="The user's id, as in the claim sub of a token.")]
_ROLE_HELP: Final = "owner, admin, member, publisher or subscriber."


@app.command("list")
def list_members(
    context: typer.Context, topic: TopicId, url: Url = None, token: Token = None, as_json: Json = False
) -> int:
    """Lists the members of a topic, by user id; for its admins."""
    output = Output(as_json)
    with _client(context, url, token) as client:
        for member in pages(client, topic_path(topic, "/members"), "members"):
            output.raw(member, _line, flush=False)
    output.flush()
    return 0


@app.command()
def add(
    context: typer.Context,
    *,
    topic: TopicId,
    user: User,
    role: Annotated[str | None, typer.Option(help=_ROLE_HELP, show_default="member")] = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Makes a user a member of a topic, or gives a member another role."""
    body: dict[str, Any] = {} if role is None else {"role": role}
    with _client(context, url, token) as client:
        Output(as_json).raw(accepted(client.put(_path(topic, user), msgspec.json.encode(body))), _line)
    return 0


@app.command()
def remove(
    context: typer.Context, topic: TopicId, user: User, url: Url = None, token: Token = None, as_json: Json = False
) -> int:
    """Removes a user from a topic; the user's subscriptions to it end."""
    with _client(context, url, token) as client:
        accepted(client.delete(_path(topic, user)))
    done = {"topic_id": topic, "user_id": user, "removed": True}
    Output(as_json).item(done, lambda _: fields((user, "bold"), ("removed", "red")))
    return 0


def _path(topic_id: str, user_id: str) -> str:
    return topic_path(topic_id, f"/members/{quote(user_id, safe='')}")


def _client(context: typer.Context, url: str | None, token: str | None) -> Client:
    return Client.of(of(context).settings({"client.url": url, "client.token": token}))


def _line(member: dict[str, Any]) -> Text:
    return fields(
        (member.get("user_id"), "bold"),
        (member.get("role"), "cyan"),
        (f"joined at seq {member['joined_seq']}" if "joined_seq" in member else None, ""),
        (member.get("joined_at"), "dim"),
    )
