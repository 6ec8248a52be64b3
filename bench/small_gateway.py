"""Many small topics in a gateway alone: batches of the link in, each message to the ten sockets that follow its topic.

    python -m bench.small_gateway --rate 10000 --rounds 5

The same sockets, topics and checks as bench/small.py, without HTTP, log and owner: `bench.engine` on a bare TCP link
(core 0), the load on core 1. The floor (bench/small_floor.py) reads the same batches and writes once a socket and loop
turn. A round is ended by a message that is missing, repeated or out of order. Read the shares of the floor.
"""

import argparse
import asyncio
import os
import statistics
from pathlib import Path

import uvloop

from bench.engine import EPOCH
from bench.fanout import QUIET_S, free_port
from bench.small import BATCH, TOPICS, Load, Publisher, Small, Turn, said
from headgate.core.wire.frames import message_frame
from headgate.core.wire.ids import id_text
from headgate.core.wire.link import Message, Messages
from headgate.core.wire.linkcodec import encode_batch

MESSAGE_ID = id_text(bytes(16)).encode()


class Gateway(Small):
    """A server whose messages come over a link: a gateway, or the floor."""

    def __init__(self, label: str, tree: Path | None = None) -> None:
        self.link = free_port()
        super().__init__(label, tree)

    def command(self) -> list[str]:
        ports = [str(self.port), str(self.link)]
        return ["bench.small_floor", *ports] if self.label == "floor" else ["bench.engine", *ports, str(QUIET_S)]


class Owner(Publisher):
    """Sends batches over the link, numbered by topic; nobody answers."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.seqs = [0] * TOPICS

    async def run(self) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while True:
            batch = await self.queue.get()
            ts = int(batch.due * 1000)
            messages: list[Message] = []
            for topic in range(batch.first, batch.first + BATCH):
                number = topic % TOPICS
                seq = self.seqs[number] = self.seqs[number] + 1
                payload = b'{"due":%d}' % int(batch.due * 1e6)
                tail = b'"message_id":"%b","publisher_id":"p","payload":%b}' % (MESSAGE_ID, payload)
                messages.append(Messages(f"t{number}", EPOCH, seq, [ts], [message_frame(f"t{number}", seq, ts, tail)]))
            data = encode_batch(messages)
            writer.write(len(data).to_bytes(4, "big") + data)


async def run(arguments: argparse.Namespace) -> None:
    """Servers stand at once and take turns."""
    labels: list[tuple[str, Path | None]] = [("floor", None), ("gateway", None)]
    labels += [("before", arguments.beside.resolve())] if arguments.beside else []
    turns = []
    try:
        for label, tree in labels:
            server = Gateway(label, tree)
            turns.append(Turn(server, Owner(server.link)))
            await turns[-1].prepare(1)
            await turns[-1].load(1_000, 0.5)  # warm
        rounds: list[list[Load]] = []
        for _ in range(arguments.rounds):
            rounds.append([await turn.load(arguments.rate, arguments.seconds) for turn in turns])
    finally:
        for turn in turns:
            for sender in turn.senders:
                sender.cancel()
            turn.server.stop()
    for at, (label, _) in enumerate(labels):
        mine = sorted((one[at] for one in rounds), key=lambda load: load.cpu_us)
        share = statistics.median(one[0].cpu_us / one[at].cpu_us for one in rounds)
        print(f"{said(label, mine[len(mine) // 2])}; {share:.2f} of the floor's deliveries a CPU second", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=10_000, help="messages a second (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", type=Path, help="another checkout, whose gateway takes turns")
    os.sched_setaffinity(0, {1} if (os.cpu_count() or 1) > 1 else {0})
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
