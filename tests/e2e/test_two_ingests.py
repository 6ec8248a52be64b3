"""Two ingests at once: a topic is created once, and a client_msg_id has one seq, whichever ingest it goes through."""

import asyncio
from contextlib import AsyncExitStack

from tests.e2e import ledger
from tests.e2e.clients import Publisher
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Stage, token

TIMES = 100


async def test_one_of_two_creates_at_once_wins_and_one_client_msg_id_has_one_seq(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, ingests=2, gateways=0)
    await deployment.start()
    async with AsyncExitStack() as stack:
        bearer = token("p", service=True)
        both = [await stack.enter_async_context(Publisher(role.url, bearer)) for role in deployment.ingests]
        won = [0, 0]
        for number in range(TIMES):
            answers = await asyncio.gather(*(ingest.create(f"race.{number}") for ingest in both))
            statuses = [answer.status for answer in answers]
            assert sorted(statuses) == [201, 409], f"one 201 and one 409 each time: {number}: {answers}"
            loser = answers[statuses.index(409)]
            assert loser.body["code"] == "topic_exists", loser
            won[statuses.index(201)] += 1
            infos = [await ingest.call("GET", f"/api/v1/topics/race.{number}") for ingest in both]
            epoch = answers[statuses.index(201)].body["epoch"]
            assert [info.body["epoch"] for info in infos] == [epoch, epoch], "both know the topic that won"

        duplicates = 0
        for number in range(TIMES):
            calls = (ingest.publish("race.0", number, f"same-{number}", wait="sequenced") for ingest in both)
            answers = await asyncio.gather(*calls)
            assert [answer.status for answer in answers] == [200, 200], answers
            for member in ("message_id", "seq", "epoch"):
                assert answers[0].body[member] == answers[1].body[member], f"P2 one {member}: {answers}"
            flags = [answer.body["duplicate"] for answer in answers]
            assert sorted(flags) == [False, True], f"`duplicate` is exact: {answers}"
            duplicates += 1
        history = await both[0].history("race.0")
        ledger.dense("race.0", [m["seq"] for m in history])
        assert [m["payload"] for m in history] == list(range(TIMES)), "P2 one seq each"
    figures.say(
        f"two ingests at once: {TIMES} x the same topic: one 201 and one 409 each (won {won[0]}:{won[1]}); {TIMES} x "
        f"the same client_msg_id: one seq each, {duplicates} times one answer says duplicate"
    )


async def test_two_devices_one_after_the_other_keep_their_order(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    """Each publishes after the other has its answer, through an ingest of its own, without waiting for the seq."""
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, ingests=2, gateways=0)
    await deployment.start()
    async with AsyncExitStack() as stack:
        bearer = token("p", service=True)
        devices = [await stack.enter_async_context(Publisher(role.url, bearer)) for role in deployment.ingests]
        assert (await devices[0].create("devices")).status == 201
        message_ids = []
        for number in range(TIMES):
            answer = await devices[number % 2].publish("devices", number)
            assert answer.status == 200, answer
            message_ids.append(answer.body["message_id"])
        history = await devices[0].history("devices")
        while len(history) < TIMES:
            history = await devices[0].history("devices")
        order = {message["message_id"]: message["seq"] for message in history}
        ledger.rising("devices", [order[message_id] for message_id in message_ids])
    figures.say(f"{TIMES} messages of two devices in turn, each through its own ingest: their order holds in seq")
