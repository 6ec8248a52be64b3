"""The dead letters of a run, asked over the production ingest at its end, and what each device is owed by then."""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from tests.sim.ackers import Acker, fate_of
from tests.sim.plan import MOST
from tests.sim.publishers import KEEPER, Lost, NotSent, call

if TYPE_CHECKING:
    from tests.sim.world import World

TRIES: Final = 100


async def check(world: "World") -> None:
    """A1: everything was delivered or is one dead letter; nobody else's messages are."""
    if not world.ackers:
        return
    letters = await _all(world)
    for acker in world.ackers:
        mine = [letter for letter in letters if letter["user_id"] == acker.name]
        _settle(world, acker, mine)
    strangers = {letter["user_id"] for letter in letters} - {acker.name for acker in world.ackers}
    if strangers:
        world.violate("A3", f"dead letters of {strangers}, who acknowledge nothing")


def _settle(world: "World", acker: Acker, letters: list[dict[str, Any]]) -> None:
    ledger, name = acker.ledger, f"{acker.name}, {acker.topic_id}"
    head = world.truth.head(acker.topic_id)
    for seq, count in Counter(letter["seq"] for letter in letters).items():
        if count > 1:
            world.violate("A3", f"{name}: {count} dead letters of {seq}")
    for letter in letters:
        seq, attempts = letter["seq"], letter["attempts"]
        fails = fate_of(world.plan.seed, acker.name, seq).failures
        if letter["topic_id"] != acker.topic_id or attempts != MOST or seq > head:
            world.violate("A3", f"{name}: an impossible dead letter: {letter}")
        elif fails < MOST and ledger.tries.get(seq, 0) < MOST:
            world.violate("A3", f"{name}: {seq} is a dead letter after {ledger.tries.get(seq, 0)} tries")
        ledger.settle(seq, only_if_owed=True)
    missing = sorted(set(range(1, head + 1)) - ledger.seen)
    if missing:
        world.violate("A1", f"{name}: lost: never tried: {missing[:5]} of {head}")
    if acker.acked() != head:
        world.violate("A1", f"{name}: stands at {acker.acked()} for ever, the topic at {head}")
    try:
        ledger.nothing_is_due()
    except AssertionError as error:
        world.violate("A1", f"{name}: {error}")


async def _all(world: "World") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    rng, page, status, answer = world.rng("letters"), "", 0, None
    for _ in range(TRIES):
        query = f"limit=1000{page}"
        try:
            status, answer = await call(world, rng, "i1", "GET", "/api/v1/dead-letters", KEEPER, b"", query)
        except (Lost, NotSent):
            continue
        if status == 200:
            found += answer["dead_letters"]
            if answer["next_page"] is None:
                return found
            page = f"&page={answer['next_page']}"
            continue
        await asyncio.sleep(0.5)
    world.violate("A3", f"no list of dead letters: {status} {str(answer)[:300]}")
    return found
