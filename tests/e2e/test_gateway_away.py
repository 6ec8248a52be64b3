"""Gateways and ingests die or drain, a dispatcher drains or freezes: clients resume where they can, nothing is lost or
repeated, and a SIGTERM ends every role with 0 within its deadline."""

import signal
import time
from contextlib import AsyncExitStack

from tests.e2e import ledger
from tests.e2e.clients import Publisher, SseReader, Subscriber
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Role, Stage, at_most, token, until
from tests.e2e.traffic import Traffic

TOPICS = [f"room.{number:02}" for number in range(20)]
SUBSCRIBERS = 30
DEADLINE_S = 20.0  # drain.deadline_s


async def test_clients_of_a_killed_gateway_and_of_a_killed_ingest_go_on_without_loss_or_repeat(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, ingests=2, gateways=2)
    await deployment.start()
    async with AsyncExitStack() as stack:
        traffic, subscribers = await _busy(stack, deployment, strict=False)
        deployment.gateways[0].kill9()
        killed = time.monotonic()
        moved = subscribers[0::2]
        await until("its clients are cut off", lambda: all(s.closes for s in moved), 10)
        await until("its clients are back", lambda: all(s.connected for s in moved), 30)
        back = time.monotonic() - killed
        assert set(traffic.answers) == {"200"}, "publishers see nothing of a gateway's death"
        before = traffic.total
        deployment.ingests[0].kill9()
        await until("messages flow through the other ingest", lambda: traffic.total > before + 200, 30)
        expected = await _finish(traffic, subscribers)
        _all_once(traffic, subscribers)
        assert all(s.connections >= 2 for s in moved) and all(s.connections == 1 for s in subscribers[1::2])
        resumed = [frame for s in moved for frame in s.of_type("subscribed") if "resumed" in frame]
        assert len(resumed) >= len(moved) and all(frame["resumed"] for frame in resumed)
    figures.say(
        f"kill -9 of one of 2 gateways, then of one of 2 ingests under {traffic.total} messages: the gateway's "
        f"{len(moved)} clients back on the other by cursor after {back:.2f} s; what the ingest left unanswered was "
        f"retried at the other; {expected} deliveries to {SUBSCRIBERS} subscribers, each once, in order"
    )


async def test_a_frozen_dispatcher_that_wakes_up_as_a_zombie_changes_nothing_for_clients(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2, gateways=2)
    await deployment.start()
    async with AsyncExitStack() as stack:
        traffic, subscribers = await _busy(stack, deployment)
        zombie = deployment.dispatchers[0]
        zombie.signal(signal.SIGSTOP)
        frozen = time.monotonic()
        before = {s.name: {topic: len(s.messages[topic]) for topic in s.topics} for s in subscribers}

        def flows() -> bool:
            return all(len(s.messages[topic]) > before[s.name][topic] + 5 for s in subscribers for topic in s.topics)

        await until("every topic flows under the other dispatcher", flows, 40)
        took = time.monotonic() - frozen
        zombie.signal(signal.SIGCONT)
        await zombie.ready(30)
        expected = await _finish(traffic, subscribers)
        _all_once(traffic, subscribers)
        assert all(s.connections == 1 for s in subscribers), "live subscriptions see nothing of a change of owner"
    figures.say(
        f"SIGSTOP of one of 2 dispatchers: every topic flows again after {took:.1f} s; SIGCONT: the zombie is ready "
        f"again, {traffic.total} messages, {expected} deliveries, each once, in order, no client disconnected"
    )


async def test_sigterm_ends_every_role_with_0_in_time_and_sessions_are_told_4601(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, ingests=2, dispatchers=2, gateways=2)
    await deployment.start()
    took: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        traffic, subscribers = await _busy(stack, deployment, strict=False)
        moved = subscribers[0::2]
        stream = await stack.enter_async_context(
            SseReader(deployment.gateways[0].url, TOPICS[0], token=token("sse"), start="earliest")
        )
        await until("the SSE stream follows", stream.subscribed.is_set, 10)

        took["gateway"] = await _drain(deployment.gateways[0])
        await until("its clients are back", lambda: all(s.closes and s.connected for s in moved), 30)
        assert all(s.closes[0] == 4601 for s in moved), f"closed with {[s.closes for s in moved]}"
        told = [s.of_type("disconnect")[0] for s in moved]
        assert all(frame["code"] == 4601 and frame["reconnect"] for frame in told)
        ends = [event for event, frame in stream.events if frame.get("code") == 4601]
        assert ends and set(ends) == {"disconnect"}  # more than one: it came back while the gateway was still draining

        before = traffic.total
        took["dispatcher"] = await _drain(deployment.dispatchers[0])
        await until("messages flow under the other dispatcher", lambda: traffic.total > before + 200, 30)
        took["ingest"] = await _drain(deployment.ingests[0])
        before = traffic.total
        await until("messages flow through the other ingest", lambda: traffic.total > before + 200, 30)
        expected = await _finish(traffic, subscribers)
        _all_once(traffic, subscribers)
        assert all(s.connections == 1 for s in subscribers[1::2]), "the other gateway's clients saw nothing of it"
        publisher = await stack.enter_async_context(Publisher(deployment.ingests[1].url, token("p", service=True)))
        for topic in TOPICS:
            ledger.acknowledged_once(topic, traffic.acked[topic], await publisher.history(topic))
    answers = ", ".join(f"{count} x {answer}" for answer, count in sorted(traffic.answers.items()))
    figures.say(
        "SIGTERM under load, exit 0 after "
        + ", ".join(f"{role} {seconds:.1f} s" for role, seconds in took.items())
        + f" (deadline {DEADLINE_S:.0f} s); {len(moved)} WebSocket sessions told 4601 and resumed, "
        f"an SSE stream told too; {traffic.total} messages ({answers}), {expected} deliveries, each once, in order"
    )


async def test_sigterm_of_dev_tells_its_sessions_and_ends_with_0(stage: Stage, figures: Figures) -> None:
    dev = stage.dev(data=True)
    dev.start()
    await dev.ready()
    async with AsyncExitStack() as stack:
        sockets = [Subscriber(f"s{n}", [dev.url], ["room"], token=None) for n in range(10)]
        for socket in sockets:
            await stack.enter_async_context(socket)
        await until("subscribed", lambda: all(s.connected for s in sockets), 10)
        took = await _drain(dev)
        await until("each session is closed", lambda: all(s.closes for s in sockets), 5)
        assert all(s.closes[0] == 4601 for s in sockets), f"closed with {[s.closes for s in sockets]}"
    figures.say(f"SIGTERM of dev: 10 sessions told 4601, exit 0 after {took:.1f} s")


async def _busy(
    stack: AsyncExitStack, deployment: Deployment, *, strict: bool = True
) -> tuple[Traffic, list[Subscriber]]:
    """Topics, subscribers (even ones begin at the first gateway) and traffic that has reached all of them."""
    service = token("p", service=True)
    publisher = await stack.enter_async_context(Publisher(deployment.ingests[0].url, service))
    await publisher.create_all(TOPICS)
    urls = [gateway.url for gateway in deployment.gateways]
    subscribers = [
        Subscriber(f"s{n}", urls if n % 2 == 0 else urls[::-1], TOPICS[n % 5 :: 5], token=token(f"s{n}"))
        for n in range(SUBSCRIBERS)
    ]
    for subscriber in subscribers:
        await stack.enter_async_context(subscriber)
    await until("every subscription is granted", lambda: all(s.connected for s in subscribers), 30)
    ingests = [ingest.url for ingest in deployment.ingests]
    traffic = await stack.enter_async_context(Traffic(ingests, service, TOPICS, strict=strict))
    await until("traffic flows", lambda: all(s.count >= 40 for s in subscribers), 30)
    return traffic, subscribers


async def _drain(role: Role) -> float:
    began = time.monotonic()
    role.sigterm()
    status = await role.ended(DEADLINE_S + 5)
    took = time.monotonic() - began
    assert status == 0, f"{role.name} ended with {status}: {role.errors()[-2_000:]}"
    assert took <= DEADLINE_S, f"{role.name} took {took:.1f} s"
    return took


async def _finish(traffic: Traffic, subscribers: list[Subscriber]) -> int:
    enough = traffic.total + 400
    await until("traffic goes on", lambda: traffic.total >= enough, 60)
    await traffic.stop()
    expected = sum(len(traffic.sent[topic]) for s in subscribers for topic in s.topics)
    await at_most(20, lambda: sum(s.count for s in subscribers) >= expected)
    return expected


def _all_once(traffic: Traffic, subscribers: list[Subscriber]) -> None:
    for subscriber in subscribers:
        for topic in subscriber.topics:
            ledger.complete(topic, subscriber.name, subscriber.messages[topic], traffic.sent[topic])
        assert not subscriber.of_type("gap") and not subscriber.of_type("error")
