"""The tokens of pages: `next_page` of an answer, `page` of the next request."""

import base64
import binascii
from collections.abc import Callable

from headgate.core.wire.errors import Refusal


def write_page(last: str) -> str:
    """Returns the token of the page behind the id `last`."""
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")


def read_page(page: str | None, check: Callable[[str], str]) -> str:
    """Returns the id behind which a page begins, "" for the first. `check` returns a valid id or raises Refusal.

    Raises Refusal `bad_request`.
    """
    if page is None:
        return ""
    try:
        return check(base64.b64decode(page.encode() + b"=" * (-len(page) % 4), altchars=b"-_", validate=True).decode())
    except (binascii.Error, ValueError, Refusal):
        raise Refusal("bad_request", "page must be the next_page of an earlier answer") from None
