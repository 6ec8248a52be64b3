"""Keeps the shards that this node serves equal to those it should: it claims, starts and stops shards."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from dispatcher.dispatcher import Dispatcher
from dispatcher.dispatcher_options import AssignmentOptions
from dispatcher.lease import BEAT_S
from dispatcher.shard_runner import ShardRunner
from headgate.core.sequencer.claims import Claim, NewestClaim, Plan, agreed_logic, decode_claim, encode_claim, reconcile
from headgate.core.sequencer.marks import Mark, decode_mark, encode_mark
from headgate.core.wire.ids import EPOCH_OFFSET_BITS, make_epoch
from headgate.core.wire.link_hello import Owner
from headgate.core.wire.records import Appended, LogName, Record
from headgate.runtime.ports import Log, LogError, OffsetGone, OwnerGroup, Reader

logger = structlog.get_logger("dispatcher")

INTERVAL_S: Final = 2.0
RETRY_S: Final = 1.0
CLAIM_WAIT_S: Final = 10.0
RECLAIM_S: Final = 1.0  # two nodes that disagree about the assignment must not claim in turns at the speed of the log
RECLAIM_MAX_S: Final = 30.0  # and not for ever: each claim makes the other node restore
CLAIMS_AT_ONCE: Final = 1_000  # of one shard, to pass an epoch that is known from before its claims were lost

NewRunner = Callable[[int, int], ShardRunner]


class Assignment:
    """The reconciliation loop of one node. It is level-triggered: each step looks at the present state alone.

    `run` starts a task for each shard in the task group that it is given.
    """

    def __init__(
        self,
        log: Log,
        group: OwnerGroup,
        mine: Claim,
        dispatcher: Dispatcher,
        new_runner: NewRunner,
        options: AssignmentOptions,
    ) -> None:
        self._log = log
        self._group = group
        self._mine = mine
        self._dispatcher = dispatcher
        self._new_runner = new_runner
        self._options = options
        self._newest: dict[int, NewestClaim] = {}
        self._claiming: Counter[str] = Counter()  # newest claims of each process, by its incarnation
        self._ends: dict[int, int] = {}  # where the claims of a shard ended when `watch` began to read them
        self._read: dict[int, int] = {}  # up to which offset they have been read
        self._runners: dict[int, tuple[ShardRunner, asyncio.Task[None]]] = {}
        self._claim_again: dict[
            int, tuple[float, float]
        ] = {}  # not before this time (s), after a wait of so many seconds
        self._behind: dict[int, int] = {}  # shards whose newest claim is of this node and below the epoch that is known
        self._moved = asyncio.Event()
        self.draining = False

    # -- claims and marks in the log

    async def watch(self, shard: int) -> None:
        """Follows the claims of one shard, until cancelled."""
        while True:
            try:
                bounds = await self._log.bounds(LogName.OWNERSHIP, shard)
                self._ends[shard] = bounds.end
                reader = await self._log.reader(LogName.OWNERSHIP, shard, bounds.first)
                self._read[shard] = bounds.first
                self._moved.set()
                await self._follow(shard, reader)
            except (LogError, OffsetGone) as error:
                if self.draining:
                    return
                logger.warning("claims cannot be read", shard=shard, why=str(error))
                await asyncio.sleep(RETRY_S)

    async def _follow(self, shard: int, reader: Reader) -> None:
        try:
            while True:
                batch = await reader.read(500, 5.0)
                for record in batch.records:
                    self._note(shard, record)
                self._read[shard] = batch.next_offset
                if batch.records:
                    self._moved.set()
        finally:
            await reader.close()

    def _note(self, shard: int, record: Record) -> None:
        mark = decode_mark(record.value)
        if mark is not None:
            if mark.incarnation != self._mine.incarnation:
                self._dispatcher.marked(shard, mark)
            return
        claim, known = decode_claim(record.value), self._newest.get(shard)
        epoch = make_epoch(self._dispatcher.cluster.generation, record.offset)
        if claim is not None and (known is None or epoch > known.epoch):
            is_known = claim.incarnation in self._claiming
            self._newest[shard] = NewestClaim(epoch, claim)
            self._count_claim(claim, known)
            self._dispatcher.claimed(Owner(shard, epoch, claim.address), is_known=is_known)

    def _count_claim(self, claim: Claim, replaced: NewestClaim | None) -> None:
        self._claiming[claim.incarnation] += 1
        if replaced is not None:
            before = replaced.claim.incarnation
            self._claiming[before] -= 1
            if not self._claiming[before]:
                del self._claiming[before]

    async def announce_marks(self) -> None:
        """Appends the newest mark of each served shard from time to time; other nodes compare theirs with it."""
        announced: dict[int, int] = {}
        while True:
            await asyncio.sleep(self._options.mark_s)
            for shard, owner in self._dispatcher.owners.items():
                newest = owner.digests.marks.newest
                if newest is not None and newest[0] != announced.get(shard):
                    announced[shard] = newest[0]
                    mark = Mark(self._mine.node, self._mine.incarnation, *newest)
                    self._log.append(LogName.OWNERSHIP, shard, b"%d.digest" % shard, encode_mark(mark))

    def _claims_are_read(self, shard: int) -> bool:
        """Returns whether all claims from before the watch began have been read."""
        return shard in self._ends and self._read.get(shard, -1) >= self._ends[shard]

    def agreed_logic(self) -> int:
        """Returns the newest logic that the owners of all shards know; 1 while their claims are not all read."""
        shards = self._dispatcher.cluster.shards
        if not all(self._claims_are_read(shard) for shard in range(shards)):
            return 1
        return agreed_logic(self._newest, shards)

    # -- the loop

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Reconciles every INTERVAL_S seconds and at each event, until `draining`."""
        while not self.draining:
            await self._step(tasks)
            await self._pause()

    async def _pause(self) -> None:
        events = (self._moved, self._group.changed, self._dispatcher.newer_epochs.changed)
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, timeout=INTERVAL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._moved.clear()
        self._dispatcher.newer_epochs.changed.clear()
        if self._group.changed.is_set():
            self._dispatcher.lease.confirm()
            self._claim_again.clear()  # a new assignment: this node may be meant to have again what others claimed
        self._group.changed.clear()

    async def keep_lease(self) -> None:
        """Notes that the process runs. After a pause, before any push, stops the shards that others have claimed."""
        lease = self._dispatcher.lease
        while True:
            if not lease.beat():
                logger.warning("this node stood still; it asks who owns its shards")
                await self._stop_what_others_claimed()
                lease.renew()
            await asyncio.sleep(BEAT_S)

    async def _stop_what_others_claimed(self) -> None:
        """Reads the claims of the served shards up to their present ends, and stops the shards with a newer owner.

        A log that does not answer is no evidence: then all shards are kept.
        """
        try:
            async with asyncio.timeout(CLAIM_WAIT_S):
                shards = list(self._runners)
                bounds = await asyncio.gather(*(self._log.bounds(LogName.OWNERSHIP, shard) for shard in shards))
                ends = {shard: found.end for shard, found in zip(shards, bounds, strict=True)}
                while any(self._read.get(shard, -1) < end for shard, end in ends.items()):
                    await self._claims_moved()
        except (LogError, TimeoutError) as error:
            logger.warning("nobody says who owns the shards now", why=str(error) or f"no answer in {CLAIM_WAIT_S} s")
        for shard in reconcile(None, self._newest, self._mine, self._serving()).stop:
            logger.info("shard has another owner", shard=shard)
            await self.stop(shard)

    async def _claims_moved(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def _assigned(self) -> set[int] | None:
        """Returns the shards that this node should own; a partition that somebody added is none."""
        assigned = self._group.assigned()
        return None if assigned is None else {shard for shard in assigned if shard < self._dispatcher.cluster.shards}

    def _serving(self) -> dict[int, int]:
        return {shard: runner.epoch for shard, (runner, _) in self._runners.items()}

    def _plan(self) -> tuple[Plan, set[int]]:
        """Returns what to do now, and the shards that are assigned to this node and whose claims are read."""
        settled = self._dispatcher.lease.settled()  # else the assignment may be of before a pause
        assigned = self._assigned() if settled else None
        known = None if assigned is None else {shard for shard in assigned if self._claims_are_read(shard)}
        return reconcile(known, self._newest, self._mine, self._serving()), known or set()

    async def _step(self, tasks: asyncio.TaskGroup) -> None:
        plan, _ = self._plan()
        refused = self._dispatcher.newer_epochs
        outdated = [shard for shard, epoch in self._serving().items() if epoch < refused.of(shard)]
        for shard in {*plan.stop, *outdated}:
            logger.info("shard has another owner", shard=shard)
            await self.stop(shard)
        for shard in filter(self._may_start, plan.start):
            await self.stop(shard)
            if self._may_start(shard):  # not drained meanwhile, nor claimed by another node
                runner = self._new_runner(shard, self._newest[shard].epoch)
                self._runners[shard] = (runner, tasks.create_task(runner.run(), name=f"shard-{shard}"))
        plan, known = self._plan()  # after slow releases other shards may be this node's
        due = self._due(plan.claim)
        if due and not self.draining:
            await self._claim(due)
        await self._pass_lost_claims(known - set(plan.claim))

    def _may_start(self, shard: int) -> bool:
        """Returns whether the newest claim of a shard is of this node, and no client knows a newer one."""
        newest = self._newest[shard]
        return (
            not self.draining and newest.claim == self._mine and newest.epoch >= self._dispatcher.newer_epochs.of(shard)
        )

    def _due(self, shards: Iterable[int]) -> list[int]:
        """Returns the shards that may be claimed now; of each of them the next claim waits longer."""
        now = asyncio.get_running_loop().time()
        due = [shard for shard in shards if now >= self._claim_again.get(shard, (now, 0.0))[0]]
        for shard in due:
            wait_s = min(max(self._claim_again.get(shard, (0.0, 0.0))[1] * 2, RECLAIM_S), RECLAIM_MAX_S)
            self._claim_again[shard] = (now + wait_s, wait_s)
        return due

    async def _pass_lost_claims(self, mine: set[int]) -> None:
        """Claims shards again whose ownership log lost the claim that clients know, until its epoch is passed.

        A claim that is only not read yet is one of another node: it is waited for.
        """
        known = self._dispatcher.newer_epochs.of
        behind, ends = dict[int, int](), dict[int, int]()
        for shard in [shard for shard in sorted(mine) if self._newest[shard].epoch < known(shard)]:
            with contextlib.suppress(LogError):
                ends[shard] = (await self._log.bounds(LogName.OWNERSHIP, shard)).end
                newest = self._newest[shard]
                if self._read.get(shard, -1) >= ends[shard] and newest.claim == self._mine:
                    behind[shard] = known(shard)
        self._behind = behind
        for shard in self._due(behind):
            epoch = behind[shard]
            logger.error("the ownership log went back", shard=shard, newest=self._newest[shard].epoch, known=epoch)
            generation = self._dispatcher.cluster.generation
            missing = epoch - make_epoch(generation, ends[shard]) + 2
            if epoch >> EPOCH_OFFSET_BITS == generation and not self.draining:
                await self._claim([shard] * min(max(missing, 1), CLAIMS_AT_ONCE))

    async def _claim(self, shards: list[int]) -> None:
        """Appends claims; a claim counts once `watch` has read it back."""
        value = encode_claim(self._mine)
        appends = [self._log.append(LogName.OWNERSHIP, s, str(s).encode(), value) for s in shards]
        done = await asyncio.gather(*appends, return_exceptions=True)  # the log port bounds each
        refused = [(s, r) for s, r in zip(shards, done, strict=True) if isinstance(r, BaseException)]
        if refused:
            logger.warning("claims not acknowledged", shards=[s for s, _ in refused], why=str(refused[0][1]))
            await asyncio.sleep(RETRY_S)
        else:
            await self._read_back({s: a.offset for s, a in zip(shards, done, strict=True) if isinstance(a, Appended)})

    async def _read_back(self, offsets: dict[int, int]) -> None:
        """Waits until each claim has been read back from the log, so that it is not appended twice."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLAIM_WAIT_S):
                while not self.draining and any(self._read.get(s, -1) <= at for s, at in offsets.items()):
                    await self._claims_moved()
        self._moved.set()

    # -- stopping

    async def stop(self, shard: int, *, final: bool = False) -> None:
        """Stops serving one shard; `final` writes a last snapshot first."""
        runner, task = self._runners.pop(shard, (None, None))
        if runner is None or task is None:
            return
        if final:
            runner.drain()
        task.cancel()
        await asyncio.wait({task})  # unlike `await task`, this does not swallow a cancellation of the caller

    async def drain(self) -> None:
        """Claims no more shards, writes final snapshots, releases all shards and leaves the group.

        It leaves after `final_s` seconds at the latest: the next owner then reads more of the log, but need not wait
        for this member's session to end.
        """
        self.draining = True
        self._moved.set()
        stops = [asyncio.ensure_future(self.stop(shard, final=True)) for shard in list(self._runners)]
        done, late = await asyncio.wait(stops, timeout=self._options.final_s) if stops else (set(), set())
        if late:
            logger.warning("final snapshots take too long; the next owners start from older ones", shards=len(late))
        for error in [stop.exception() for stop in done]:
            if error is not None:
                logger.error("a shard did not stop cleanly", why=str(error))
        await self._group.stop()

    def runners(self) -> list[ShardRunner]:
        """Returns the runners of the shards that this node has claimed, live or not."""
        return [runner for runner, _ in self._runners.values()]

    def not_live(self) -> str | None:
        """Returns None when every assigned shard is served and live, else one sentence for the readiness probe."""
        assigned = self._assigned()
        if assigned is None:
            return "no member of the group of owners now"
        parked = [f"{shard}: {runner.why}" for shard, (runner, _) in self._runners.items() if runner.why]
        if parked:
            return f"shard {parked[0]}" + (f" (and {len(parked) - 1} more)" if len(parked) > 1 else "")
        if self._behind:
            shard, epoch = next(iter(self._behind.items()))
            newest = self._newest[shard].epoch
            return f"shard {shard}: the ownership log went back: newest claim at epoch {newest}, clients know {epoch}"
        missing = sorted(shard for shard in assigned if self._dispatcher.api(shard) is None)
        if missing:
            return f"shards {missing} are assigned and not served yet"
        return next((why for runner, _ in self._runners.values() if (why := runner.snapshot_overdue())), None)

    def snapshot_age(self) -> float:
        """Returns for how many seconds the oldest change of a served shard has waited for a snapshot."""
        return max((runner.snapshot_age() for runner, _ in self._runners.values()), default=0.0)

    def window_ids(self) -> int:
        """Returns the ids in the duplicate windows of the served shards."""
        return sum(len(r.owner.shard.window) for r, _ in self._runners.values() if r.owner is not None)

    def lag(self) -> int:
        """Returns the number of records of served shards that are in the log and not applied yet."""
        owners = (runner.owner for runner, _ in self._runners.values())
        return sum(max(o.log_end.end - o.shard.next_offset, 0) for o in owners if o is not None)
