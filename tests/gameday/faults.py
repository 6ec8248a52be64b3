"""The faults of a game day: what is done, what mends it, which alerts have to fire. Knows not how they are seen."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.e2e.harness import Role, until
from tests.gameday.fleet import Fleet
from tests.gameday.flood import MEMBER
from tests.gameday.reading import mark_read

FILLER: Final = "filler"
FROZEN_S: Final = 0.8
THAWED_S: Final = 0.3
SLICE_OFF_S: Final = 0.12  # with a tenth of the time most scrapes took more than their second
SLICE_ON_S: Final = 0.04
CHUNK: Final = bytes(1 << 20)

Act = Callable[[Fleet], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """`mend` undoes what `inflict` did; `mended_by` says so in words. `alerts` have to fire, others may."""

    name: str
    mended_by: str
    alerts: tuple[str, ...]
    inflict: Act
    mend: Act


async def _killed(roles: Sequence[Role]) -> None:
    for role in roles:
        role.kill9()


async def _started(roles: Sequence[Role]) -> None:
    for role in roles:
        role.start()


async def _frozen(roles: Sequence[Role]) -> None:
    for role in roles:
        role.signal(signal.SIGSTOP)


async def _thawed(roles: Sequence[Role]) -> None:
    for role in roles:
        role.signal(signal.SIGCONT)


async def _kafka_stopped(fleet: Fleet) -> None:
    assert fleet.kafka is not None
    fleet.kafka.nodes[0].kill9()


async def _kafka_started(fleet: Fleet) -> None:
    assert fleet.kafka is not None
    await asyncio.to_thread(fleet.kafka.nodes[0].restart)


async def _disk_filled(fleet: Fleet) -> None:
    assert fleet.disk is not None
    await asyncio.to_thread(_fill, fleet)
    fleet.flood.start()  # or nothing is written that needs room


def _fill(fleet: Fleet) -> None:
    assert fleet.disk is not None
    with (fleet.disk / FILLER).open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(CHUNK)
        except OSError:
            pass


async def _disk_emptied(fleet: Fleet) -> None:
    assert fleet.disk is not None
    (fleet.disk / FILLER).unlink()
    await fleet.flood.stop()


async def _stutters(fleet: Fleet) -> None:
    fleet.work = asyncio.create_task(_stutter(fleet))


async def _stutter(fleet: Fleet) -> None:
    """Stops all dispatchers for most of the time, while pages of history are asked for."""
    async with fleet.reader() as read, asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        while True:
            await _frozen(fleet.deployment.dispatchers)
            await asyncio.sleep(FROZEN_S)
            await _thawed(fleet.deployment.dispatchers)
            await asyncio.sleep(THAWED_S)


async def _runs_on(fleet: Fleet) -> None:
    assert fleet.work is not None
    fleet.work.cancel()
    await asyncio.wait([fleet.work])
    await _thawed(fleet.deployment.dispatchers)
    if not fleet.work.cancelled():
        fleet.work.result()


async def _floods(fleet: Fleet) -> None:
    fleet.flood.start()


async def _flood_ends(fleet: Fleet) -> None:
    await fleet.flood.stop()


async def _slow(fleet: Fleet) -> None:
    await fleet.flood.join()
    fleet.slow.start()
    fleet.flood.start()


async def _quick(fleet: Fleet) -> None:
    await fleet.flood.stop()
    await fleet.slow.stop()
    await until("the absent member has read", lambda: mark_read(fleet.deployment.ingests[0].url, MEMBER), 30.0)
    await fleet.flood.leave()


async def _throttled(fleet: Fleet) -> None:
    fleet.rush.start()
    fleet.work = asyncio.create_task(_throttle(fleet))


async def _throttle(fleet: Fleet) -> None:
    """Leaves the dispatchers a small share of their time, in slices so short that they answer all the while."""
    while True:
        await _frozen(fleet.deployment.dispatchers)
        await asyncio.sleep(SLICE_OFF_S)
        await _thawed(fleet.deployment.dispatchers)
        await asyncio.sleep(SLICE_ON_S)


async def _unthrottled(fleet: Fleet) -> None:
    await _runs_on(fleet)
    await fleet.rush.stop()


DISPATCHERS_KILLED: Final = Fault(
    "every dispatcher killed", "started again",
    ("HeadgateTargetDown", "HeadgateDispatchersDown"),
    lambda fleet: _killed(fleet.deployment.dispatchers), lambda fleet: _started(fleet.deployment.dispatchers),
)  # fmt: skip

FAULTS: Final = (
    Fault(
        "a dispatcher killed", "started again", ("HeadgateTargetDown",),
        lambda fleet: _killed(fleet.deployment.dispatchers[:1]),
        lambda fleet: _started(fleet.deployment.dispatchers[:1]),
    ),
    DISPATCHERS_KILLED,
    Fault("Kafka stopped", "started again", ("HeadgatePublishErrors",), _kafka_stopped, _kafka_started),
    Fault(
        "a gateway frozen", "continued", ("HeadgateTargetDown", "HeadgateGatewayUnreachable"),
        lambda fleet: _frozen(fleet.deployment.gateways[:1]), lambda fleet: _thawed(fleet.deployment.gateways[:1]),
    ),
    Fault(
        "every gateway frozen", "continued",
        ("HeadgateTargetDown", "HeadgateGatewaysHalfDown", "HeadgateGatewaysLost"),
        lambda fleet: _frozen(fleet.deployment.gateways), lambda fleet: _thawed(fleet.deployment.gateways),
    ),
    Fault(
        "disk of the index full", "room made", ("HeadgateStoreDisk", "HeadgateIndexAway"),
        _disk_filled, _disk_emptied,
    ),
    Fault(
        "a slow client, and a member who never reads", "the client left, the member read and left",
        ("HeadgateLoss", "HeadgateInboxBacklog"), _slow, _quick,
    ),
    Fault(
        "dispatchers that stutter", "they run on", ("HeadgateDeliverySlow", "HeadgateReadsSlow"), _stutters, _runs_on
    ),
    # Late, since it compares with an hour ago, and before the rush, which would raise what it compares with.
    Fault("four times the messages", "it ended", ("HeadgateVolumeTripled",), _floods, _flood_ends),
    Fault(
        "dispatchers slower than the publishers", "they run on, the publishers stop",
        ("HeadgateLogLagUrgent", "HeadgateShardDepthUrgent", "HeadgateShardDepth"), _throttled, _unthrottled,
    ),
    Fault(
        "a topic of 5,001 members", "it was deleted", ("HeadgateLargeTopic",),
        lambda fleet: fleet.crowd.gather(), lambda fleet: fleet.crowd.leave(),
    ),
    Fault(
        "two more sessions a second", "they left", ("HeadgateSessionsForecast",),
        lambda fleet: fleet.guests.come(), lambda fleet: fleet.guests.leave(),
    ),
)  # fmt: skip
