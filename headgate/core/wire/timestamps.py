"""Times as text for clients (docs/protocol.md, section 0)."""

from datetime import UTC, datetime


def rfc3339(unix_ms: int) -> str:
    """Returns Unix milliseconds as RFC 3339 UTC with three decimals."""
    seconds, ms = divmod(unix_ms, 1_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"
