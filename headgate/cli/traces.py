"""Builds the tracing of a process from its settings."""

import asyncio
import threading
from typing import Final

import structlog

from gateway.delivery_traces import DeliveryTraces
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Clock
from headgate.runtime.process import Process
from headgate.runtime.settings import Settings, SettingsError
from headgate.runtime.tracing import Tracing, TracingMissing, tracing_to
from ingest.traced_publishes import PublishTraces

logger = structlog.get_logger("process")

FLUSH_S: Final = 5.0  # for the last spans, once all work is done; a collector that does not answer costs no more
LOOK_S: Final = 0.02


class Traces:
    """What each service of a process needs to make spans; all None where nothing is traced."""

    def __init__(self, settings: Settings, role: str, node: str, metrics: Metrics, clock: Clock) -> None:
        """Raises SettingsError where tracing is set and its extra is missing."""
        endpoint, per_s = settings.tracing.endpoint, settings.tracing.spans_per_s
        try:
            self.dispatcher = found = tracing_to(endpoint, role, node, per_s, clock.now)
        except TracingMissing as error:
            raise SettingsError(str(error)) from None
        self.ingest = None if found is None else PublishTraces(found, metrics, clock)
        self.gateway = None if found is None else DeliveryTraces(found, metrics)
        if found is not None:
            metrics.has_exemplars = True

    def drain_last(self, process: Process) -> None:
        """Adds the drain step that sends the last spans; call it when all other steps are there."""
        found = self.dispatcher
        if found is not None:
            process.on_drain("spans", lambda: _flushed(found))


async def _flushed(tracing: Tracing) -> None:
    """Sends what waits, for FLUSH_S at most.

    A pool's thread would be waited for when the loop is closed, and once more when Python ends; nobody waits for this.
    """
    thread = threading.Thread(target=tracing.close, name="spans", daemon=True)
    thread.start()
    try:
        async with asyncio.timeout(FLUSH_S):
            while thread.is_alive():  # noqa: ASYNC110 - it may end when the loop is closed, so it tells it nothing
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        logger.warning("the last spans were not sent: their collector does not answer", seconds=FLUSH_S)
