"""The reference of the command line, from the typer application."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import typer

from docs.site.markdown import table
from headgate.cli.main import EPILOG, app


def command_lines() -> str:
    """Returns a section a command: how it is called, what it does, its arguments and flags."""
    root = typer.main.get_command(app)
    panels: dict[str, list[str]] = {}
    for name, command in _commands(root, "headgate"):
        panels.setdefault(getattr(command, "rich_help_panel", None) or "", []).append(_section(name, command))
    parts = [f"## {panel or 'Others'}\n\n" + "\n".join(sections) for panel, sections in panels.items()]
    example, *paragraphs = EPILOG.split("\n\n")
    return "\n\n".join([f"```text\n{example}\n```", *paragraphs, "\n".join(parts)])


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            for inner, each in _commands(command, f"{path} {name}"):
                each.rich_help_panel = command.rich_help_panel
                yield inner, each
        else:
            yield f"{path} {name}", command


def _section(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    usage = " ".join([name, *(_usage(each) for each in arguments), *(["[FLAGS]"] if options else [])])
    text, _, examples = (command.help or "").partition("\n\n")
    parts = [f"### {name}", "", f"```text\n{usage}\n```", "", text, ""]
    if examples:
        parts += [f"```text\n{examples.strip()}\n```", ""]
    rows = [(f"`{_spelling(each)}`", _meaning(each)) for each in command.params]
    if rows:
        parts.append(table(("argument or flag", "meaning"), rows))
    return "\n".join(parts)


def _usage(argument: Any) -> str:
    text = f"{argument.metavar or argument.name.upper()}{'...' if argument.nargs == -1 else ''}"
    return text if argument.required else f"[{text}]"


def _meaning(parameter: Any) -> str:
    required = parameter.required and parameter.param_type_name == "option"
    return (parameter.help or "") + (" Required." if required else "")


def _spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    metavar = "" if parameter.is_flag else f" {parameter.metavar or _kind(parameter)}"
    return ", ".join(parameter.opts) + metavar


def _kind(parameter: Any) -> str:
    annotation = parameter.type_descriptor.annotation
    return "|".join(get_args(annotation)) if get_origin(annotation) is Literal else "TEXT"
