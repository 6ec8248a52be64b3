"""What all shards of a dispatcher share: the log, the lease, clock and metrics, their options."""

import asyncio
from typing import NamedTuple

from dispatcher.dispatcher_options import ShardOptions
from dispatcher.index_space import IndexSpace
from dispatcher.lease import Lease
from dispatcher.ports import DispatcherMetrics
from headgate.core.delivery.delivery_events import Listener
from headgate.runtime.ports import Log, Shell
from headgate.runtime.tracing import Tracing


class Node(NamedTuple):
    """One for each process. A rebuild runs while it holds `rebuilding`: several at once would slow the live shards.

    `event_listener` is called with the lifecycle events of all shards. `tracing` makes spans of traced
    records.
    """

    log: Log
    lease: Lease
    shell: Shell[DispatcherMetrics]
    options: ShardOptions
    rebuilding: asyncio.Semaphore
    index_space: IndexSpace
    event_listener: Listener | None = None
    tracing: Tracing | None = None
