"""Refused callers leave a trace that they cannot flood."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from headgate.core.wire.errors import CODES
from headgate.runtime.metrics import Metrics
from headgate.runtime.refusals import DETAIL_CHARS, EVERY_S, RefusalLog


def test_one_line_a_code_and_interval_says_how_many_there_were() -> None:
    now = [0.0]
    log = RefusalLog(lambda: now[0])
    with capture_logs() as lines:
        for n in range(1_000):
            now[0] = n * EVERY_S / 1_000
            log.note("unauthenticated", "bad")
            log.note("forbidden", "no")
        now[0] = EVERY_S
        log.note("unauthenticated", "x" * 10_000)
    said: list[tuple[Any, ...]] = [(line["code"], line["count"]) for line in lines]
    assert said == [("unauthenticated", 1), ("forbidden", 1), ("unauthenticated", 1_000)]
    assert lines[-1]["last"] == "x" * DETAIL_CHARS


@pytest.mark.parametrize("part", ["ingest", "dispatcher", "gateway"])
def test_refusals_are_counted_by_code_in_every_role(part: Any) -> None:
    metrics = Metrics(frozenset({part}))
    text = metrics.render().decode()
    assert all(f'headgate_refusals_total{{code="{code}"}} 0.0' in text for code in CODES)
    with capture_logs():
        metrics.refused("forbidden", "bob may not")
        metrics.refused("forbidden", "bob may not")
    assert 'headgate_refusals_total{code="forbidden"} 2.0' in metrics.render().decode()
