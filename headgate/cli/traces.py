"""Builds the tracing of a process from its settings."""

import asyncio

from gateway.delivery_traces import DeliveryTraces
from headgate.runtime.metrics import Metrics
from headgate.runtime.ports import Clock
from headgate.runtime.process import Process
from headgate.runtime.settings import Settings, SettingsError
from headgate.runtime.tracing import TracingMissing, tracing_to
from ingest.traced_publishes import PublishTraces


class Traces:
    """What each service of a process needs to make spans; all None where nothing is traced."""

    def __init__(
        self, settings: Settings, role: str, node: str, metrics: Metrics, clock: Clock, process: Process
    ) -> None:
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
            process.on_drain("spans", lambda: asyncio.to_thread(found.close))
