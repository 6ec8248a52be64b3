"""Listening sockets and how addresses are written, in both families."""

import socket
from typing import Final

ANY: Final = "::"  # all addresses of both families
_ANY_V4: Final = "0.0.0.0"  # noqa: S104 - what `::` means where the machine has no IPv6


def listen(host: str, port: int, backlog: int) -> socket.socket:
    """Binds and listens. `::` takes both families, or IPv4 alone where the machine has no IPv6.

    Raises OSError whose message names the address.
    """
    plain = host.strip("[]")
    both = plain == ANY and socket.has_dualstack_ipv6()
    if plain == ANY and not both:
        plain = _ANY_V4
    family = socket.AF_INET6 if ":" in plain else socket.AF_INET
    try:
        return socket.create_server((plain, port), family=family, backlog=backlog, dualstack_ipv6=both)
    except OSError as error:
        where = authority(host, port)
        raise OSError(error.errno, f"cannot listen on {where}: {error.strerror or error}") from None


def authority(host: str, port: int) -> str:
    """Returns host and port as they stand in a URL: an IPv6 address in brackets (RFC 3986 section 3.2.2)."""
    plain = host.strip("[]")
    return f"[{plain}]:{port}" if ":" in plain else f"{plain}:{port}"
