"""Planted bugs: shortcuts that are forbidden, each a patch of a production class for the length of a run."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple
from unittest import mock

from dispatcher.fences import Fences
from dispatcher.old_snapshots import OldSnapshots
from dispatcher.pointers import Pointers
from dispatcher.shard import Destination, ShardOwner
from dispatcher.shard_api import ShardApi
from dispatcher.shard_presence import ShardPresence
from headgate.core.fanout.flush import Flush
from headgate.core.fanout.local_users import LocalUsers
from headgate.core.sequencer import message_events, snapshot
from headgate.core.sequencer.members import Members
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import MAX_OFFSET
from headgate.core.sequencer.window import Window
from headgate.core.wire import link
from headgate.core.wire.control import Config
from headgate.core.wire.ids import topic_key
from headgate.core.wire.message_changes import MessageChange
from headgate.core.wire.records import Appended, LogName, Record
from headgate.core.wire.verdict import Code, Verdict
from headgate.runtime.appender import Appender
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.ports import Clock, Link, Log
from tests.sim.ack_bugs import CursorBeforeAck, ForgottenFailure, JumpsTheQueue, PassesBeforeTheLetter, TwoTimers
from tests.sim.nodes import SimLog
from tests.sim.plan import ACKS, EDITS, HEAVY, MEMBERS, MONTH, WIDE, crowd, draw
from tests.sim.world import Bugs, Scene


class StaysInTheLists(Bugs):
    """An owner keeps the users of a gateway that does not come back."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the end of the grace."""
        with mock.patch.object(ShardPresence, "_give_up", lambda presence, name: None):
            yield


class NotAnnouncedAgain(Bugs):
    """A gateway tells a new owner nothing of the users it has."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the gateway's side."""
        with mock.patch.object(LocalUsers, "attach", lambda users, shard: None):
            yield


class _EagerAppender(Appender):
    """Answers at once with the place a record will probably get."""

    def __init__(self, log: Log, clock: Clock) -> None:
        super().__init__(log, clock)
        assert isinstance(log, SimLog)
        self._node = log
        self._time = clock

    def append(self, shard: int, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        """Hands over, and does not wait."""
        real = super().append(shard, key, value)
        if real.done():
            return real
        real.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        eager: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        eager.set_result(Appended(self._node.end_of(LogName.MESSAGES, shard), self._time.wall_ms()))
        return eager


class AckBeforeAppend(Bugs):
    """Ingest acknowledges what it has handed over, before the log has it."""

    def appender(self, log: Log, clock: Clock) -> Any:
        """Returns the eager one."""
        return _EagerAppender(log, clock)


class AttachLive(Bugs):
    """An owner attaches a gateway at the head of its topics, instead of at the gateway's cursors."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the owner's side of attaching."""
        attach = ShardApi._attach

        def live(self: ShardApi, peer: Destination, message: link.Attach) -> None:
            rows = self._owner.rows
            for topic in message.topics:
                row = rows.get(topic_key(topic.topic_id))
                topic.cursor = row.seq if row is not None else topic.cursor
            attach(self, peer, message)

        with mock.patch.object(ShardApi, "_attach", live):
            yield


class NumberWhenHeard(Bugs):
    """An owner numbers a topic's messages only while somebody is subscribed."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches what the owner does with records."""
        take = ShardOwner.take

        def lazy(self: ShardOwner, records: Sequence[Record]) -> None:
            heard: list[Record] = []
            for record in records:
                row = self.rows.get(record.key or b"")
                is_message = (record.value or b"")[5:6] in (b"\x01", b"\x02")
                if row is None or not is_message or self.routes.count(row.topic_id):
                    heard.append(record)
            take(self, heard)
            self.shard.next_offset = records[-1].offset + 1 if records else self.shard.next_offset

        with mock.patch.object(ShardOwner, "take", lazy):
            yield


class StaleAnswers(Bugs):
    """A directory takes an old owner's answer after it has linked the new one. Was there once, and found by a seed."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches away the refusal of what is under way to an owner that has a successor."""
        refuse = LinkDirectory._refuse

        def lenient(self: LinkDirectory, lost: Callable[[Any], bool], why: str) -> None:
            if why != "it has another owner":
                refuse(self, lost, why)

        with mock.patch.object(LinkDirectory, "_refuse", lenient):
            yield


class EndlessChunk(Bugs):
    """A chunk of a snapshot is as large as what it holds (C1): some batches make one that the log does not take."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the bound away."""
        with mock.patch("headgate.core.sequencer.chunk_builder.ChunkBuilder._make_room", lambda chunks, size: iter(())):
            yield


class CountOffsets(Bugs):
    """Unkeyed ids leave the window by offsets, as if a record were one message (C3)."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the rule of leaving."""

        def enter(window: Window, log_ms: int, config: Config) -> None:
            lane = window._unkeyed
            while lane.blocks and lane.blocks[-1].last - lane.blocks[0].last > config.dedup_unkeyed_ids:
                window._drop_first(lane)

        with mock.patch.object(Window, "enter", enter):
            yield


class ByTimeAlone(Bugs):
    """Unkeyed ids leave the window by log time alone (H5): a clock that was ahead keeps them for ever."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the rule of leaving."""

        def enter(window: Window, log_ms: int, config: Config) -> None:
            lane = window._unkeyed
            while lane.blocks and log_ms - lane.blocks[0].last_ms > config.dedup_unkeyed_ms:
                window._drop_first(lane)

        with mock.patch.object(Window, "enter", enter):
            yield


class ThreeBases(Bugs):
    """The three newest bases are kept, whatever the message log still holds (H1)."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches what old snapshots are measured by."""
        drop = OldSnapshots.drop

        async def blindly(self: OldSnapshots, first: int) -> None:
            await drop(self, MAX_OFFSET)

        with mock.patch.object(OldSnapshots, "drop", blindly):
            yield


class ForgottenEpoch(Bugs):
    """A directory forgets the highest epoch of a shard with the link to its owner (M5)."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the loss of a link."""
        lost = LinkDirectory._lost

        def forgetting(self: LinkDirectory, shard: int, wire: Link) -> None:
            lost(self, shard, wire)
            if shard not in self._served:
                self._highest.pop(shard, None)

        with mock.patch.object(LinkDirectory, "_lost", forgetting):
            yield


class NoFence(Bugs):
    """The owner applies a removal and tells no gateway."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the sending away."""
        with mock.patch.object(Fences, "_send", lambda fences, fence, hosts: None):
            yield


class UnfencedAttach(Bugs):
    """A new owner does not tell a gateway of the fences that the old one could not send."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the comparison at the attach."""
        with mock.patch.object(Fences, "admits", lambda fences, gateway, topic, row: True):
            yield


class ForgottenLeave(Bugs):
    """A leave is applied live and not restored from a snapshot."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches what a snapshot's entries do."""
        take = snapshot._take_members

        def joins_only(members: dict[bytes, Members], entries: Iterable[snapshot.MemberEntry]) -> None:
            take(members, [entry for entry in entries if entry.membership is not None])

        with mock.patch.object(snapshot, "_take_members", joins_only):
            yield


class AppliedTwice(Bugs):
    """A repeated change of a message is applied again."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the look into the window, and the comparison of versions with it."""

        def decide(shard: Shard, key: bytes, row: Row, change: MessageChange) -> Verdict:
            return message_events._CHANGED

        with (
            mock.patch.object(message_events, "window_key", lambda record_id, epoch: _Nowhere()),
            mock.patch.object(message_events, "_decide", decide),
            mock.patch.object(Window, "add", _no_objects(Window.add)),
        ):
            yield


class _Nowhere:
    """A key that is never in a window."""

    def __xor__(self, other: object) -> "_Nowhere":
        return self


def _no_objects(add: Callable[..., None]) -> Callable[..., None]:
    def adding(window: Window, key: object, *rest: Any) -> None:
        if isinstance(key, int):
            add(window, key, *rest)

    return adding


class StaleVersion(Bugs):
    """An edit is accepted whatever version it was made of."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the comparison away."""
        decide = message_events._decide

        def lenient(shard: Shard, key: bytes, row: Row, change: MessageChange) -> Verdict:
            verdict = decide(shard, key, row, change)
            return message_events._CHANGED if verdict.code == Code.CONFLICT else verdict

        with mock.patch.object(message_events, "_decide", lenient):
            yield


class StaleRing(Bugs):
    """A gateway does not take back from its rings what was redacted or edited."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the amendment away."""
        with mock.patch.object(Flush, "amend", lambda flush, feed, message: None):
            yield


class NoPointers(Bugs):
    """A snapshot does not wait for the pointers before it, and they are late."""

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Patches the wait away, and lets pointers be written after the snapshot."""

        async def safe(pointers: Pointers) -> None: ...

        with mock.patch.object(Pointers, "safe", safe), mock.patch("dispatcher.pointers.FLUSH_S", 5.0):
            yield


class Planted(NamedTuple):
    """A bug, the invariant it breaks, what its witness must say, and the few seeds of a scene that show it."""

    bug: Bugs
    invariant: str
    says: str
    seeds: Sequence[int]
    scene: Scene = draw


PLANTED: Final = {
    "acknowledge before the append": Planted(AckBeforeAppend(), "P1", "it is not in the log", range(5, 30)),
    "attach live instead of from the cursor": Planted(AttachLive(), "D1", "for ever", range(17, 30)),
    "number only when somebody subscribes": Planted(NumberWhenHeard(), "S6", "uninterrupted", range(4)),
    "a chunk without a bound": Planted(EndlessChunk(), "R1", "entries in a chunk", range(WIDE, WIDE + 7)),
    "a bound that counts offsets": Planted(CountOffsets(), "R1", "unkeyed ids", (HEAVY, HEAVY + 2)),
    "ids that leave by time alone": Planted(ByTimeAlone(), "R1", "unkeyed ids", (HEAVY, HEAVY + 2)),
    "only three bases": Planted(ThreeBases(), "H1", "", range(MONTH, MONTH + 10, 2)),
    "a forgotten epoch": Planted(ForgottenEpoch(), "O1", "is heard after", range(WIDE + 4, WIDE + 60)),
    "take an old owner's answer": Planted(StaleAnswers(), "D1", "for ever", range(4, 30), crowd),
    "no fence": Planted(NoFence(), "Z1", "came after the client was put out", range(MEMBERS, MEMBERS + 4)),
    "a fence lost with its owner": Planted(UnfencedAttach(), "Z1", "put out", range(MEMBERS + 60, MEMBERS + 100)),
    "a dead gateway stays in the lists": Planted(StaysInTheLists(), "U1", "there are", range(30)),
    "users not announced again": Planted(NotAnnouncedAgain(), "U1", "there are", range(10)),
    "an edit applied twice": Planted(AppliedTwice(), "S1", "the log says", range(EDITS, EDITS + 4)),
    "a stale version accepted": Planted(StaleVersion(), "S1", "the log says", range(EDITS, EDITS + 4)),
    "a redaction missing in the ring": Planted(StaleRing(), "N2", "replayed", range(EDITS, EDITS + 12)),
    "a redelivery that jumps the queue": Planted(JumpsTheQueue(), "A1", "jumps the queue", range(ACKS, ACKS + 6)),
    "a cursor flushed before the ack": Planted(CursorBeforeAck(), "A1", "lost", range(ACKS, ACKS + 6)),
    "a takeover that keeps two timers": Planted(TwoTimers(), "A2", "took over", range(ACKS, ACKS + 6)),
    "a cursor that passes before the letter": Planted(PassesBeforeTheLetter(), "A1", "lost", range(ACKS, ACKS + 30)),
    "a failure that a crash forgets": Planted(ForgottenFailure(), "A1", "attempts", range(ACKS, ACKS + 90)),
    "a snapshot ahead of its pointers": Planted(NoPointers(), "I1", "the inbox of", range(20)),
    "a leave that is not restored": Planted(ForgottenLeave(), "S6", "members", range(MEMBERS, MEMBERS + 4)),
}
