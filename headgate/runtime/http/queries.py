"""The query string of a request: its fields, bounded before they are parsed, and the values they may have."""

from typing import Final
from urllib.parse import parse_qsl

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import MAX_INTEGER
from headgate.runtime.http.request_text import NOT_UTF8

MAX_FIELDS: Final = 2_048  # docs/protocol.md, section 3
DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1_000

Query = dict[str, str]


def fields_of(raw: bytes) -> tuple[list[tuple[str, str]], bool]:
    """Returns the first MAX_FIELDS fields in order, and whether these are all. A NUL stands for what is no UTF-8."""
    is_whole = raw.count(b"&") < MAX_FIELDS
    if not is_whole:
        raw = b"&".join(raw.split(b"&", MAX_FIELDS)[:-1])
    text = raw.decode("latin-1")
    if b"%" in raw or b"+" in raw:
        return parse_qsl(text, keep_blank_values=True, errors=NOT_UTF8), is_whole
    # The same in a third of the time: the name and the value, without the sign between them.
    return [pair.partition("=")[::2] for pair in text.split("&") if pair], is_whole


def read_query(raw: bytes) -> Query:
    """Returns the fields by name; of a repeated name the last counts. Raises Refusal `bad_request` for too many."""
    if not raw:
        return {}
    fields, is_whole = fields_of(raw)
    if not is_whole:
        raise too_many_fields()
    return dict(fields)


def too_many_fields() -> Refusal:
    """Returns the refusal of a query string with more than MAX_FIELDS fields."""
    return Refusal("bad_request", f"the query string has more than {MAX_FIELDS} fields")


def integer(query: Query, name: str, default: int, low: int = 0, high: int = MAX_INTEGER) -> int:
    """Returns an integer of the query string. Raises Refusal `bad_request`."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and low <= int(text) <= high):
        raise Refusal("bad_request", f"{name} must be an integer from {low} to {high}")
    return int(text)


def page_limit(query: Query) -> int:
    """Returns the query's `limit`: 1 to 1,000. Raises Refusal `bad_request`."""
    return integer(query, "limit", DEFAULT_PAGE, 1, MAX_PAGE)
