"""The publisher's JSON as text: checked and compacted, never parsed into objects.

It is carried as it was written, without the whitespace between tokens: member order, number spelling, integers of any
size, duplicate members and lone surrogate escapes stay (docs/protocol.md, section 0).
"""

import re
from typing import Final

import msgspec

MAX_DEPTH: Final = 64

# Strings are one token (possessive: linear on any input), so that brackets in them are not counted.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},]', re.DOTALL)
_STRING: Final = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")(:?)', re.DOTALL)
_MEMBER: Final = re.compile(rb'[ \t\r\n]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")[ \t\r\n]*+:[ \t\r\n]*+(.*)', re.DOTALL)
_PAIR_OR_LONE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)

_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b'[]{}"'))
_ALL_SQUARE: Final = bytes.maketrans(b"{}", b"[]")

# In hidden text these bytes replace `\\`, `\ud` and `\uD`: no UTF-8 has them.
_HIDDEN: Final = ((b"\\\\", b"\xf8"), (b"\\ud", b"\xf9"), (b"\\uD", b"\xfa"))
_NO_ESCAPE: Final = re.compile(rb"[\xf9\xfa](?![0-9a-fA-F]{3})")


def read_foreign(value: bytes, max_bytes: int) -> bytes:
    """Returns the compacted JSON of a value from outside.

    Raises ValueError whose only argument is the reason: `not_utf8`, `not_json`, `too_deep`, or `too_large` when the
    compacted text has more than `max_bytes` bytes.
    """
    text = compact(value)
    check_utf8(text)
    check_depth(text)
    if len(text) > max_bytes:
        raise ValueError("too_large")
    return text


def check_utf8(raw: bytes) -> None:
    """Raises ValueError `not_utf8`. msgspec does not check the bytes of strings that it skips or copies."""
    if raw.isascii():
        return
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise ValueError("not_utf8") from None


def compact(raw: bytes) -> bytes:
    """Returns JSON text without the whitespace between tokens.

    Raises ValueError: `not_utf8`, `not_json`, or `too_deep` where the parser would recurse too deep. The result may
    still hold strings that are not UTF-8.
    """
    try:
        return msgspec.json.format(raw, indent=-1)
    except RecursionError:
        raise ValueError("too_deep") from None
    except msgspec.DecodeError:
        check_utf8(raw)
        return _compact_lone(raw)


def check_depth(text: bytes, limit: int = MAX_DEPTH) -> None:
    """Raises ValueError `too_deep` when arrays and objects are nested more than `limit` deep in this JSON text.

    Only brackets outside strings are kept. Depth is the highest peak of their rise and fall, and stays so when a
    valley (`n` closing, then `n` opening ones) is cut out: each pass cuts out every valley, and so halves the peaks.
    """
    if text.count(b"[") + text.count(b"{") <= limit:
        return
    brackets = _brackets(text)
    while b"][" in brackets:
        if b"[" * (limit + 1) in brackets or b"]" * (limit + 1) in brackets:
            raise ValueError("too_deep")
        width = 1 << limit.bit_length()
        while width:
            brackets = brackets.replace(b"]" * width + b"[" * width, b"")
            width //= 2
    if brackets.count(b"[") > limit:
        raise ValueError("too_deep")


def hide_escapes(text: bytes) -> bytes:
    """Returns UTF-8 JSON text in which surrogate escapes, paired or lone, do not look like escapes to a parser.

    msgspec refuses JSON with a lone one; hidden, it reads it at its own speed. `show_escapes` undoes it, on any part of
    the text too. Raises ValueError `not_json` for half an escape.
    """
    for written, hidden in _HIDDEN:
        text = text.replace(written, hidden)
    if _NO_ESCAPE.search(text) is not None:
        raise ValueError("not_json")
    return text


def show_escapes(text: bytes) -> bytes:
    """Returns hidden text as it was written."""
    for written, hidden in _HIDDEN:
        text = text.replace(hidden, written)
    return text


def without_lone(raw: bytes) -> bytes:
    """Returns the text with each lone surrogate escape replaced by one of the same length that every parser takes."""
    return _PAIR_OR_LONE.sub(lambda m: b"\\u0041" if m[1] else m[0], raw)


def infinite_lone(text: bytes) -> bytes:
    """Returns compacted JSON text with a number above all floats for each string value with a lone surrogate escape.

    A name with one gets other escapes.
    """
    return _STRING.sub(_infinite_if_lone, text) if b"\\u" in text else text


def parts(text: bytes) -> list[bytes]:
    """Returns the texts between the brackets and commas of the outermost array or object of valid JSON text."""
    found: list[bytes] = []
    depth, begin = 0, 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in b"[{":
            depth += 1
            begin = match.end() if depth == 1 else begin
        elif token in b"]}":
            depth -= 1
        if (depth == 1 and token == b",") or (depth == 0 and token in b"]}"):
            found.append(text[begin : match.start()].strip(b" \t\r\n"))
            begin = match.end()
    return [] if found == [b""] else found


def members(text: bytes) -> dict[str, bytes]:
    """Returns the members of the outermost object of valid JSON text as text; of a repeated name the last."""
    found: dict[str, bytes] = {}
    for part in parts(text):
        match = _MEMBER.fullmatch(part)
        if match is not None:
            found[msgspec.json.decode(without_lone(match[1]), type=str)] = match[2].rstrip(b" \t\r\n")
    return found


def _infinite_if_lone(string: re.Match[bytes]) -> bytes:
    written, colon = string[1], string[2]
    if b"\\" not in written or (whole := without_lone(written)) == written:
        return string[0]
    return whole + colon if colon else b"1e999"


def _brackets(text: bytes) -> bytes:
    """Returns the brackets outside strings, all of them as square ones."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    text = text.translate(_ALL_SQUARE, _NOT_BRACKETS)
    # Where one string ends as the next begins, they count as one: what is inside and outside does not change.
    text = text.replace(b'""', b"")
    return b"".join(text.split(b'"')[::2]) if b'"' in text else text


def _compact_lone(raw: bytes) -> bytes:
    """Compacts text that msgspec refuses: it may be JSON with a lone surrogate escape."""
    hidden = hide_escapes(raw)
    if hidden == raw:
        raise ValueError("not_json")
    try:
        return show_escapes(msgspec.json.format(hidden, indent=-1))
    except RecursionError:
        raise ValueError("too_deep") from None
    except msgspec.DecodeError:
        raise ValueError("not_json") from None
