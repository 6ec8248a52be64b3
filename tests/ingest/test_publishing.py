"""ingest.publishing: a publish goes the way of its topic's profile, and is counted under it."""

import pytest

from headgate.core.wire.link_ephemeral import Relay
from ingest.durable import PendingAppend
from ingest.ephemeral import PendingRelay
from ingest.publishing import outcome_of
from tests.ingest.parts import ACCEPTED, Parts, play, publish


@pytest.mark.parametrize(("profile", "kind", "relays"), [("durable", PendingAppend, 0), ("ephemeral", PendingRelay, 1)])
def test_a_publish_goes_the_way_of_its_profile(profile: str, kind: type[object], relays: int) -> None:
    async def scene(parts: Parts) -> None:
        info = await parts.topic("t", profile=profile)
        one = publish(info, msg_id="k")
        assert parts.publishing.admit(one) is None
        (pending,) = parts.publishing.hand_over([one])
        assert type(pending) is kind
        assert outcome_of(await parts.publishing.answer(pending, ACCEPTED)) == "accepted"
        repeat = parts.publishing.admit(publish(info, msg_id="k"))
        assert type(repeat) is kind and repeat is not None
        assert outcome_of(await parts.publishing.answer(repeat, ACCEPTED)) == "duplicate"
        assert len(parts.asked(Relay)) == relays
        parts.publishing.count("accepted", info)
        parts.publishing.count("topic_not_found", None)
        expected = {("accepted", profile): 1, ("topic_not_found", "durable"): 1}
        assert parts.metrics.published == expected

    play(scene)
