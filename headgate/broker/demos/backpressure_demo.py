"""Demonstration 5: a full queue, dead letters, and the summary."""

from headgate.broker.demos.demo_run import DemoRun


def run(demo: DemoRun) -> None:
    """A queue of three is offered four; one subscriber fails each time, its dead letters are replayed and purged."""
    broker = demo.open(max_queue_size=3)
    broker.subscribe("orders", demo.handler("billing"))
    broker.subscribe("orders", demo.handler("legacy", fails=9))
    for order in (1, 2, 3, 4):
        demo.publish(broker, "orders", {"order": order})
    broker.advance(10.0)

    for letter in broker.dead_letters():
        demo.say(
            f"dead letter {letter.message_id} of {letter.subscriber}, {letter.attempts} tries: {letter.last_error}"
        )
    demo.say("legacy is repaired: its first dead letter is replayed, to it alone, the rest is purged")
    broker.replay_dead_letter(broker.dead_letters(subscriber="legacy")[0])
    broker.purge_dead_letters("orders")
    broker.advance(1.0)
    demo.summary(broker)
