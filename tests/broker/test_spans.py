"""Spans: one a try, with its times, its attempt and the publisher's trace."""

from headgate.broker import Broker
from headgate.broker.spans import Span, Spans
from tests.broker.recorder import Recorder, failing


def test_s2_ext_7_one_span_a_try() -> None:
    spans: list[Span] = []
    broker = Broker(latency=lambda message, name: 2.0 if name == "far" else 0.0)
    broker.add_listener(Spans(spans.append))
    broker.subscribe("orders", failing(1), name="flaky")
    broker.subscribe("orders", Recorder("far"))
    broker.publish("nobody", 1)
    broker.publish("orders", 1, trace="00-trace-parent-01")
    broker.advance(5.0)
    assert [(s.subscriber, s.attempt, s.start, s.end, s.error) for s in spans] == [
        ("flaky", 1, 0.0, 0.0, "ValueError: not now"),
        ("flaky", 2, 0.25, 0.25, None),
        ("far", 1, 0.0, 2.0, None),
    ]
    assert {(s.name, s.trace, s.message_id) for s in spans if s.subscriber == "far"} == {
        ("deliver orders to far", "00-trace-parent-01", 1)
    }
