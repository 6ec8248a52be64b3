"""The `headgate` command: its subcommands, and an exit status and one line for every outcome."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Final

import typer

from headgate.cli import dead_letter_commands, inbox_commands, member_commands, message_commands, topics
from headgate.cli.backup_commands import backup, restore
from headgate.cli.config import config
from headgate.cli.connection_list import connections
from headgate.cli.demo import demo as demonstrations
from headgate.cli.direct import direct
from headgate.cli.doctor import doctor
from headgate.cli.event_watch import events
from headgate.cli.history import history
from headgate.cli.invocation import (
    CommandFailed,
    Invocation,
    StreamUrl,
    Token,
    Url,
    WrongCommand,
    nearest_flag,
    needs_command,
    of,
    reason_of,
    split_settings,
)
from headgate.cli.output import ReaderGone, let_go, note, say, writing
from headgate.cli.presence_list import presence
from headgate.cli.publish import publish
from headgate.cli.recover_command import recover
from headgate.cli.subscribe import subscribe
from headgate.cli.ticket import ticket
from headgate.cli.token import app as token
from headgate.cli.top_list import top
from headgate.core.wire.errors import HeadgateError
from headgate.runtime.settings import Role, Settings, SettingsError, resolve
from headgate.runtime.sockets import ANY

SERVERS: Final = "Servers"
CLIENTS: Final = "Commands that talk to a server"
OTHERS: Final = "Others"
_MODULES: Final[dict[Role, str]] = {  # that run a role
    "canary": "headgate.cli.canary",
    "gateway": "headgate.cli.gateway_workers",
}
EPILOG: Final = """To begin, in three terminals:
  headgate dev
  headgate subscribe hello
  headgate publish hello '{"text":"hi"}'

Every setting can be given as a flag (--group.name VALUE), a variable (HEADGATE_GROUP__NAME) or in a TOML file \
(--config FILE); headgate config lists them.

Exit status: 0 done, 1 the operation failed, 2 the command was wrong, 130 ended by Ctrl-C."""
SERVER_EPILOG: Final = "Every setting is a flag too, for instance --admin.port 9091; headgate config lists them."

app = typer.Typer(
    name="headgate",
    help="Brings Kafka's events to people: HTTP publish, ordered durable topics, WebSocket and SSE fan-out.",
    epilog=EPILOG,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _port(default: int) -> Any:
    return typer.Option("--port", metavar="N", help=f"The port to listen on, else {default}.", show_default=False)


def _host(default: str) -> Any:
    return typer.Option("--host", metavar="HOST", help=f"The address to listen on, else {default}.", show_default=False)


def _data(what: str) -> Any:
    return typer.Option("--data", metavar="DIR", help=what, show_default=False)


def main(argv: list[str] | None = None) -> int:
    """Runs one command line. Returns the exit status."""
    try:
        invocation, rest = split_settings(sys.argv[1:] if argv is None else argv)
        status = _obey(invocation, rest)
        _flush()
        return status
    except ReaderGone:
        return 0
    except BrokenPipeError:
        let_go()
        return 0
    except (SettingsError, WrongCommand) as error:
        return _fail(str(error), 2)
    except typer.TyperException as error:
        return _fail(_usage(error), error.exit_code)
    except HeadgateError as error:
        return _fail(str(error), 1)
    except typer.Abort:
        return 130


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if show:
        try:
            number = version("headgate")
        except PackageNotFoundError:
            number = "from a source tree"
        say(f"headgate {number}")
        raise typer.Exit
    needs_command(context)


@app.command(rich_help_panel=SERVERS, epilog=SERVER_EPILOG)
def dev(
    context: typer.Context,
    port: Annotated[str | None, _port(8080)] = None,
    host: Annotated[str | None, _host("127.0.0.1")] = None,
    data: Annotated[
        str | None, _data("The folder for all data. Without it and without log.url, all is lost at the end.")
    ] = None,
    demo_chat: Annotated[bool, typer.Option("--demo", help="Serve the example chat at /, for browsers.")] = False,
) -> int:
    """Runs everything in one process, on one port and without Kafka: the way to begin."""
    demo = "true" if demo_chat else None
    return _run(context, "dev", {"dev.port": port, "dev.host": host, "dev.data": data, "dev.demo": demo})


@app.command(rich_help_panel=SERVERS, epilog=SERVER_EPILOG)
def ingest(
    context: typer.Context,
    port: Annotated[str | None, _port(8080)] = None,
    host: Annotated[str | None, _host(ANY)] = None,
) -> int:
    """Runs the HTTP side: publish, topics, history. Needs --log.url kafka://HOST:PORT."""
    return _run(context, "ingest", {"ingest.port": port, "ingest.host": host})


@app.command(rich_help_panel=SERVERS, epilog=SERVER_EPILOG)
def dispatcher(
    context: typer.Context,
    port: Annotated[str | None, _port(8090)] = None,
    host: Annotated[str | None, _host(ANY)] = None,
    data: Annotated[str | None, _data("The folder for index files, else ./headgate-data.")] = None,
) -> int:
    """Runs an owner of shards: numbers messages and sends them to gateways. Needs --log.url kafka://HOST:PORT."""
    return _run(context, "dispatcher", {"dispatcher.port": port, "dispatcher.host": host, "dispatcher.data": data})


@app.command(rich_help_panel=SERVERS, epilog=SERVER_EPILOG)
def gateway(
    context: typer.Context,
    port: Annotated[str | None, _port(8081)] = None,
    host: Annotated[str | None, _host(ANY)] = None,
    workers: Annotated[
        str | None,
        typer.Option(metavar="N", help="Processes that share the port: one for each core.", show_default=False),
    ] = None,
) -> int:
    """Runs the stream side: WebSocket and SSE. Needs --cluster.dispatchers HOST:PORT, and no Kafka."""
    return _run(context, "gateway", {"gateway.port": port, "gateway.host": host, "gateway.workers": workers})


@app.command(rich_help_panel=SERVERS, epilog=SERVER_EPILOG)
def init(context: typer.Context) -> int:
    """Creates the Kafka topics that the servers need, or says that they are there. Needs --log.url."""
    return _run(context, "init", {})


@app.command(rich_help_panel=OTHERS, epilog=SERVER_EPILOG)
def canary(context: typer.Context, url: Url = None, stream_url: StreamUrl = None, token: Token = None) -> int:
    """Publishes and follows its own topics all the time, and serves latency and loss as metrics. Signs its tokens
    with auth.secret where no token is given."""
    return _run(context, "canary", {"client.url": url, "client.stream_url": stream_url, "client.token": token})


app.command(rich_help_panel=CLIENTS)(publish)
app.command(rich_help_panel=CLIENTS)(subscribe)
app.command(rich_help_panel=CLIENTS)(history)
app.add_typer(topics.app, name="topics", rich_help_panel=CLIENTS)
app.add_typer(member_commands.app, name="members", rich_help_panel=CLIENTS)
app.add_typer(message_commands.app, name="messages", rich_help_panel=CLIENTS)
app.add_typer(inbox_commands.app, name="inbox", rich_help_panel=CLIENTS)
app.add_typer(dead_letter_commands.app, name="dead-letters", rich_help_panel=CLIENTS)
app.command(rich_help_panel=CLIENTS)(direct)
app.command(rich_help_panel=CLIENTS)(connections)
app.command(rich_help_panel=CLIENTS)(presence)
app.command(rich_help_panel=CLIENTS)(top)
app.command(rich_help_panel=CLIENTS)(events)
app.add_typer(token, name="token", rich_help_panel=OTHERS)
app.command(rich_help_panel=CLIENTS)(ticket)
app.command(rich_help_panel=OTHERS)(config)
app.command("demo", rich_help_panel=OTHERS)(demonstrations)
app.command(rich_help_panel=OTHERS)(doctor)
app.command(rich_help_panel=OTHERS)(backup)
app.command(rich_help_panel=OTHERS)(restore)
app.command(rich_help_panel=OTHERS)(recover)


def _flush() -> None:
    """Writes what is buffered. A role runs without standard output too."""
    with writing():
        if sys.stdout is not None:
            sys.stdout.flush()


def _obey(invocation: Invocation, rest: list[str]) -> int:
    try:
        return int(app(rest, prog_name="headgate", standalone_mode=False, obj=invocation) or 0)
    except UnicodeEncodeError as error:
        if error.encoding != "utf-8":  # of the output
            raise
        raise WrongCommand("an argument, or a variable, is not UTF-8") from None


def _run(context: typer.Context, role: Role, short: dict[str, str | None]) -> int:
    with _ended_by_sigterm():
        settings = resolve(of(context).settings(short), role)
        # Only a server imports a server's modules: a client command starts in half the time without them.
        from headgate.runtime.logging import configured  # noqa: PLC0415
        from headgate.runtime.logs.embedded import SettingsConflict  # noqa: PLC0415
        from headgate.runtime.tokens import BadAuthSettings  # noqa: PLC0415

        run: Callable[[Settings], int] = getattr(import_module(_MODULES.get(role, "headgate.cli.roles")), role)
        try:
            with configured(role=role):
                return run(settings)
        except (BadAuthSettings, SettingsConflict) as error:
            raise SettingsError(str(error)) from None
        except OSError as error:
            raise CommandFailed(reason_of(error)) from None


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM end the process while it imports: pid 1 has no default. Restores the earlier handler."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _usage(error: typer.TyperException) -> str:
    """Returns one line for a command that the parser refused."""
    context: typer.Context | None = getattr(error, "ctx", None)
    unknown: str | None = getattr(error, "option_name", None)
    path = "headgate" if context is None else context.command_path
    if type(error).__name__ == "NoSuchOption" and unknown is not None:
        own = [name for p in context.command.get_params(context) for name in p.opts] if context else []
        return f"{path}: unknown flag {unknown}; the nearest known one is {nearest_flag(unknown, own)}"
    return f"{path}: {' '.join(error.format_message().split())}"


def _fail(line: str, status: int) -> int:
    note(line)
    return status


if __name__ == "__main__":
    sys.exit(main())
