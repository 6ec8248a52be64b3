"""What a run finds around it: small blocks and chunks, so that it passes their bounds, and no log lines."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import structlog

from tests.sim.loop import SimLoop
from tests.sim.plan import Plan


@contextlib.contextmanager
def quiet_and_small(plan: Plan) -> Iterator[None]:
    """Small blocks and chunks; log lines nowhere."""
    logging.disable(logging.CRITICAL)
    config = structlog.get_config()
    structlog.configure(processors=[_only_faults])
    try:
        with contextlib.ExitStack() as patches:
            patches.enter_context(mock.patch("headgate.core.sequencer.window.BLOCK_IDS", plan.block_ids))
            for module in ("chunk_builder", "snapshot_writer"):  # how large a chunk is, and when a base is due
                name = f"headgate.core.sequencer.{module}.CHUNK_BYTES"
                patches.enter_context(mock.patch(name, plan.chunk_bytes))
            yield
    finally:
        structlog.configure(**config)
        logging.disable(logging.NOTSET)


def _only_faults(_logger: Any, name: str, event: Any) -> Any:
    """A process says nothing in a run, but what it did not expect is a finding."""
    error = sys.exc_info()[1]
    if name == "exception" and error is not None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        loop.complain(f"logged {event['event']!r}", error)
    raise structlog.DropEvent
