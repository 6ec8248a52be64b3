"""What acknowledged delivery costs one gateway process. `python -m bench.acks`

`--subscribers` WebSockets follow one topic with `ack`, and as many follow it without in a second process; the two
take turns. Messages come over a TCP link in bursts of ten, as 100 a second do each tenth of a second, each burst when
the last socket has the one before: the pace is what the cores give, the figures are CPU of the server for each
delivery. Who acknowledges sends one frame for `--every` messages (100: once a second). The owners are in the process
and answer at once; what they would write to the inbox log is counted, not written. Server on core 0, load on core 1.
"""

import argparse
import asyncio
import os
import signal
import statistics
import sys
from collections.abc import Sequence
from typing import Final

import msgspec
import uvloop

from bench.engine import EPOCH, BareLink, run_gateway
from bench.fanout import QUIET_S, Server, Subscriber, Tally, batch
from headgate.core.client.framing import WEBSOCKET
from headgate.core.client.limits import Limits
from headgate.core.wire import link
from headgate.core.wire.inbox_record import encode_cursor, records_of_cursors
from headgate.core.wire.link_acks import Cursor, CursorAnswer, CursorsMoved, MoveCursors, OpenCursor
from headgate.core.wire.topic_settings import effective

BURST: Final = 10
SECOND: Final = 100  # messages
RETRY: Final = {"kind": "fixed", "first_ms": 600_000, "max_ms": 600_000, "jitter": 0, "max_attempts": 3}


class AckLink(BareLink):
    """Also the owner of every user's cursors; it prints what came when the process ends."""

    def __init__(self) -> None:
        super().__init__()
        self.moves: list[list[Cursor]] = []

    def _granted(self, ask: link.Request) -> link.Answer:
        if isinstance(ask, OpenCursor):
            return CursorAnswer(ask.req, None)
        if isinstance(ask, MoveCursors):
            self.moves.append(ask.cursors)
            return CursorsMoved(ask.req)
        answer = super()._granted(ask)
        assert isinstance(answer, link.Subscribed)
        return msgspec.structs.replace(answer, settings=effective({"retry": RETRY}))

    def say(self) -> None:
        """Prints how many cursors moved, and the records that they are; the first one of each is not counted."""
        cursors = records = size = 0
        for move in (move for move in self.moves if move[0].seq):
            cursors += len(move)
            for value, _ in records_of_cursors([encode_cursor(cursor) for cursor in move]):
                records, size = records + 1, size + len(value)
        if cursors:
            print(f"inbox log: {cursors} cursors in {records} records, {size / cursors:.0f} bytes a cursor", flush=True)


async def serve(port: int, link_port: int) -> None:
    owner = AckLink()
    await owner.listen(link_port)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _end, owner)
    await run_gateway(owner, port, Limits(heartbeat_s=QUIET_S, comment_s=QUIET_S / 2), owner.deliver_to)


def _end(owner: AckLink) -> None:
    owner.say()
    os._exit(0)


class AckServer(Server):
    """`kind` is `plain` or `ack`."""

    module = "bench.acks"

    def request(self, position: str = "") -> bytes:
        """Returns the request of the next subscriber, each a user of its own."""
        self.seq += 1
        user, ack = b"user-%05d" % self.seq, b"&ack=true" if self.kind == "ack" else b""
        return (
            b"GET /ws/subscribe?topic_id=t&presence=false&user=%b%b HTTP/1.1\r\nHost: localhost\r\n" % (user, ack)
            + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )


async def connect(server: AckServer, count: int, tally: Tally) -> list[Subscriber]:
    """Connects; returns those that are subscribed."""
    loop = asyncio.get_running_loop()
    found: list[Subscriber] = []
    for at in range(0, count, 200):
        wave = [
            loop.create_connection(lambda: Subscriber(server.request(), tally), "127.0.0.1", server.port)
            for _ in range(min(200, count - at))
        ]
        made = [protocol for _, protocol in await asyncio.gather(*wave)]
        async with asyncio.timeout(60):
            while not all(each.began for each in made):
                await asyncio.sleep(0.005)
        found += made
    return found


async def turn(server: AckServer, subscribers: Sequence[Subscriber], begin: int, count: int, every: int) -> float:
    """Sends `count` messages above `begin`; returns microseconds of CPU for each delivery."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.link)
    tally = subscribers[0].tally
    tally.size = tally.wanted = 0
    cpu = server.cpu_s()
    for seq in range(begin, begin + count, BURST):
        data, frames = batch(seq + 1, BURST)
        tally.wanted += len(WEBSOCKET.messages(EPOCH, seq + 1, frames)) * len(subscribers)
        tally.all_there.clear()
        writer.write(data)
        async with asyncio.timeout(60):
            await tally.all_there.wait()
        if server.kind == "ack" and (seq + BURST) % every < BURST:
            steps = range(seq + every, seq + BURST + 1, every) if every <= BURST else [seq + BURST]
            frames_of_acks = b"".join(ack_frame(step) for step in steps)
            for subscriber in subscribers:
                subscriber.transport.write(frames_of_acks)  # type: ignore[attr-defined]
    await asyncio.sleep(1.5)  # the last acknowledgements, and the flush of cursors
    writer.close()
    return (server.cpu_s() - cpu) / (count * len(subscribers)) * 1e6


def ack_frame(seq: int) -> bytes:
    """Returns a masked text frame (the mask is zero)."""
    body = b'{"type":"ack","topic_id":"t","seq":%d}' % seq
    return bytes([0x81, 0x80 | len(body)]) + b"\0\0\0\0" + body


async def measure(subscribers: int, rounds: int, everies: list[int]) -> None:
    servers = [AckServer(kind, QUIET_S) for kind in ("plain", "ack")]
    try:
        groups = []
        for server in servers:
            warm = await connect(server, 200, Tally())
            before = server.rss_kb()
            for each in warm:
                each.transport.close()
            groups.append(await connect(server, subscribers, Tally()))
            print(f"{server.kind}: {(server.rss_kb() - before) / subscribers:.2f} KB a connection and subscription")
        at = [0, 0]
        for every in everies:
            found: list[list[float]] = [[], []]
            for n in range(rounds + 1):  # the first warms
                for which, server in enumerate(servers):
                    spent = await turn(server, groups[which], at[which], SECOND, every)
                    at[which] += SECOND
                    if n:
                        found[which].append(spent)
            plain, acked = (statistics.median(each) for each in found)
            ratio = statistics.median(b / a for a, b in zip(*found, strict=True))
            print(
                f"{subscribers} subscribers, one acknowledgement for {every} messages: {plain:.2f} us a delivery "
                f"without, {acked:.2f} us with ack, {ratio:.2f} times",
                flush=True,
            )
    finally:
        for server in servers:
            server.stop()


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=9_900, help="twice as many sockets at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, nargs="+", default=[100, 10, 1])
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {1} if (os.cpu_count() or 1) > 1 else {0})
    uvloop.run(measure(arguments.subscribers, arguments.rounds, arguments.every))


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1].isdigit():  # as a server: the ports of its sockets and of its link
        uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
    else:
        main()
