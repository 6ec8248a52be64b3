"""The reference of settings, from the model: names, types, defaults, and the sentence below each field.

The sentences are read from the source, so that a running server does not carry them.
"""

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin

import annotated_types
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from headgate.runtime.settings import ENV_PREFIX
from headgate.runtime.settings_model import Model

_WORDS: Final = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
_MIB: Final = 1024 * 1024


class Setting(NamedTuple):
    """One setting as the page shows it."""

    name: str
    type: str
    default: str
    variable: str
    meaning: str


def setting_sections() -> str:
    """Returns one section a setting, under one a group."""
    parts = []
    for group, field in Model.model_fields.items():
        model = field.annotation
        assert inspect.isclass(model)
        assert issubclass(model, BaseModel)
        parts.append(f"## {group}\n\n{inspect.getdoc(model)}\n")
        parts += [_section(each) for each in settings_of(model, f"{group}.")]
    return "\n".join(parts)


def _section(setting: Setting) -> str:
    return (
        f"### {setting.name}\n\n{setting.meaning}\n\n"
        f"Type: {setting.type}. Default: {setting.default}. Variable: `{setting.variable}`\n"
    )


def settings_of(model: type[BaseModel] = Model, prefix: str = "") -> Iterator[Setting]:
    """Yields every setting below a group, in the order of the model."""
    meanings = _meanings(model)
    for name, field in model.model_fields.items():
        kind = field.annotation
        if inspect.isclass(kind) and issubclass(kind, BaseModel):
            yield from settings_of(kind, f"{prefix}{name}.")
            continue
        full = prefix + name
        variable = ENV_PREFIX + full.upper().replace(".", "__")
        yield Setting(full, _type(kind, field), _default(field.default), variable, meanings.get(name, ""))


@cache
def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Returns the string below each field of a group."""
    (node,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(node, ast.ClassDef)
    return dict(_below(node))


def _below(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for before, after in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            yield before.target.id, " ".join(str(after.value.value).split())


def _type(kind: Any, field: FieldInfo) -> str:
    plain, bounds = _plain(kind, list(field.metadata))
    if get_origin(plain) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(plain))
    if get_origin(plain) is tuple:
        return "list, with commas"
    if plain is SecretStr:
        return "secret"
    return " ".join([_WORDS[plain], *bounds])


def _plain(kind: Any, metadata: list[Any]) -> tuple[Any, list[str]]:
    """Returns the type without `None` and annotations, and its bounds in words."""
    inner = [each for each in get_args(kind) if each is not type(None)]
    if type(None) in get_args(kind):
        kind = inner[0]
    if hasattr(kind, "__metadata__"):
        metadata += [each for found in kind.__metadata__ for each in getattr(found, "metadata", [found])]
        kind = kind.__origin__
    words = {annotated_types.Ge: "from {}", annotated_types.Gt: "above {}", annotated_types.Le: "to {}"}
    bounds = [
        text.format(_number(_number_of(each)))
        for each in metadata
        for known, text in words.items()
        if isinstance(each, known)
    ]
    return kind, bounds


def _number_of(bound: Any) -> float:
    """Returns the number of a bound."""
    (value,) = (getattr(bound, name) for name in bound.__slots__)
    return float(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else str(value)


def _default(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    if isinstance(value, int) and value >= _MIB and value % _MIB == 0:
        return f"`{value}` ({value // _MIB:,} MiB)"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
