"""What all messages of a link have in common."""

import msgspec


class LinkStruct(msgspec.Struct, array_like=True, gc=False):
    """An array on the wire; a new field is appended with a default, so that version N reads N+1."""
