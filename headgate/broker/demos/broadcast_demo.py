"""Demonstration 3: every subscriber gets its own copy, its own attempts and its own order."""

from headgate.broker.demos.demo_run import DemoRun


def run(demo: DemoRun) -> None:
    """Three subscribers, one of them fails once: it alone is tried again. Then a group, whose members share."""
    broker = demo.open()
    broker.subscribe("news", demo.handler("website"))
    broker.subscribe("news", demo.handler("newsletter", fails=1))
    broker.subscribe("news", demo.handler("archive"))
    broker.publish("news", "kettle boils")
    broker.advance(1.0)

    demo.say("two workers join as the group 'press': one of them gets each message, the same one for a key")
    broker.subscribe("news", demo.handler("worker-1"), group="press")
    broker.subscribe("news", demo.handler("worker-2"), group="press")
    for key in ("sport", "weather", "sport"):
        broker.publish("news", f"{key} report", key=key)
    broker.run_until_idle()
