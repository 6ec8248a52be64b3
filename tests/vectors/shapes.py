"""What an answer or a frame must look like: compares JSON with a shape; knows neither HTTP nor sockets.

A shape is JSON. Objects may have more members than the shape names, unless it holds `"<exact>": true`. A text in angle
brackets stands for a kind of value (`KINDS`), `"<absent>"` for a member that is not there, `"<has:x>"` for a text that
holds x, `"<max:n>"` for a text of 1 to n characters; `["<each>", shape]` for any number of equal shape.
"""

import re
import time
from collections.abc import Callable
from typing import Any, Final

Shape = Any
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_DAY_MS: Final = 86_400_000


def _is_int(value: Any) -> bool:
    return type(value) is int


def _is_now(value: Any) -> bool:
    return _is_int(value) and abs(value - time.time() * 1_000) < _DAY_MS


KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    "<any>": lambda value: True,
    "<bool>": lambda value: isinstance(value, bool),
    "<epoch>": lambda value: _is_int(value) and 1 <= value < 1 << 53,
    "<int>": _is_int,
    "<list>": lambda value: isinstance(value, list),
    "<ms>": _is_now,
    "<number>": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "<object>": lambda value: isinstance(value, dict),
    "<rfc3339>": lambda value: isinstance(value, str) and _RFC3339.fullmatch(value) is not None,
    "<string>": lambda value: isinstance(value, str) and value != "",
    "<uuid>": lambda value: isinstance(value, str) and _UUID.fullmatch(value) is not None,
}


def differences(got: Any, shape: Shape, where: str = "") -> list[str]:
    """Returns one sentence for each place where `got` does not have the shape."""
    if isinstance(shape, dict):
        return _of_object(got, shape, where)
    if isinstance(shape, list):
        return _of_list(got, shape, where)
    if isinstance(shape, str) and shape.startswith("<") and shape.endswith(">"):
        return [] if _is_kind(got, shape) else [f"{where}: {got!r} is not {shape}"]
    same = type(got) is type(shape) and got == shape
    return [] if same else [f"{where}: {got!r} is not {shape!r}"]


def _is_kind(got: Any, shape: str) -> bool:
    kind, _, argument = shape[1:-1].partition(":")
    if kind == "has":
        return isinstance(got, str) and argument in got
    if kind == "max":
        return isinstance(got, str) and 1 <= len(got) <= int(argument)
    return KINDS[shape](got)


def _of_object(got: Any, shape: dict[str, Shape], where: str) -> list[str]:
    if not isinstance(got, dict):
        return [f"{where}: {got!r} is not an object"]
    found: list[str] = []
    for name, inner in shape.items():
        if name == "<exact>":
            found += [f"{where}.{more}: a member too many" for more in got.keys() - shape.keys()]
        elif inner == "<absent>":
            found += [f"{where}.{name}: is there"] if name in got else []
        elif name not in got:
            found.append(f"{where}.{name}: is missing")
        else:
            found += differences(got[name], inner, f"{where}.{name}")
    return found


def _of_list(got: Any, shape: list[Shape], where: str) -> list[str]:
    if not isinstance(got, list):
        return [f"{where}: {got!r} is not a list"]
    if shape[:1] == ["<each>"]:
        shape = [shape[1]] * len(got)
    if len(got) != len(shape):
        return [f"{where}: {len(got)} items instead of {len(shape)}: {str(got)[:500]}"]
    return [
        line
        for at, (item, inner) in enumerate(zip(got, shape, strict=True))
        for line in differences(item, inner, f"{where}[{at}]")
    ]
