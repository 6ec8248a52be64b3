"""One call of the command: the settings given with it and how it ends."""

import contextlib
import os
import sys
from dataclasses import dataclass, field
from typing import Annotated, Final

import typer

from headgate.core.wire.errors import HeadgateError
from headgate.runtime.settings import NAMES, SECRET_FILES, Settings, SettingsError, load, nearest

CONFIG_FLAG: Final = "--config"
_FLAGS: Final = [f"--{name}" for name in (*NAMES, *SECRET_FILES)]

Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="The server, else client.url (http://127.0.0.1:8080).", show_default=False
    ),
]
StreamUrl = Annotated[
    str | None,
    typer.Option("--stream-url", metavar="URL", help="The gateway, where it is not at --url.", show_default=False),
]
Token = Annotated[
    str | None, typer.Option("--token", metavar="JWT", help="The bearer token, else client.token.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, as always when piped.")]


class CommandFailed(HeadgateError):
    """The operation failed: one line for a person, exit status 1."""


class WrongCommand(HeadgateError):
    """The command was wrong: one line for a person, exit status 2."""


@dataclass(frozen=True)
class Invocation:
    """The part of the command line besides the command: `--group.name VALUE` and `--config FILE`."""

    flags: dict[str, str] = field(default_factory=dict)
    config_path: str | None = None

    def settings(self, short: dict[str, str | None] | None = None) -> Settings:
        """Loads the settings; `short` are a command's own flags by the setting they stand for. Raises SettingsError."""
        flags = dict(self.flags)
        for name, value in (short or {}).items():
            if value is not None and name in flags:
                raise SettingsError(f"--{name} is given twice, once in its short form")
            if value is not None:
                flags[name] = value
        return load(flags, self.config_path, os.environ)


def of(context: typer.Context) -> Invocation:
    """Returns the invocation a command runs in."""
    found = context.find_root().obj
    assert isinstance(found, Invocation)
    return found


def reason_of(error: OSError) -> str:
    """Returns what a person needs of it: the file that it is about, if any, and what is wrong."""
    what = error.strerror or str(error)
    return what if error.filename is None else f"{error.filename}: {what}"


def needs_command(context: typer.Context) -> None:
    """The callback of a group: without one of its commands the usage goes to standard error, exit status 2."""
    if context.invoked_subcommand is None:
        with contextlib.redirect_stdout(sys.stderr):  # the only way to have Typer write it there
            context.get_help()
        raise typer.Exit(2)


def split_settings(argv: list[str]) -> tuple[Invocation, list[str]]:
    """Takes the settings and `--config` out of a command line, wherever they stand before `--`.

    Raises SettingsError for one without a value; whether a name is known is decided when the settings are loaded.
    """
    flags: dict[str, str] = {}
    config: str | None = None
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            rest += [word, *words]
            break
        name, equals, value = word.partition("=")
        if name != CONFIG_FLAG and not (name.startswith("--") and "." in name):
            rest.append(word)
            continue
        text = value if equals else next(words, None)
        if text is None:
            raise SettingsError(_without_value(name))
        if name == CONFIG_FLAG:
            config = text
        else:
            flags[name.removeprefix("--")] = text
    return Invocation(flags, config), rest


def nearest_flag(name: str, own: list[str]) -> str:
    """Returns the flag that is most like a wrong one: one of the command's own, or a setting."""
    return nearest(name, [*own, *_FLAGS, CONFIG_FLAG])


def _without_value(name: str) -> str:
    if name == CONFIG_FLAG or name in _FLAGS:
        return f"{name} needs a value"
    return f"unknown setting {name}; the nearest known one is {nearest_flag(name, [])}"
