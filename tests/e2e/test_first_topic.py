"""A new installation: once every role is ready, the first topic is there without a wait."""

from tests.e2e.clients import Publisher
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Stage, token

AT_MOST_S = 3.0  # seen: 0.01 to 0.3 s; 5.1 s when a new dispatcher's first fetches waited one behind the other


async def test_the_first_topic_of_a_new_installation_is_created_at_once(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix)
    started_s = await deployment.start(8)
    async with Publisher(deployment.ingests[0].url, token("p", service=True)) as publisher:
        created = await publisher.create("first")
        published = await publisher.publish("first", 1, wait="sequenced")
    assert (created.status, published.status, published.body["seq"]) == (201, 200, 1)
    assert max(created.took_s, published.took_s) < AT_MOST_S, "ready means that it works"
    figures.say(f"all ready {started_s:.1f} s after init began; the first topic is created in {created.took_s:.2f} s")
