"""One write a socket. A socket that raises harms no other."""

from collections.abc import Sequence

from headgate.core.fanout.feed import Write


class SocketWrites:
    """The writes of one gateway; `failures` counts those that raised."""

    def __init__(self) -> None:
        self.failures = 0

    def write(self, writers: Sequence[Write], data: bytes) -> None:
        """Hands the same bytes to each."""
        rest = iter(writers)
        while True:
            try:
                for write in rest:
                    write(data)
                return
            except Exception:  # a transport that broke; its session ends by connection_lost
                self.failures += 1

    def write_own(self, write: Write, data: bytes) -> None:
        """Hands one its own bytes."""
        try:
            write(data)
        except Exception:  # as above
            self.failures += 1
