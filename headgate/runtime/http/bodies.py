"""Which bodies a request may have: media type and encoding (PROTOCOL section 0); reads none."""

from typing import Final

from headgate.core.wire.errors import Refusal

JSON: Final = "application/json"


def media_type(content_type: str, content_encoding: str, taken: frozenset[str] = frozenset({JSON})) -> str:
    """Returns the media type that two headers' values name, JSON where none does.

    Raises Refusal `unsupported_media_type` for one that is not `taken`, for any encoding, and for no UTF-8.
    """
    if content_encoding.strip().lower() not in ("identity", ""):
        raise Refusal(
            "unsupported_media_type",
            f"Content-Encoding {content_encoding.strip()[:32]} is not taken; send the body as it is",
        )
    named, _, parameters = content_type.lower().partition(";")
    named = named.strip() or JSON
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(' "')
    if named not in taken or charset not in ("", "utf-8", "utf8"):
        raise Refusal("unsupported_media_type", f"Content-Type must be {' or '.join(sorted(taken))}")
    return named
