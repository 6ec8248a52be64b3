"""A small crowd of both clients while processes are killed; the large one: `python -m tests.clients`."""

from tests.clients.crowd import Crowd, Size
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Stage

P95_S = 6.0  # twice what is wanted on a quiet machine


async def test_each_message_once_in_order_at_both_clients_while_gateways_and_a_dispatcher_are_killed(
    built: None, stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2, gateways=2)
    await deployment.start()
    crowd = Crowd(deployment, Size(js=14, python=6, topics=4), calm_s=3.0)
    await crowd.run(0)
    for fault, found in crowd.figures():
        figures.say(f"kill -9 of {fault.name}: {found}")
        assert found.p95_s < P95_S
        assert (found.lost > 0) == fault.name.startswith("gateway")
    figures.say(f"20 clients: {crowd.writers.total} messages, {crowd.deliveries} deliveries, each once and in order")
