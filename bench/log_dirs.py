"""What the partitions of a topic take on the disk of a Kafka node: DescribeLogDirs, version 1, over a socket.

The clients for Python that are installed here do not have this request.
https://kafka.apache.org/protocol#The_Messages_DescribeLogDirs
"""

import asyncio
import struct
from collections import Counter
from typing import Final

DESCRIBE_LOG_DIRS: Final = 35
VERSION: Final = 1
CLIENT: Final = b"headgate-bench"


class Answer:
    """Reads an answer from its begin."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, form: str) -> int:
        """Returns a number, big-endian, in a form of `struct`."""
        (value,) = struct.unpack_from(f">{form}", self._data, self._at)
        self._at += struct.calcsize(f">{form}")
        number: int = value
        return number

    def text(self) -> str:
        """Returns a string with its length in two bytes."""
        size = self.take("h")
        self._at += size
        return self._data[self._at - size : self._at].decode()


def sizes_in(data: bytes) -> Counter[str]:
    """Returns bytes by topic from the body of an answer. Raises OSError for an error of a folder."""
    answer, found = Answer(data), Counter[str]()
    answer.take("i")  # throttled for so many ms
    for _ in range(answer.take("i")):
        error, folder = answer.take("h"), answer.text()
        if error:
            raise OSError(f"DescribeLogDirs: error {error} for {folder}; is the user allowed to describe the cluster?")
        for _ in range(answer.take("i")):
            topic = answer.text()
            for _ in range(answer.take("i")):
                answer.take("i")  # the partition
                found[topic] += answer.take("q")
                answer.take("q"), answer.take("b")  # offset lag, is_future
    return found


async def topic_bytes(bootstrap: str) -> Counter[str]:
    """Returns the bytes of every topic on the first node of a cluster. Raises OSError."""
    host, _, port = bootstrap.partition(",")[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = struct.pack(">hhih", DESCRIBE_LOG_DIRS, VERSION, 1, len(CLIENT)) + CLIENT
        request = head + struct.pack(">i", -1)  # all topics
        writer.write(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        data = await reader.readexactly(size)
    finally:
        writer.close()
        await writer.wait_closed()
    return sizes_in(data[4:])  # behind the correlation id
