"""AsyncBroker on a loop whose time jumps: tasks, real timers, waiting publishers, time-outs, closing."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from headgate.broker import AsyncBroker, Backpressure, Event, EventName, Message, OnFull, Receipt, Refusal, fixed
from headgate.core.delivery.lifecycle_events import Outcome
from headgate.core.wire.errors import HeadgateError
from tests.broker.recorder import Recorder, failing
from tests.sim.loop import SimLoop, run

Scene = Callable[[], Awaitable[None]]


def play(scene: Scene) -> None:
    loop = SimLoop()

    async def main() -> None:
        await scene()

    run(loop, main())
    assert loop.complaints == []


def test_plain_and_async_handlers_run_at_the_same_time_and_each_subscriber_in_order() -> None:
    async def scene() -> None:
        running: set[str] = set()
        most = 0
        seen: list[tuple[str, int]] = []

        def slow(name: str) -> Callable[[Message], Awaitable[None]]:
            async def handle(message: Message) -> None:
                nonlocal most
                running.add(name)
                most = max(most, len(running))
                await asyncio.sleep(1.0)
                running.discard(name)
                seen.append((name, message.payload))

            return handle

        recorder = Recorder("plain")
        async with AsyncBroker() as broker:
            for name in ("a", "b"):
                broker.subscribe("orders", slow(name), name=name)
            broker.subscribe("orders", recorder)
            begun = asyncio.get_running_loop().time()
            for n in (1, 2, 3):
                await broker.publish("orders", n)
            assert seen == [], "publish waits for no handler"
            await broker.drained()
            assert asyncio.get_running_loop().time() - begun == pytest.approx(3.0)
        assert (most, recorder.payloads) == (2, [1, 2, 3])
        assert [n for name, n in seen if name == "a"] == [1, 2, 3]

    play(scene)


def test_retries_come_by_the_real_timer() -> None:
    async def scene() -> None:
        heard = Recorder()
        async with AsyncBroker(retry=fixed(3, 2.0)) as broker:
            broker.add_listener(heard.hear)
            broker.subscribe("orders", failing(2), name="flaky")
            await broker.publish("orders", 1)
            await broker.drained()
        times = [event.at for event in heard.of(EventName.DELIVERING)]
        assert [at - times[0] for at in times] == pytest.approx([0, 2, 4])

    play(scene)


def test_a_try_that_takes_too_long_is_cancelled_and_has_failed() -> None:
    async def scene() -> None:
        cancelled = 0

        async def hang(message: Message) -> None:
            nonlocal cancelled
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled += 1
                raise

        async def own_timeout(message: Message) -> None:
            raise TimeoutError("the database")

        async with AsyncBroker(retry=fixed(2, 1.0), handler_timeout_s=5.0) as broker:
            broker.subscribe("orders", hang)
            broker.subscribe("orders", own_timeout)
            await broker.publish("orders", 1)
            await broker.drained()
            errors = {letter.subscriber: letter.last_error for letter in broker.dead_letters()}
        assert cancelled == 2
        assert errors == {"hang": "TimeoutError: no answer in 5.0 s", "own_timeout": "TimeoutError: the database"}

    play(scene)


def test_s2_bp_2_block_waits_for_room_in_order_and_not_for_ever() -> None:
    async def scene() -> None:
        heard, gate = Recorder(), asyncio.Event()

        async def handle(message: Message) -> None:
            await gate.wait()
            heard.handle(message)

        async with AsyncBroker(max_queue_size=1, on_full=OnFull.BLOCK, block_timeout_s=5.0) as broker:
            broker.add_listener(heard.hear)
            broker.subscribe("orders", handle)
            await broker.publish("orders", 1)
            waiting = [asyncio.ensure_future(broker.publish("orders", n)) for n in (2, 3)]
            await asyncio.sleep(4.0)
            impatient = asyncio.ensure_future(broker.publish("orders", "gives up"))
            await asyncio.sleep(0.0)
            impatient.cancel()
            gate.set()
            receipts = await asyncio.gather(*waiting)
            await broker.drained()
            assert [receipt.id for receipt in receipts] == [2, 3]
            gate.clear()
            await broker.publish("orders", 4)
            with pytest.raises(Refusal, match="queue_full"):
                await broker.publish("orders", "too late")
            metrics = broker.metrics("orders")
            gate.set()
            await broker.drained()
        assert heard.payloads == [1, 2, 3, 4]
        outcomes = [event.outcome for event in heard.of(EventName.BACKPRESSURE)]
        assert outcomes == [Outcome.BLOCKED] * 4 + [Outcome.REJECTED]
        assert (metrics.published_count, metrics.rejected_count, metrics.queue_length) == (4, 1, 1)
        assert metrics.blocked_count == 4
        assert impatient.cancelled()

    play(scene)


def test_a_place_that_was_given_to_a_publisher_who_gave_up_is_not_lost() -> None:
    async def scene() -> None:
        async with AsyncBroker(max_queue_size=1, on_full=OnFull.BLOCK) as broker:
            pull = broker.subscribe_pull("orders", "worker")
            await broker.publish("orders", 1)
            second = asyncio.ensure_future(broker.publish("orders", 2))
            await asyncio.sleep(0)
            assert pull.take() is not None
            pull.ack()  # the place goes to the second publisher ...
            second.cancel()  # ... who leaves in the same moment
            await asyncio.sleep(0)
            assert (await asyncio.wait_for(broker.publish("orders", 3), 1.0)).status == "QUEUED"

    play(scene)


@pytest.mark.parametrize("on_full", [OnFull.REJECT, OnFull.DROP_OLDEST, OnFull.OVERFLOW])
def test_the_other_policies_never_make_a_publisher_wait(on_full: OnFull) -> None:
    async def scene() -> None:
        begun = asyncio.get_running_loop().time()
        async with AsyncBroker() as broker:
            broker.configure("orders", pressure=Backpressure(on_full, 2, 2))
            broker.subscribe_pull("orders", "worker")
            answers = await asyncio.gather(*(broker.publish("orders", n) for n in range(6)), return_exceptions=True)
        taken = [answer for answer in answers if isinstance(answer, Receipt)]
        assert len(taken) == {OnFull.REJECT: 2, OnFull.DROP_OLDEST: 6, OnFull.OVERFLOW: 4}[on_full]
        assert asyncio.get_running_loop().time() == begun

    play(scene)


def test_closing_waits_for_tries_under_way_and_cancels_what_takes_longer() -> None:
    async def scene() -> None:
        done: list[str] = []

        def sleeper(name: str, seconds: float) -> Callable[[Message], Awaitable[None]]:
            async def handle(message: Message) -> None:
                await asyncio.sleep(seconds)
                done.append(name)

            handle.__name__ = name
            return handle

        heard: list[Event] = []
        async with AsyncBroker(grace_s=2.0) as broker:
            broker.add_listener(heard.append)
            broker.subscribe("orders", sleeper("quick", 1.0))
            broker.subscribe("orders", sleeper("slow", 60.0))
            await broker.publish("orders", 1)
            await broker.publish("orders", 2)
            await asyncio.sleep(0)
        assert done == ["quick"]
        failed = [event for event in heard if event.event is EventName.FAILED]
        assert [(event.subscriber, event.error) for event in failed] == [
            ("slow", "CancelledError: the try was cancelled")
        ]
        with pytest.raises(HeadgateError, match="async with"):
            await broker.publish("orders", 3)

    play(scene)


def test_closing_tells_publishers_and_others_who_wait() -> None:
    async def scene() -> None:
        async with AsyncBroker(max_queue_size=1, on_full=OnFull.BLOCK) as broker:
            broker.subscribe_pull("orders", "worker")
            await broker.publish("orders", 1)
            waiting = [asyncio.ensure_future(broker.publish("orders", 2)), asyncio.ensure_future(broker.drained())]
            await asyncio.sleep(0)
        for one in waiting:
            with pytest.raises(HeadgateError, match="closed"):
                await one

    play(scene)


def test_subscribing_before_the_loop_runs() -> None:
    broker, recorder = AsyncBroker(), Recorder()
    broker.subscribe("orders", recorder)

    async def scene() -> None:
        async with broker:
            await broker.publish("orders", 1, dedup_key="k")
            assert (await broker.publish("orders", 1, dedup_key="k")).duplicate
            await broker.drained()

    play(scene)
    assert recorder.payloads == [1]


def test_an_injected_clock_is_the_brokers_time() -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        recorder = Recorder()
        async with AsyncBroker(clock=loop, latency=1.5) as broker:
            broker.subscribe("orders", recorder)
            await broker.publish("orders", 1)
            await broker.drained()
        assert recorder.messages[0].created_ts == 1000.0
        assert loop.now() == 1001.5

    play(scene)


def test_a_broker_can_be_opened_again_and_goes_on_with_what_it_held() -> None:
    broker, recorder = AsyncBroker(retry=fixed(3, 10.0)), Recorder()
    fail = failing(1)

    def flaky(message: Message) -> None:
        fail(message)
        recorder.handle(message)

    broker.subscribe("orders", flaky)

    async def scene() -> None:
        async with broker:
            await broker.publish("orders", 1)
            await asyncio.sleep(1.0)
        assert recorder.payloads == []
        async with broker:
            await broker.drained()
        assert recorder.payloads == [1]

    play(scene)


def test_more_room_lets_waiting_publishers_and_the_overflow_queue_in() -> None:
    async def scene() -> None:
        async with AsyncBroker(max_queue_size=1, on_full=OnFull.BLOCK) as broker:
            broker.subscribe_pull("orders", "worker")
            await broker.publish("orders", 1)
            second = asyncio.ensure_future(broker.publish("orders", 2))
            await asyncio.sleep(0)
            broker.configure("orders", pressure=Backpressure(OnFull.OVERFLOW, 2, 5))
            assert (await second).id == 2
            await broker.publish("orders", 3)
            assert broker.metrics("orders").overflow_length == 1
            broker.configure("orders", pressure=Backpressure(OnFull.OVERFLOW, 3, 5))
            metrics = broker.metrics("orders")
            assert (metrics.queue_length, metrics.overflow_length) == (3, 0)

    play(scene)
