"""Listening sockets and how addresses are written, in both families."""

import socket
from typing import Final

ANY: Final = "::"  # all addresses of both families
SPARE_DESCRIPTORS: Final = 256  # the log, links, files, the admin port
_ANY_V4: Final = "0.0.0.0"  # noqa: S104 - what `::` means where the machine has no IPv6


def listen(host: str, port: int, backlog: int, *, shared: bool = False) -> socket.socket:
    """Binds and listens. `::` takes both families, or IPv4 alone where the machine has no IPv6.

    Processes of one user that all listen `shared` on a port get connections in turn. Raises OSError whose message names
    the address.
    """
    plain, family, both = _place(host)
    try:
        return socket.create_server(
            (plain, port), family=family, backlog=backlog, dualstack_ipv6=both, reuse_port=shared
        )
    except OSError as error:
        raise _named(error, host, port) from None


def reserve(host: str, port: int) -> socket.socket:
    """Binds and does not listen: others may listen `shared` on the port, whose number it has, and nobody else.

    Raises OSError whose message names the address.
    """
    plain, family, both = _place(host)
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        held.bind((plain, port))
    except OSError as error:
        held.close()
        raise _named(error, host, port) from None
    return held


def _place(host: str) -> tuple[str, socket.AddressFamily, bool]:
    """Returns the address to bind, its family, and whether the socket takes both."""
    plain = host.strip("[]")
    both = plain == ANY and socket.has_dualstack_ipv6()
    if plain == ANY and not both:
        plain = _ANY_V4
    return plain, socket.AF_INET6 if ":" in plain else socket.AF_INET, both


def _named(error: OSError, host: str, port: int) -> OSError:
    return OSError(error.errno, f"cannot listen on {authority(host, port)}: {error.strerror or error}")


def authority(host: str, port: int) -> str:
    """Returns host and port as they stand in a URL: an IPv6 address in brackets (RFC 3986 section 3.2.2)."""
    plain = host.strip("[]")
    return f"[{plain}]:{port}" if ":" in plain else f"{plain}:{port}"
