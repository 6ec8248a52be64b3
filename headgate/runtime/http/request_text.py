"""Bytes of a request as text: a NUL stands where they are not UTF-8, so that they are no id, name or user.

U+FFFD would not do: it is a printable character that an id may have.
"""

import codecs
from typing import Final

NOT_UTF8: Final = "headgate.not-utf-8"  # the name of the codecs' error handler


def decoded(raw: bytes) -> str:
    """Returns the text of bytes of a path, a query string or a header."""
    return raw.decode("utf-8", NOT_UTF8)


def _nul(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\0", error.end


codecs.register_error(NOT_UTF8, _nul)
