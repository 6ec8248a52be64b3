"""`headgate subscribe`: prints the messages of topics as they come, over lost connections and restarts."""

from typing import Annotated, Final

import typer

from headgate.cli.invocation import Json, StreamUrl, Token, Url, WrongCommand, of
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import PRINTABLE_ASCII, check_topic_id
from headgate.core.wire.position import from_query

FORMS: Final = "live, earliest, cursor, EPOCH:SEQ, seq:N, ts:MS or last:N"


def subscribe(
    context: typer.Context,
    *,
    topics: Annotated[list[str], typer.Argument(metavar="TOPIC", help="The topics' ids.")],
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="FORM", help=f"Where to begin: {FORMS}.  [default: live; cursor with --ack]"),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after so many messages.", show_default=False)
    ] = None,
    frames: Annotated[bool, typer.Option("--frames", help="Print every frame, not only messages.")] = False,
    presence: Annotated[
        bool, typer.Option("--presence", help="Print who is there and who comes and goes, beside the messages.")
    ] = False,
    ack: Annotated[bool, typer.Option("--ack", help="Acknowledge what was printed; what was not comes again.")] = False,
    device: Annotated[
        str | None, typer.Option("--device", metavar="ID", help="Whose cursor it is.", show_default=False)
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Share the messages in this consumer group; with --ack.", show_default=False),
    ] = None,
    url: Url = None,
    stream_url: StreamUrl = None,
    token: Token = None,
    as_json: Json = False,
) -> int:
    """Prints messages as they come, and goes on where it was after a lost connection. Ctrl-C ends it."""
    short = {"client.url": url, "client.stream_url": stream_url, "client.token": token}
    settings = of(context).settings(short)
    if device is not None and PRINTABLE_ASCII.fullmatch(device) is None:
        raise WrongCommand("--device is 1 to 128 printable ASCII characters")
    if group is not None and (PRINTABLE_ASCII.fullmatch(group) is None or not ack):
        raise WrongCommand("--group is 1 to 128 printable ASCII characters, and needs --ack")
    start = start or ("cursor" if ack else "live")
    try:
        if start != "cursor":
            from_query(start)
        wanted = list(dict.fromkeys(map(check_topic_id, topics)))
    except Refusal as error:
        known = "" if error.code != "bad_request" else f"--from {start} is none of {FORMS}"
        raise WrongCommand(known or error.detail) from None
    from headgate.cli.following import Follower, Wish, run  # noqa: PLC0415  the client costs every other command 0.2 s

    wish = Wish(start, presence=presence, ack=ack, device=device, group=group)
    return run(Follower(settings, as_json=as_json, frames=frames, count=count), wanted, wish)
