"""Spans without a collector: off, refused without the extra, and within their rate."""

import importlib
import os
import subprocess
import sys
from typing import Any

import pytest

from headgate.core.wire.trace_context import traceparent
from headgate.runtime.tracing import Tracing, TracingMissing, tracing_to


def test_nothing_is_traced_without_an_endpoint() -> None:
    assert tracing_to(None, "ingest", "n", 1, float) is None


def test_without_the_extra_an_endpoint_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(TracingMissing, match=r"tracing\.endpoint needs .* pip install 'headgate\[tracing\]'"):
        tracing_to("http://127.0.0.1:1/v1/traces", "ingest", "n", 1, float)


def test_while_off_no_role_imports_opentelemetry() -> None:
    code = "import sys, headgate.cli.roles; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0


def test_spans_above_the_rate_are_left_out_and_each_name_has_its_own() -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("opentelemetry.sdk.trace", reason="the extra `tracing` is not installed")
    provider: Any = importlib.import_module("opentelemetry.sdk.trace").TracerProvider()
    now = [0.0]
    tracing = Tracing(provider, 2, lambda: now[0])
    parent = traceparent(1, 2)
    made = [tracing.begin("deliver", parent, {}) is not None for _ in range(4)]
    assert made == [True, True, False, False]
    assert tracing.begin("append", parent, {}) is not None
    now[0] = 1.0
    span = tracing.begin("deliver", parent, {"headgate.seq": 1})
    assert span is not None and span.trace_id == f"{1:032x}" and span.context != parent
    span.fail("internal")
    span.end()
