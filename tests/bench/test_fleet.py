"""The production services of 5 dispatchers, 20 gateways and 2 ingests in virtual time (`bench.fleet`, small)."""

from itertools import count
from unittest import mock

import pytest

from bench.fleet.__main__ import end
from bench.fleet.fleet import Fleet, Late, Size
from bench.fleet.readers import Socket
from bench.fleet.steps import Plan, Run, Step
from bench.fleet.wires import CountedWire
from headgate.core.wire.link import Message, Messages
from tests.contract.virtual import VirtualLoop

SIZE = Size(dispatchers=5, gateways=20, shards=40, topics=60, readers=200)
PLAN = Plan(killed=2, added=2, restarted=6, rate=50)
SMALL = Size(dispatchers=2, gateways=3, shards=4, topics=10, readers=30)
LITTLE = Plan(killed=1, added=1, restarted=1, rate=50)


def played(size: Size = SIZE, plan: Plan = PLAN) -> Run:
    """Plays a fleet to its end; what was not in time is a fault too."""
    loop = VirtualLoop()
    fleet = Fleet(size, loop)
    run = Run(fleet, plan)
    try:
        loop.run_until_complete(run.play())
    except Late as late:
        fleet.fault(str(late))
    finally:
        end(loop)
    return run


@pytest.fixture(scope="module")
def run() -> Run:
    return played()


def step_of(run: Run, begin: str) -> Step:
    return next(step for step in run.steps if step.name.startswith(begin))


def test_every_reader_gets_every_message_once_while_nodes_die_come_and_restart(run: Run) -> None:
    assert run.fleet.faults == []
    assert len(run.steps) == 10
    accepted = sum(run.fleet.published.values())
    assert accepted > len(run.fleet.topics)
    per_topic = {topic: 0 for topic in run.fleet.topics}
    for reader in run.fleet.readers:
        for topic in reader.topics:
            per_topic[topic] += 1
    assert run.fleet.delivered == sum(run.fleet.published[topic] * readers for topic, readers in per_topic.items())


def test_every_node_has_one_link_to_each_dispatcher(run: Run) -> None:
    assert run.steps[-1].links == {"dispatcher": 22, "gateway": 5, "ingest": 5}


def test_a_message_goes_once_to_each_gateway_that_hosts_a_reader(run: Run) -> None:
    published = step_of(run, "publish")
    assert published.copies <= len(run.fleet.topics) * 7  # each topic has 6 or 7 readers
    assert published.delivered == 400


def test_a_shard_costs_each_gateway_one_announcement_of_topics_users_and_presence(run: Run) -> None:
    kinds = step_of(run, "start and link").kinds
    for kind in ("Attach", "AttachUsers", "AttachPresence"):
        assert kinds[f"gateway {kind}"] == SIZE.shards * SIZE.gateways
    killed = step_of(run, "kill").kinds
    moved = SIZE.shards // SIZE.dispatchers * PLAN.killed
    assert killed["gateway Attach"] == moved * SIZE.gateways


def test_owners_are_told_of_together_when_a_dispatcher_dies(run: Run) -> None:
    ends, left = SIZE.gateways + 2, SIZE.dispatchers - PLAN.killed
    moved = SIZE.shards // SIZE.dispatchers * PLAN.killed
    hints_at_most = left * 2 * ends  # two rounds: each message names all addresses of HINTS_S
    assert step_of(run, "kill").kinds["dispatcher Owners"] <= moved * ends + hints_at_most


def test_nodes_tell_each_other_nothing_when_nothing_happens(run: Run) -> None:
    idle = step_of(run, "idle").kinds
    assert set(idle) <= {"gateway DeliveryReport"}


def test_a_lost_frame_is_seen() -> None:
    write, writes = Socket.write, count(1)

    def dropping(socket: Socket, data: bytes) -> None:
        if not (b'"type":"message"' in data and next(writes) % 20 == 0):
            write(socket, data)

    with mock.patch.object(Socket, "write", dropping):
        assert any("all have it" in fault for fault in played(SMALL, LITTLE).fleet.faults)


def test_a_second_copy_to_a_gateway_is_seen() -> None:
    send = CountedWire.send

    def twice(wire: CountedWire, message: Message) -> None:
        send(wire, message)
        if isinstance(message, Messages):
            send(wire, message)

    with mock.patch.object(CountedWire, "send", twice):
        assert any("copies went to gateways" in fault for fault in played(SMALL, LITTLE).fleet.faults)
