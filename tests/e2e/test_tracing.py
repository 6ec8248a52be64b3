"""A sampled publish through separate processes on real Kafka: its spans are one chain at an OTLP collector."""

import asyncio
import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.e2e.clients import Subscriber
from tests.e2e.harness import Deployment, Stage, token, until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CHAIN = ("publish", "append", "sequence", "deliver")
if not os.environ.get("CI"):
    pytest.importorskip("opentelemetry.sdk.trace", reason="the extra `tracing` is not installed")


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Yields the endpoint of an OTLP collector and the bodies that it was sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
    finally:
        server.shutdown()
        server.server_close()


def spans_of(bodies: list[bytes]) -> list[Any]:
    request = importlib.import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    sent = [request.ExportTraceServiceRequest.FromString(body) for body in bodies]
    return [span for one in sent for of in one.resource_spans for scope in of.scope_spans for span in scope.spans]


def attributes(span: Any) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


async def test_a_sampled_publish_is_one_chain_of_spans_without_secrets_and_others_are_not_traced(
    stage: Stage, kafka_bootstrap: str, log_prefix: str
) -> None:
    bearer = token("ann", service=True)
    with collector() as (endpoint, bodies):
        deployment = Deployment(stage, kafka_bootstrap, log_prefix, settings={"tracing.endpoint": endpoint})
        await deployment.start(shards=2)
        ingest, gateway = deployment.ingests[0], deployment.gateways[0]
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(
                httpx.AsyncClient(base_url=ingest.url, headers={"authorization": f"Bearer {bearer}"})
            )
            assert (await http.post("/api/v1/topics", json={"topic_id": "t", "name": "t"})).status_code == 201
            subscriber = await stack.enter_async_context(Subscriber("s", [gateway.url], ["t"], token=token("bob")))
            await until("subscribed", lambda: subscriber.connected, 20)
            for flags in ("00", "01"):
                header = {"traceparent": f"00-{TRACE}-{SPAN}-{flags}"}
                answer = await http.post("/api/v1/topics/t/publish", json={"payload": flags}, headers=header)
                assert answer.status_code == 200
            message_id = answer.json()["message_id"]
            bad = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
            refused = await http.post("/api/v1/topics/none/publish", json={"payload": 1}, headers=bad)
            assert refused.status_code == 404
            await until("delivered", lambda: len(subscriber.messages["t"]) == 2, 20)
            await until("spans are sent", lambda: {s.name for s in spans_of(bodies)} == set(CHAIN), 20)
            async with httpx.AsyncClient() as scraper:
                accept = {"accept": "application/openmetrics-text"}
                numbers = [
                    (await scraper.get(f"{role.admin}/metrics", headers=accept)).text for role in (ingest, gateway)
                ]
        for role in deployment.roles:
            role.sigterm()
        await asyncio.gather(*(role.ended(30) for role in deployment.roles))
        spans = spans_of(bodies)
    assert sorted(span.name for span in spans) == sorted((*CHAIN, "publish")), "one chain, and the refused publish"
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    by_name = {span.name: span for span in spans if "error.type" not in attributes(span)}
    assert by_name["publish"].parent_span_id.hex() == SPAN
    for above, below in pairwise(CHAIN):
        assert by_name[below].parent_span_id == by_name[above].span_id
    for name in CHAIN[:3]:
        assert attributes(by_name[name])["headgate.message_id"] == message_id
    assert attributes(by_name["deliver"])["headgate.seq"] == attributes(by_name["sequence"])["headgate.seq"] == 2
    failed = next(span for span in spans if "error.type" in attributes(span))
    assert (attributes(failed)["error.type"], failed.status.code) == ("topic_not_found", 2)
    assert not any(bearer.encode() in body or b"eyJ" in body for body in bodies)
    for text, name in zip(numbers, ("headgate_append_seconds", "headgate_delivery_seconds"), strict=True):
        lines = [line for line in text.splitlines() if line.startswith(f"{name}_bucket") and "# {" in line]
        assert len(lines) == 1 and f'trace_id="{TRACE}"' in lines[0], text
