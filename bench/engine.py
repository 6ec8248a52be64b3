"""The gateway as a process of its own for the bench, on any Directory; by default on a bare TCP link.

python -m bench.engine PORT LINK_PORT HEARTBEAT_S
"""

import asyncio
import gc
import sys
from collections.abc import Callable

import uvloop

from gateway.gateway_options import GatewayOptions
from gateway.service import GatewayService
from headgate.core.client.limits import Limits
from headgate.core.wire import link
from headgate.core.wire.linkcodec import decode_batch
from headgate.core.wire.position import place
from headgate.core.wire.topic_settings import effective
from headgate.runtime.http.server import HttpServer
from headgate.runtime.links.memory_directory import MemoryDirectory
from headgate.runtime.links.port import Directory
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Shell
from headgate.runtime.process import COLLECT_AFTER
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.tokens import Authenticator, TokenKey

EPOCH = 1 << 44


class BareLink(MemoryDirectory):
    """A directory whose owner grants everything at once and sends what comes on a TCP port, length before batch.

    It keeps no message: who comes back gets what the gateway's ring has.
    """

    def __init__(self) -> None:
        super().__init__(4, self._granted)
        self._heads: dict[str, int] = {}

    def _granted(self, ask: link.Request) -> link.Answer:
        assert isinstance(ask, link.AskSubscribe)
        head = self._heads.get(ask.topic_id, 0)
        cursor, resumed, reason = place(ask.position, EPOCH, 1, head, lambda ms: None)
        return link.Subscribed(ask.req, ask.topic_id, EPOCH, head, 1, cursor, 1, resumed, reason, effective({}))

    async def listen(self, port: int) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    size = int.from_bytes(await reader.readexactly(4), "big")
                    for message in decode_batch(await reader.readexactly(size)):
                        assert isinstance(message, link.Messages)
                        self._heads[message.topic_id] = message.seq + len(message.frames) - 1
                        self.push(message)
            except asyncio.IncompleteReadError:
                writer.close()

        await asyncio.start_server(serve, "127.0.0.1", port)


async def run_gateway(
    directory: Directory, port: int, limits: Limits, attach: Callable[[GatewayService], None]
) -> None:
    """Serves a gateway on `directory`; `attach` makes the service the directory's user."""
    clock = SystemClock()
    authenticator = Authenticator("open", TokenKey(None), clock)
    metrics = Metrics(frozenset({"gateway"}))
    service = GatewayService(
        GatewayOptions(limits=limits), directory, authenticator, Shell(clock, SystemRng(), metrics)
    )
    attach(service)
    server = HttpServer("127.0.0.1", port, service.app(), service.protocol)
    gc.collect()
    gc.freeze()  # as `headgate.runtime.process` does for a role
    gc.set_threshold(*COLLECT_AFTER)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        tasks.create_task(service.run())


async def main() -> None:
    bare = BareLink()
    await bare.listen(int(sys.argv[2]))
    beat_s = float(sys.argv[3])
    limits = Limits(heartbeat_s=beat_s, comment_s=beat_s / 2)
    await run_gateway(bare, int(sys.argv[1]), limits, bare.deliver_to)


if __name__ == "__main__":
    uvloop.run(main())
