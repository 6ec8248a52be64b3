"""Cuts the body of a batch into its items, each as it is written, and stops at the limit. Reads none of them."""

import re
from functools import cache
from typing import Final

import msgspec

from headgate.core.publish.body import what_is_wrong
from headgate.core.wire.errors import Refusal
from headgate.core.wire.payload import check_utf8, hide_escapes, show_escapes

_LINE: Final = re.compile(rb"[^ \t\r\n][^\n]*")
_NONE: Final = msgspec.Raw(b"")
_BLANK: Final = b" \t\r"


def cut_array(body: bytes, limit: int) -> list[bytes]:
    """Returns the elements of a JSON array.

    Raises Refusal: `bad_request` unless it is a JSON array, `too_large` for more than `limit` elements.
    """
    try:
        check_utf8(body)
    except ValueError:
        raise Refusal("bad_request", what_is_wrong(body, "not_utf8")) from None
    try:
        return _elements(body, limit)
    except RecursionError:
        raise Refusal("bad_request", what_is_wrong(body, "too_deep")) from None
    except msgspec.DecodeError:
        return _cut_lone(body, limit)


def cut_lines(body: bytes, limit: int) -> list[bytes]:
    """Returns the lines of NDJSON without the blank ones. Raises Refusal `too_large` for more than `limit`."""
    found: list[bytes] = []
    for line in _LINE.finditer(body):
        if len(found) == limit:
            raise _too_many(limit)
        found.append(line[0].rstrip(_BLANK))
    return found


def _elements(text: bytes, limit: int) -> list[bytes]:
    try:
        cut = msgspec.structs.astuple(_cutter(limit).decode(text))
    except msgspec.ValidationError:
        raise Refusal("bad_request", "a batch is a JSON array of objects") from None
    if cut[limit] is not _NONE:
        raise _too_many(limit)
    return [bytes(element) for element in cut[: cut.index(_NONE)]]


def _cut_lone(body: bytes, limit: int) -> list[bytes]:
    """Cuts an array that msgspec refuses: it may be JSON with a lone surrogate escape."""
    why = "not_json"
    try:
        hidden = hide_escapes(body)
        if hidden != body:
            return [show_escapes(element) for element in _elements(hidden, limit)]
    except RecursionError:
        why = "too_deep"
    except ValueError:  # msgspec's DecodeError too
        pass
    raise Refusal("bad_request", what_is_wrong(body, why))


@cache
def _cutter(limit: int) -> msgspec.json.Decoder[msgspec.Struct]:
    """Returns a decoder of an array's first `limit`+1 elements, as text; it only skips over the elements behind."""
    fields = [(f"at_{at}", msgspec.Raw, _NONE) for at in range(limit + 1)]
    return msgspec.json.Decoder(msgspec.defstruct("Elements", fields, array_like=True))


def _too_many(limit: int) -> Refusal:
    return Refusal("too_large", f"a batch of more than {limit} items; at most {limit} are taken")
