"""Stops aiokafka's clients for certain, in any state of the brokers.

aiokafka 0.14's `stop()` is not enough when a broker is frozen. `Fetcher.close` raises the CancelledError of a fetch
that it cancelled itself, and leaves the other tasks and the connections open; a coordinator waits for requests one
after the other. So this reads private members; the version is pinned below 0.15, and
tests/integration/test_kafka_faults.py fails when a task or connection is left.
"""

import asyncio
from typing import Any, Final

STOP_S: Final = 8.0  # longer than the timeout of one request

_TASKS: Final = (
    ("_coordinator", "_coordination_task"),
    ("_coordinator", "_heartbeat_task"),
    ("_coordinator", "_commit_refresh_task"),
    ("_coordinator", "_reset_committed_task"),
    ("_fetcher", "_fetch_task"),
)


async def stopped(client: Any) -> None:
    """Stops a consumer or producer, then cancels the tasks and closes the connections that its `stop()` has left."""
    stopping = asyncio.ensure_future(client.stop())
    await asyncio.wait((stopping,), timeout=STOP_S)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return
    await _cancelled({stopping, *_left(client)})
    connections = getattr(client, "_client", None) or client.client
    closing = asyncio.ensure_future(connections.close())
    await asyncio.wait((closing,))  # it ends as cancelled where a connection's end was waited for above, e.g. over TLS
    if not closing.cancelled():
        closing.exception()


def _left(client: Any) -> set["asyncio.Task[Any]"]:
    """Returns the tasks of a client that are not done."""
    tasks = {getattr(getattr(client, part, None), name, None) for part, name in _TASKS}
    tasks |= getattr(getattr(client, "_fetcher", None), "_pending_tasks", set())
    return {task for task in tasks if task is not None and not task.done()}


async def _cancelled(tasks: set["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # marks the error as seen: the client is stopping
