"""One write a socket."""

from headgate.core.fanout.socket_writes import SocketWrites


def test_a_socket_that_raises_stops_no_other() -> None:
    writes, got = SocketWrites(), list[bytes]()

    def broken(_data: bytes) -> None:
        raise OSError

    writes.write([got.append, broken, got.append, broken, got.append], b"x")
    assert got == [b"x"] * 3 and writes.failures == 2
    for write in (broken, got.append):
        writes.write_own(write, b"y")
    assert got[3:] == [b"y"] and writes.failures == 3
