"""Edits, redactions and reactions of a run: what they come to by rules so plain that they can be seen to be right.

N1: history, replay from the beginning and whoever was live throughout agree about every message, and with the log. N2:
a replayed message is at least as new as the head that the subscriber was told.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from headgate.core.wire.ids import topic_key
from headgate.core.wire.message_changes import EditMessage, MessageChange, RedactMessage

if TYPE_CHECKING:
    from tests.sim.follow import Follow, Seen
    from tests.sim.world import World

Name = tuple[str, int]  # topic, epoch


class Step(NamedTuple):
    """What event `seq` did to a message: it is at `version` with `payload` now, or is `redacted`."""

    seq: int
    version: int
    payload: Any
    redacted: bool


class Changes:
    """The changes of all messages, in the log's order."""

    def __init__(self) -> None:
        self.steps: dict[tuple[Name, int], list[Step]] = {}
        self.reacting: dict[tuple[Name, int], set[tuple[str, str]]] = {}

    def take(self, name: Name, seq: int, original: Any, change: MessageChange, payload: Any) -> bool:
        """Applies the change that would be event `seq`; false where it takes no seq."""
        now = self.now(name, change.target_seq, original)
        if now.redacted or (isinstance(change, EditMessage) and change.version != now.version):
            return False
        steps = self.steps.setdefault((name, change.target_seq), [])
        if isinstance(change, EditMessage):
            steps.append(Step(seq, now.version + 1, payload, False))
        elif isinstance(change, RedactMessage):
            steps.append(Step(seq, now.version, None, True))
        else:
            reacting = self.reacting.setdefault((name, change.target_seq), set())
            (reacting.discard if change.removed else reacting.add)((change.name, change.actor.user_id))
        return True

    def now(self, name: Name, target: int, original: Any, head: int = 1 << 60) -> Step:
        """Returns a message as it is after event `head`."""
        steps = [step for step in self.steps.get((name, target), []) if step.seq <= head]
        return steps[-1] if steps else Step(0, 1, original, False)

    def counts(self, name: Name, target: int) -> dict[str, int]:
        """Returns how many react how to a message."""
        return counted(self.reacting.get((name, target), set()))

    def payloads(self, name: Name, target: int, original: Any) -> dict[int, Any]:
        """Returns the payload of each version that a message ever had."""
        steps = self.steps.get((name, target), [])
        return {1: original, **{step.version: step.payload for step in steps if not step.redacted}}


def counted(reacting: set[tuple[str, str]]) -> dict[str, int]:
    """Returns how many react how."""
    counts: dict[str, int] = {}
    for name, _ in reacting:
        counts[name] = counts.get(name, 0) + 1
    return counts


def shown(frame: dict[str, Any]) -> Step:
    """Returns what a frame says of its message."""
    return Step(0, frame.get("version", 1), frame["payload"], frame.get("redacted", False))


def check_changes(world: "World") -> None:
    """Checks what owners tell of every message, and what clients make of what they got."""
    for topic_id, frames in world.told.items():
        epoch = world.truth.alive.get(topic_id)
        if epoch is not None:
            _told(world, f"history of {topic_id}", (topic_id, epoch), frames)
            _replayed(world, (topic_id, epoch), frames)
    for client in world.clients:
        for follow in client.follows.values():
            name = f"client {client.name}, topic {follow.topic_id}"
            for seen in follow.seen:
                _seen(world, name, follow.topic_id, seen)
            _folded(world, name, follow)


def _told(world: "World", what: str, name: Name, frames: list[dict[str, Any]]) -> None:
    changes, kept = world.truth.changes, world.truth.messages[name]
    for frame in frames:
        one = kept[frame["seq"] - 1] if frame["seq"] <= len(kept) else None
        if one is None or one.change is not None:
            continue
        now, said = changes.now(name, one.seq, one.payload), shown(frame)
        if (said.payload, said.redacted) != (now.payload, now.redacted):
            world.violate("N1", f"{what} seq {one.seq}: {said}, the log says {now}")
        elif not now.redacted and said.version != now.version:
            world.violate("N1", f"{what} seq {one.seq}: version {said.version}, the log says {now.version}")
        elif not now.redacted and frame.get("reactions", {}) != changes.counts(name, one.seq):
            counts = changes.counts(name, one.seq)
            world.violate("N1", f"{what} seq {one.seq}: reactions {frame.get('reactions')}, the log says {counts}")


def _replayed(world: "World", name: Name, told: list[dict[str, Any]]) -> None:
    for node in world.dispatchers.values():
        owners = node.service.dispatcher.owners.values() if node.up else ()
        for owner in owners:
            if topic_key(name[0]) in owner.rows and told:
                span = owner.history.span(name[1], told[0]["seq"], 1 << 20, 1 << 30)
                frames = [msgspec.json.decode(frame) for frame in span.frames]
                if not span.absent and frames != told[: len(frames)]:
                    at = next(n for n, pair in enumerate(zip(frames, told, strict=False)) if pair[0] != pair[1])
                    world.violate("N1", f"replay of {name} gives {frames[at]}, its history {told[at]}")


def _seen(world: "World", name: str, topic_id: str, seen: "Seen") -> None:
    """A frame shows a version that the message had, and a replayed one a version that is new enough."""
    topic = (topic_id, seen.epoch)
    kept = world.truth.messages.get(topic, [])
    one = kept[seen.seq - 1] if seen.seq <= len(kept) else None
    if one is None:
        return
    if one.change is not None:
        gone = world.truth.changes.now(topic, one.change.target_seq, None, seen.head).redacted
        if gone and seen.seq <= seen.head and seen.frame["payload"] is not None:
            world.violate("N2", f"{name}: event {seen.seq} shows content that was redacted before it was replayed")
        return
    said, changes = shown(seen.frame), world.truth.changes
    if not said.redacted and changes.payloads(topic, one.seq, one.payload).get(said.version) != said.payload:
        world.violate("N1", f"{name}: seq {one.seq} never was {said}")
    if seen.seq <= seen.head:
        least = changes.now(topic, one.seq, one.payload, seen.head)
        if (said.version < least.version and not said.redacted) or (least.redacted and not said.redacted):
            world.violate("N2", f"{name}: replayed {one.seq} as {said}, at head {seen.head} it was {least}")


def _folded(world: "World", name: str, follow: "Follow") -> None:
    """Folds what a client got, as it would, from the first message behind which nothing is missing."""
    epoch = world.truth.alive.get(follow.topic_id)
    if epoch is None or not follow.active or world.is_out_of(follow):
        return
    topic = (follow.topic_id, epoch)
    kept = world.truth.messages[topic]
    frames = {seen.seq: seen.frame for seen in follow.seen if seen.epoch == epoch}
    first = len(kept) + 1
    while first - 1 in frames:
        first -= 1
    states = {seq: shown(frames[seq]) for seq in range(first, len(kept) + 1) if "kind" not in frames[seq]}
    reacting: dict[int, set[tuple[str, str]]] = {seq: set() for seq in states}
    for seq in range(first, len(kept) + 1):
        if frames[seq].get("target_seq") in states:
            _fold(frames[seq], states, reacting)
    for seq, said in states.items():
        now = world.truth.changes.now(topic, seq, kept[seq - 1].payload)
        if (said.payload, said.redacted) != (now.payload, now.redacted):
            world.violate("N1", f"{name}: folds seq {seq} to {said}, the log says {now}")
        elif not now.redacted and counted(reacting[seq]) != world.truth.changes.counts(topic, seq):
            world.violate("N1", f"{name}: folds the reactions to seq {seq} to {counted(reacting[seq])}")


def _fold(frame: dict[str, Any], states: dict[int, Step], reacting: dict[int, set[tuple[str, str]]]) -> None:
    """Applies an event to a message, as a client does."""
    target = frame["target_seq"]
    if frame["kind"] == "redact":
        states[target] = Step(0, states[target].version, None, True)
    elif frame["kind"] == "reaction":
        change = reacting[target].discard if frame["removed"] else reacting[target].add
        change((frame["name"], frame["publisher_id"]))
    elif frame["version"] > states[target].version and not states[target].redacted:
        states[target] = Step(0, frame["version"], frame["payload"], False)
