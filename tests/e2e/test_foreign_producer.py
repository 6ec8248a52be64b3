"""A plain Kafka producer writes JSON keyed by topic id: subscribers get it. What cannot be used becomes a dead letter
with its reason, and nobody is disconnected."""

from contextlib import AsyncExitStack

from headgate.core.delivery.dead_letter_record import DeadLetter, LetterAdded, decode_letter
from tests.e2e import ledger
from tests.e2e.clients import Publisher, SseReader, Subscriber
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Stage, at_most, token, until
from tests.e2e.kafka_client import producer, read_all

TOPICS = [f"job.{number}" for number in range(20)]
EACH = 50
BAD: dict[tuple[bytes | None, bytes | None], str] = {
    (b"job.0", b'{"name":"\xff\xfe"}'): "not_utf8",
    (b"job.1", b'{"broken":'): "not_json",
    (b"job.2", b""): "not_json",
    (b"job.3", None): "null",
    (None, b'{"no":"key"}'): "null",
    (b"job.4", b"[" * 65 + b"]" * 65): "too_deep",
    (b"job.5", b'"' + b"x" * 65_535 + b'"'): "too_large",
    (b"job.6", b"\xffHG\x00\x01\x01"): "corrupt",
    (b"nobody.knows.me", b'{"a":1}'): "no_topic",
}


async def test_a_foreign_producer_reaches_subscribers_and_what_is_bad_is_a_dead_letter(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, settings={"topics.auto_create": "true"})
    await deployment.start()
    log = f"{log_prefix}.messages"
    sent: dict[str, list[bytes]] = {topic: [] for topic in TOPICS}
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher(deployment.ingests[0].url, token("p", service=True)))
        await publisher.create_all(TOPICS)
        gateway = deployment.gateways[0].url
        socket = await stack.enter_async_context(Subscriber("ws", [gateway], TOPICS, token=token("ws")))
        stream = await stack.enter_async_context(SseReader(gateway, TOPICS[0], token=token("sse")))
        await until("subscribed", lambda: socket.connected and stream.subscribed.is_set(), 30)
        foreign = await stack.enter_async_context(producer(kafka_bootstrap))

        bad = iter(BAD)
        for number in range(EACH):
            if (wrong := next(bad, None)) is not None:
                await foreign.send_and_wait(log, key=wrong[0], value=wrong[1])
            for topic in TOPICS:
                spaced = b'{ "from": "a job",\r\n  "number": %d, "big": 123456789012345678901234567890 }' % number
                await foreign.send(log, key=topic.encode(), value=spaced)
                sent[topic].append(b'{"from":"a job","number":%d,"big":123456789012345678901234567890}' % number)
        await foreign.flush()
        expected = len(TOPICS) * EACH
        await at_most(20, lambda: socket.count >= expected and len(stream.messages) >= EACH)
        await until("every dead letter", lambda: _letters_there(deployment), 30, 0.5)

        for topic in TOPICS:
            ledger.complete(topic, "WebSocket", socket.messages[topic], sent[topic])
            assert {seen.publisher_id for seen in socket.messages[topic]} == {"kafka"}
        ledger.complete(TOPICS[0], "SSE", stream.messages, sent[TOPICS[0]])
        history = await publisher.history(TOPICS[0])
        ledger.dense(TOPICS[0], [m["seq"] for m in history])
        assert socket.connections == 1 and not socket.of_type("error"), "nobody is disconnected"
        unknown = await publisher.call("GET", "/api/v1/topics/nobody.knows.me")
        assert unknown.status == 404, "an unknown topic is not created, whatever topics.auto_create says"

        letters = [decode_letter(r.value) for r in await read_all(kafka_bootstrap, f"{log_prefix}.dead-letters")]
        found = {_what(added.letter): added.letter.reason for added in letters if isinstance(added, LetterAdded)}
        assert found == BAD, "each with its reason"
        assert len(letters) == len(BAD), "each once"
        metrics = await deployment.dispatchers[0].metrics()
        counted = sum(value for name, value in metrics.items() if name.startswith("headgate_dead_letters_total{"))
        assert counted == len(BAD)
    reasons = ", ".join(BAD.values())
    figures.say(
        f"a plain producer: {expected} JSON values to {len(TOPICS)} topics, each once and in order at WebSocket "
        f"and SSE, publisher_id kafka; {len(BAD)} dead letters ({reasons}); nobody disconnected"
    )


async def _letters_there(deployment: Deployment) -> bool:
    return len(await read_all(deployment.bootstrap, f"{deployment.prefix}.dead-letters")) >= len(BAD)


def _what(letter: DeadLetter) -> tuple[bytes | None, bytes | None]:
    """Returns key and value of the dead record: a letter has no key where the record had none."""
    assert letter.record is not None
    return letter.record.key or None, letter.record.value
