"""Times as text for clients (docs/protocol.md, section 0)."""

from datetime import UTC, datetime
from typing import Final

LAST_MS: Final = 253_402_300_799_999  # of the year 9999: RFC 3339 has no later one


def rfc3339(unix_ms: int) -> str:
    """Returns Unix milliseconds as RFC 3339 UTC with three decimals; a later time than it has is its last."""
    seconds, ms = divmod(min(unix_ms, LAST_MS), 1_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"
