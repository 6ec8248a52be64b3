"""What the topics' owners tell of their past at the end of a run, asked over the production ingest."""

import asyncio
from typing import TYPE_CHECKING, Any, Final

from tests.sim.loop import SimRng
from tests.sim.publishers import Lost, NotSent, call

if TYPE_CHECKING:
    from tests.sim.world import World

TRIES: Final = 200  # history pages asked for, half a second apart while it is not whole


async def histories(world: "World") -> dict[str, list[dict[str, Any]]]:
    """Asks each topic's owner for all it has; topics that are not there are left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    rng = world.rng("history")
    for topic_id in world.plan.topics:
        frames = await _history(world, topic_id, rng)
        if frames is not None:
            found[topic_id] = frames
    return found


async def _history(world: "World", topic_id: str, rng: SimRng) -> list[dict[str, Any]] | None:
    frames: list[dict[str, Any]] = []
    path = f"/api/v1/topics/{topic_id}/messages"
    for _ in range(TRIES):
        after = frames[-1]["seq"] if frames else 0
        try:
            status, answer = await call(world, rng, "i1", "GET", path, "reader", b"", f"limit=1000&after_seq={after}")
        except (Lost, NotSent):
            continue
        if status == 404:
            return None
        if status == 200 and answer["complete"]:
            frames += answer["messages"]
            if not answer["messages"] or frames[-1]["seq"] == answer["last_seq"]:
                return frames
            continue
        await asyncio.sleep(0.5)
    world.violate("H1", f"no whole history of {topic_id}: {status} {str(answer)[:300]}")
    return None
