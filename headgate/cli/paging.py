"""The items of a list that the server gives page by page."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from headgate.cli.client import Client, accepted

PAGE: Final = 1_000


def pages(client: Client, path: str, member: str, query: dict[str, Any] | None = None) -> Iterator[bytes]:
    """Yields the JSON of each item of the answers' `member`. Raises CommandFailed and Unreachable."""
    page: str | None = None
    while True:
        answer = accepted(client.get(path, {**(query or {}), "limit": PAGE, "page": page}))
        found = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
        yield from map(bytes, msgspec.json.decode(found[member], type=list[msgspec.Raw]))
        page = msgspec.json.decode(found.get("next_page", msgspec.Raw(b"null")), type=str | None)
        if page is None:
            return
