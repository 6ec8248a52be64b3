"""Metrics of several processes as one text: every sample with its worker, every family once."""

import pytest

from headgate.runtime.merged_metrics import merged
from headgate.runtime.metrics import Metrics

ONE = """# HELP headgate_sessions Open connections.
# TYPE headgate_sessions gauge
headgate_sessions 3.0
# HELP headgate_gaps_total Gaps.
# TYPE headgate_gaps_total counter
headgate_gaps_total{reason="a\\"b"} 1.0
# HELP headgate_wait_seconds Waits.
# TYPE headgate_wait_seconds histogram
headgate_wait_seconds_bucket{le="0.1"} 1.0
headgate_wait_seconds_bucket{le="+Inf"} 2.0
headgate_wait_seconds_count 2.0
headgate_wait_seconds_sum 0.5
"""


def test_each_sample_has_its_worker_and_each_family_is_there_once() -> None:
    lines = merged({"1": ONE, "2": ONE.replace(" 3.0", " 4.0")}).decode().splitlines()
    assert 'headgate_sessions{worker="1"} 3.0' in lines and 'headgate_sessions{worker="2"} 4.0' in lines
    assert 'headgate_gaps_total{reason="a\\"b",worker="2"} 1.0' in lines
    assert 'headgate_wait_seconds_bucket{le="+Inf",worker="1"} 2.0' in lines
    assert [line for line in lines if line.startswith("# TYPE")] == [
        "# TYPE headgate_sessions gauge",
        "# TYPE headgate_gaps_total counter",
        "# TYPE headgate_wait_seconds histogram",
    ]


def test_a_gateway_s_own_text_comes_through_whole() -> None:
    text = Metrics(frozenset({"gateway"})).render().decode()
    of_one = merged({"7": text}).decode()
    samples = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len([line for line in of_one.splitlines() if 'worker="7"' in line]) == len(samples)
    assert merged({}) == b""


def test_what_is_no_metrics_text_is_an_error() -> None:
    with pytest.raises(ValueError):
        merged({"1": "<html>"})
