"""Who is at the other end of a connection of this machine: the process that holds the socket. Linux only.

The kernel is asked for the one socket (sock_diag(7)): /proc/net/tcp lists all of the machine's, for each question.
"""

import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Final

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLM_F_REQUEST: Final = 1
NO_COOKIE: Final = b"\xff" * 8
LOOPBACK: Final = socket.inet_aton("127.0.0.1") + bytes(12)

# nlmsghdr: length, type, flags, sequence, port | inet_diag_req_v2: family, protocol, extensions, pad, states,
# inet_diag_sockid: port here, port there, address here, address there, interface, cookie
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBxI")
_PORTS: Final = struct.Struct("!HH")
_INODE_AT: Final = _HEADER.size + 4 + 48 + 16  # in nlmsghdr and inet_diag_msg, after its timer, queues and user


def socket_inode(port: int, to: int) -> int | None:
    """Returns the inode of the socket that is connected from one port of 127.0.0.1 to another, None where none is."""
    place = _PORTS.pack(port, to) + LOOPBACK + LOOPBACK + bytes(4) + NO_COOKIE
    request = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + place
    header = _HEADER.pack(_HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        kernel.send(header + request)
        answer = kernel.recv(4096)
    if _HEADER.unpack_from(answer)[1] != SOCK_DIAG_BY_FAMILY:  # an error: there is none
        return None
    inode: int = struct.unpack_from("=I", answer, _INODE_AT)[0]
    return inode or None


def holds(pid: int, inode: int) -> bool:
    """Says whether a process has the socket open."""
    folder, wanted = f"/proc/{pid}/fd", f"socket:[{inode}]"
    try:
        return any(_link(f"{folder}/{name}") == wanted for name in os.listdir(folder))
    except OSError:
        return False


def caller_of(port: int, to: int, pids: Mapping[str, int | None]) -> str | None:
    """Returns the name of the process that is connected from one port to another, None when it is none of them."""
    inode = socket_inode(port, to)
    if inode is None:
        return None
    return next((name for name, pid in pids.items() if pid is not None and holds(pid, inode)), None)


def naming(pids: Callable[[], Mapping[str, int | None]]) -> Callable[[int, int], str | None]:
    """Returns what names a caller by its ports; `pids` says which processes there are now."""
    return lambda port, to: caller_of(port, to, pids())


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
