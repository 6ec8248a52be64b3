"""The W3C trace context (https://www.w3.org/TR/trace-context/): the header `traceparent` of a publish."""

import re
from typing import Final

_SAMPLED: Final = 1  # the flag: the caller records this trace
_MATCH: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL).fullmatch


def sampled(header: bytes) -> bytes | None:
    """Returns a `traceparent` in its version 00 form; None where it cannot be read or its caller records no trace.

    As section 3.2 of the recommendation has it: a higher version may say more, version ff and ids of zeros are wrong.
    """
    found = _MATCH(header)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if not int(trace_id, 16) or not int(span_id, 16) or not int(flags, 16) & _SAMPLED:
        return None
    return traceparent(int(trace_id, 16), int(span_id, 16))


def traceparent(trace_id: int, span_id: int) -> bytes:
    """Returns the header of a sampled span."""
    return b"00-%032x-%016x-01" % (trace_id, span_id)


def ids_of(context: bytes) -> tuple[int, int]:
    """Returns the trace id and the span id of what `sampled` returned."""
    return int(context[3:35], 16), int(context[36:52], 16)
