"""JSON texts as a hostile publisher writes them, and a slow reader of them: the standard library's, character by
character."""

import json
from typing import Any

from hypothesis import strategies as st

_FRAGMENTS = (
    *("a", "é", "😀", " ", "[", "]", "{", "}", ",", ":", "\\\\", '\\"', "\\/", "\\n", "\\u0041", "\\uD7ff", "\\ud7FF"),
    *("\\ud800", "\\uDBff", "\\udc00", "\\uDFFF", "\\ud83d\\ude00", "\\\\ud800", "\\\\\\ud800", "ud800", "\\ue000"),
)
_BAD = ("\\ud8", "\\uDzzz", "\\x", "\\", "\n", "\x00", '"', "\\u", "\\ud80")
STRINGS = st.lists(st.sampled_from(_FRAGMENTS), max_size=6).map(lambda parts: '"' + "".join(parts) + '"')
BAD_STRINGS = st.lists(st.sampled_from(_FRAGMENTS + _BAD), max_size=4).map(lambda parts: '"' + "".join(parts) + '"')
_SCALARS = st.sampled_from(("0", "-0.0", "1E+05", "1e999", "12345678901234567890123", "true", "false", "null"))


def _containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    objects = st.lists(st.tuples(STRINGS, inner), max_size=4)
    return st.lists(inner, max_size=4).map(lambda items: "[" + ",".join(items) + "]") | objects.map(
        lambda pairs: "{" + ",".join(f"{name}:{value}" for name, value in pairs) + "}"
    )


VALUES = st.recursive(_SCALARS | STRINGS, _containers, max_leaves=12)


def spaced(text: str, chance: Any) -> str:
    """Returns the text with whitespace put between its tokens, as `chance` (random.Random) has it."""
    found = []
    for char, is_inside in _characters(text):
        found.append(char)
        if not is_inside and char in '[]{},:"':
            found.append(chance.choice(("", "", " ", "\n\t", "\r")))
    return "".join(found)


def compacted(text: str) -> str:
    """Returns valid JSON text without the whitespace between tokens."""
    return "".join(char for char, is_inside in _characters(text) if is_inside or char not in " \t\r\n")


def depth_of(text: str) -> int:
    """Returns how deep valid JSON text is nested."""
    deepest = depth = 0
    for char, is_inside in _characters(text):
        if not is_inside:
            depth += (char in "[{") - (char in "]}")
            deepest = max(deepest, depth)
    return deepest


def is_json(raw: bytes) -> bool:
    """Says whether these bytes are UTF-8 JSON."""
    try:
        json.loads(raw.decode(), parse_constant=_no_constant)
    except ValueError:
        return False
    return True


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _characters(text: str) -> list[tuple[str, bool]]:
    """Returns each character, and whether it is inside a string (its opening quote is, the closing one is not)."""
    found: list[tuple[str, bool]] = []
    is_inside = is_escaped = False
    for char in text:
        if is_inside and not is_escaped and char == '"':
            is_inside = False
        elif not is_inside and char == '"':
            is_inside = True
        is_escaped = is_inside and char == "\\" and not is_escaped
        found.append((char, is_inside))
    return found
