"""The table of error codes, from `headgate/core/wire/errors.py`."""

from docs.site.markdown import table
from headgate.core.wire.errors import CODES


def error_table() -> str:
    """Returns one row a code, each with a link to its section of the same page."""
    rows = [
        (f"[`{name}`](#{name})", str(code.status), "yes" if code.retryable else "no", code.title)
        for name, code in CODES.items()
    ]
    return table(("code", "HTTP status", "the same request may succeed later", "title"), rows)
