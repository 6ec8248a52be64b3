"""The invariants, checked on what was sent, what the log holds and what everybody was told."""

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from dispatcher.shard import ShardOwner
from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.members import Membership
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import chain_among
from headgate.core.wire.ids import id_text
from tests.core.snapshot_bed import restore
from tests.sim import bounds
from tests.sim.changes import check_changes
from tests.sim.clients import Client
from tests.sim.faults import chunks_of, readable_from
from tests.sim.follow import Follow, Seen
from tests.sim.publishers import Sent
from tests.sim.truth import Numbered

if TYPE_CHECKING:
    from tests.sim.world import World

CHAINS: Final = 3  # snapshot chains of a shard that are restored in one check: the oldest and the newest


class Checker:
    """Looks at a finished run. Each finding names its invariant and the smallest thing that shows it."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._truth = world.truth
        self._truth.read_on()
        self._dead = {(letter.topic_id, letter.id) for letter in self._truth.dead}
        self._told: dict[str, Counter[str]] = {}  # topic -> ids that history tells
        self._readable = {number: readable_from(world, number) for number in range(world.plan.shards)}
        self._places: dict[tuple[str, str], list[Numbered]] = {}  # (topic, message id) -> one an epoch
        self._bodies: dict[tuple[str, int], list[Numbered]] = {}  # (publisher, number)
        for kept in self._truth.messages.values():
            for one in kept:
                self._places.setdefault((one.topic_id, one.id), []).append(one)
                if one.change is not None:
                    continue
                self._bodies.setdefault((one.payload["by"], one.payload["n"]), []).append(one)

    def check(self, histories: dict[str, dict[int, str]]) -> None:
        """Checks everything. `histories` are each topic's messages as the owner tells them: seq -> id."""
        self._told = {topic_id: Counter(told.values()) for topic_id, told in histories.items()}
        for sent in self._sent():
            self._acked(sent)
            self._repeated(sent)
            self._refused(sent)
        self._order()
        self._invented()
        self._dense(histories)
        for node in self._world.dispatchers.values():
            if node.up:
                for number, owner in sorted(node.service.dispatcher.owners.items()):
                    self._restored(f"owner {node.name}", number, owner)
        for number in range(self._world.plan.shards):
            self._snapshots(number)
            bounds.check(self._world, number)
        for client in self._world.clients:
            for follow in client.follows.values():
                self._client(client, follow)
        self._changes()

    def _changes(self) -> None:
        for topic_id, epoch, seq, record_id in self._world.event_acks:
            kept = self._truth.messages.get((topic_id, epoch), [])
            if seq > len(kept) or kept[seq - 1].id != id_text(record_id):
                self._violate("N1", f"{topic_id}: a change was answered seq {seq} of {epoch}, the log says otherwise")
        if self._world.plan.changes:
            check_changes(self._world)

    def _sent(self) -> Iterable[Sent]:
        return chain(*(publisher.sent for publisher in self._world.publishers), self._world.foreign.sent)

    def _found(self, sent: Sent) -> list[Numbered]:
        return self._bodies.get((sent.publisher, sent.number), [])

    def _violate(self, name: str, text: str) -> None:
        self._world.violate(name, text)

    # P: what publishers were promised

    def _acked(self, sent: Sent) -> None:
        """P1: every acked publish gets exactly one seq; a topic deleted in the same moment: a dead letter."""
        if not sent.acks:
            return
        found = self._found(sent)
        if not found:
            if (sent.topic_id, sent.message_id) not in self._dead:
                self._violate("P1", f"{sent} was acked and has no seq: it is not in the log")
            return
        told = self._told.get(sent.topic_id, Counter())
        for one in found:
            if self._is_kept(one) and told[one.id] != 1:
                self._violate("P1", f"{sent} was acked, the log gives it seq {one.seq}, history does not have it")
        for ack in sent.acks:
            if ack.seq and (ack.epoch, ack.seq) not in {(one.epoch, one.seq) for one in found}:
                at = [(one.epoch, one.seq) for one in found]
                self._violate("P1", f"{sent} was answered seq {ack.seq} of epoch {ack.epoch}, the log says {at}")

    def _is_kept(self, one: Numbered) -> bool:
        alive = self._truth.alive.get(one.topic_id) == one.epoch
        return alive and one.offset >= self._readable[one.shard]

    def _repeated(self, sent: Sent) -> None:
        """P2: the same client_msg_id, one seq (in each life of a topic)."""
        epochs = [one.epoch for one in self._found(sent)]
        if len(epochs) != len(set(epochs)):
            self._violate("P2", f"{sent} has {len(epochs)} numbers: {[(o.epoch, o.seq) for o in self._found(sent)]}")
        told = {(ack.epoch, ack.seq) for ack in sent.acks if ack.seq}
        if len({epoch for epoch, _ in told}) != len(told):
            self._violate("P2", f"{sent} was answered with several numbers: {sorted(told)}")

    def _refused(self, sent: Sent) -> None:
        """P3: what was refused, and nothing else, never appears."""
        if not sent.acks and not sent.unknown and self._found(sent):
            at = [(one.epoch, one.seq) for one in self._found(sent)]
            self._violate("P3", f"{sent} was refused ({sent.refusals}) and has a number: {at}")

    def _order(self) -> None:
        """P4: acked before another was sent, before it in seq; a batch's items in their order."""
        by_topic: dict[tuple[str, int], list[tuple[int, Sent]]] = {}
        dead = {letter.id for letter in self._truth.dead}
        for sent in self._sent():
            found = self._found(sent)
            if len(found) == 1 and sent.message_id not in dead:  # else an ack may be of the topic's life before
                by_topic.setdefault((found[0].topic_id, found[0].epoch), []).append((found[0].seq, sent))
        for (topic_id, epoch), kept in by_topic.items():
            first_ack = float("inf")
            earliest: tuple[int, Sent] | None = None
            for seq, sent in sorted(kept, key=lambda pair: -pair[0]):
                if earliest is not None and first_ack < sent.first_at:
                    later = f"{earliest[1]} acked at {first_ack:.3f} has seq {earliest[0]}"
                    self._violate("P4", f"{topic_id}/{epoch}: {later}, {sent} sent at {sent.first_at:.3f} has {seq}")
                if sent.acks and sent.acks[0].at < first_ack:
                    first_ack, earliest = sent.acks[0].at, (seq, sent)

    def _invented(self) -> None:
        """P5: everything with a number was sent by somebody, to this topic."""
        known = {(sent.publisher, sent.number): sent for sent in self._sent()}
        for one in (one for kept in self._truth.messages.values() for one in kept if one.change is None):
            sent = known.get((one.payload["by"], one.payload["n"]))
            if sent is None or sent.topic_id != one.topic_id:
                self._violate("P5", f"{one.topic_id} seq {one.seq}: nobody sent {one.payload}")

    # S: what the sequencer promises

    def _dense(self, histories: dict[str, dict[int, str]]) -> None:
        """S1: seqs 1..n without holes, as the owner tells them."""
        for topic_id, epoch in self._truth.alive.items():
            told = histories.get(topic_id)
            if told is None:
                self._violate("S1", f"topic {topic_id} stands in the log and its owner does not know it")
                continue
            kept = self._truth.messages[topic_id, epoch]
            expected = {one.seq: one.id for one in kept}
            low = min(told, default=len(kept) + 1)
            oldest = next((o.seq for o in kept if o.offset >= self._readable[o.shard]), len(kept) + 1)
            if low > oldest:
                self._violate("H1", f"topic {topic_id}: history begins at {low}, the log keeps {oldest}")
            for seq in range(low, max(len(kept), *told, 0) + 1):
                if told.get(seq) != expected.get(seq):
                    text = f"history has {told.get(seq)}, the log says {expected.get(seq)}"
                    self._violate("S1", f"topic {topic_id} seq {seq} of {len(kept)}: {text}")
                    break
        for topic_id in histories:
            if topic_id not in self._truth.alive:
                self._violate("S1", f"topic {topic_id} is not in the log and its owner tells of it")

    def _restored(self, what: str, number: int, owner: ShardOwner) -> None:
        """S6: an owner that restored is equal to one that never stopped."""
        self._equal(what, number, owner.shard, owner.rows)

    def _snapshots(self, number: int) -> None:
        chunks = chunks_of(self._world, number)
        ends = [chunk.offset for chunk in chunks if chunk.is_end]
        wanted = ends[:1] + ends[-(CHAINS - 1) :]
        for end in sorted(set(wanted)):
            chain = chain_among(chunks, at_most=end)
            if not chain:
                continue
            shard, rows = restore(chain)
            tail = [r for r in self._world.written[number] if r.offset >= shard.next_offset]
            for _ in apply_many(shard, rows, tail):
                pass
            self._equal(f"snapshot at {end}", number, shard, rows)

    def _equal(self, what: str, number: int, shard: Shard, rows: dict[bytes, Row]) -> None:
        whole, expected = self._world.uninterrupted(number)
        name = f"shard {number}, {what}"
        if shard.next_offset != whole.next_offset:
            self._violate("S6", f"{name}: applied up to {shard.next_offset}, the log ends at {whole.next_offset}")
            return
        for key in sorted(rows.keys() | expected.keys()):
            found, wanted = _decided(rows.get(key)), _decided(expected.get(key))
            if found != wanted:
                self._violate("S6", f"{name}, topic {key!r}: {found}, uninterrupted {wanted}")
                return
        if sorted(shard.changed) != sorted(whole.changed) or shard.changed.below != whole.changed.below:
            self._violate("S6", f"{name}: {shard.changed.count} changed messages, uninterrupted {whole.changed.count}")
        if members_of(shard) != members_of(whole) or shard.logic != whole.logic:
            self._violate("S6", f"{name}: members {members_of(shard)}, uninterrupted {members_of(whole)}")
        if shard.digest.value != whole.digest.value or len(shard.window) != len(whole.window):
            self._violate("S6", f"{name}: digest or window differ from an uninterrupted run")

    # D: what subscribers were promised

    def _client(self, client: Client, follow: Follow) -> None:
        """D1: each acked message exactly once, in order, or a gap says so; everybody is caught up at the end."""
        name = f"client {client.name}, topic {follow.topic_id}"
        for seen in follow.seen:
            self._same(name, follow.topic_id, seen)
        if self._world.plan.door_changes:
            self._put_out(name, client, follow)
        for epoch in follow.ends:
            if self._truth.alive.get(follow.topic_id) == epoch:
                self._violate("D1", f"{name}: told that epoch {epoch} was deleted, and it was not")
        for epoch, begin in follow.begins.items():
            self._whole(name, follow, epoch, begin)
        self._at_the_end(name, client, follow)

    def _at_the_end(self, name: str, client: Client, follow: Follow) -> None:
        """D1: everybody who may read is caught up; Z1: nobody else is subscribed."""
        alive = self._truth.alive.get(follow.topic_id)
        if alive is None:
            return
        head = self._truth.head(follow.topic_id)
        if self._world.is_out(client, follow):
            if follow.active:
                self._violate("Z1", f"{name}: still subscribed at the end, and may not read")
            return
        if not follow.active or follow.position is None:
            self._violate("D1", f"{name}: not subscribed at the end (asking: {follow.asking})")
        elif (follow.position[0], follow.expected - 1) != (alive, head):
            at = f"{follow.position[0]}:{follow.expected - 1}"
            self._violate("D1", f"{name}: stands at {at} for ever, the topic at {alive}:{head}")

    def _put_out(self, name: str, client: Client, follow: Follow) -> None:
        """Z2: nobody is put out who might read all the time."""
        doors = self._truth.doors
        for epoch in follow.put_out:
            if not doors.ever_lost(follow.topic_id, epoch, client.name):
                self._violate("Z2", f"{name}: put out of epoch {epoch}, in which it might read all the time")

    def _same(self, name: str, topic_id: str, seen: Seen) -> None:
        kept = self._truth.messages.get((topic_id, seen.epoch), [])
        one = kept[seen.seq - 1] if 1 <= seen.seq <= len(kept) else None
        frame = seen.frame
        if one is None or (one.id, one.ts) != (frame["message_id"], frame["ts"]) or not self._was(one, frame):
            got = frame["message_id"], frame["payload"]
            self._violate("P5", f"{name}: seq {seen.seq} of {seen.epoch} brought {got}, the log has {one}")

    def _was(self, one: Numbered, frame: dict[str, object]) -> bool:
        """Whether a frame has the payload that its message once had; see `check_changes` for more."""
        if self._world.plan.changes and (frame["payload"] is None or "version" in frame):
            return True
        return bool(one.payload == frame["payload"])

    def _whole(self, name: str, follow: Follow, epoch: int, begin: int) -> None:
        """Between what it was promised first and the last it saw of a topic's life, nothing is missing."""
        told = {seen.seq for seen in follow.seen if seen.epoch == epoch}
        for gap in follow.gaps:
            if gap.epoch == epoch:
                told.update(range(gap.first, gap.last + 1))
        missing = [seq for seq in range(begin, max(told, default=begin - 1) + 1) if seq not in told]
        if missing:
            self._violate("D1", f"{name}: epoch {epoch} without seq {missing[:5]}, and no gap says so")


def members_of(shard: Shard) -> dict[bytes, list[tuple[str, Membership]]]:
    """Returns the members of all topics that have had others than their creator."""
    return {key: list(members) for key, members in sorted(shard.members.items())}


def ids_of(frames: Iterable[dict[str, object]]) -> dict[int, str]:
    """Returns seq -> message id of history items."""
    return {int(str(frame["seq"])): str(frame["message_id"]) for frame in frames}


def _decided(row: Row | None) -> Row | None:
    """Returns a row without what does not come from the log."""
    return None if row is None else replace(row, tally=None, heat="")
