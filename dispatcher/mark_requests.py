"""Says what a mark of a user in a topic means: how far it is, and how many messages the topic had up to there."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from dispatcher.log_end import refuse_late
from dispatcher.message_counts import CountFrom, MessageCounts
from dispatcher.reading import Reading
from dispatcher.shard import Destination, ShardOwner
from headgate.core.sequencer.rows import Row
from headgate.core.wire import rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import id_text, topic_key
from headgate.core.wire.link_inbox import ResolvedMark, ResolveMark

RETRY_MS: Final = 1_000


class MarkRequests:
    """Answers them for one shard; each of the `handlers` raises Refusal.

    `again` handles a request once more when its link has room, `answer_with` with another handler, at once.
    """

    def __init__(
        self,
        owner: ShardOwner,
        reading: Reading,
        again: Callable[[Destination, ResolveMark], None],
        answer_with: Callable[[Callable[..., None], Destination, ResolveMark], None],
    ) -> None:
        self._owner = owner
        self._reading = reading
        self._counts = MessageCounts(owner.history)
        self._again = again
        self._answer_with = answer_with
        self.handlers: Mapping[type, Callable[..., None]] = {ResolveMark: self._resolve}

    def _resolve(self, peer: Destination, ask: ResolveMark, *, at_end: bool = False) -> None:
        row = self._row(ask)
        seq = self._seq_of(ask, row) if ask.message_id else ask.seq
        if seq is None and not at_end:
            self._look_at_end(peer, ask)
            return
        if seq is None:
            raise _unknown(ask) if self._owner.history.complete else _not_yet("the history of this shard is not whole")
        if seq < 0:
            raise Refusal("bad_request", "a mark needs a seq from 0, or a message id")
        count = self._counts.begin(row, min(seq, row.seq))
        if count is None:
            self._wait_for_history(peer, ask, row)
        else:
            self._count(row.epoch, min(seq, row.seq), count, peer, ask)

    def _row(self, ask: ResolveMark) -> Row:
        """Returns the topic, of which the caller has to be a member who may read it. Raises Refusal."""
        row = self._owner.rows.get(topic_key(ask.topic_id))
        if row is None:
            raise rights.unknown_topic(ask.topic_id)
        role = self._owner.shard.role(topic_key(row.topic_id), row, ask.caller.user_id)
        if role is None:
            raise rights.unknown_topic(ask.topic_id)
        rights.require(rights.may_subscribe(ask.caller, row, role), ask.caller, row, role, "mark messages of")
        if row.ephemeral:
            raise Refusal("not_in_profile", f"topic {row.topic_id} is ephemeral: nothing of it is kept")
        return row

    def _seq_of(self, ask: ResolveMark, row: Row) -> int | None:
        """Returns the seq of a message, None where it is unknown; an event has its own place. Raises Refusal."""
        seq = self._owner.history.seq_of(ask.message_id, row.epoch)
        if seq is not None:
            first, is_known = self._reading.kept(row)
            if is_known and seq < first:
                raise _unknown(ask)
        return seq

    def _look_at_end(self, peer: Destination, ask: ResolveMark) -> None:
        """Looks for a message again once all that is in the log now is applied: its publisher may have just got 200."""

        def again(applied: bool) -> None:
            self._answer_with(partial(self._resolve, at_end=True) if applied else refuse_late, peer, ask)

        if not self._owner.log_end.wait(peer, again):
            raise _not_yet("too many wait for the end of this shard's log")

    def _wait_for_history(self, peer: Destination, ask: ResolveMark, row: Row) -> None:
        if self._owner.history.crowded:
            raise _not_yet("too many wait for this shard's history")
        self._owner.history.wait(row.epoch, peer, lambda: self._again(peer, ask))

    def _count(self, epoch: int, seq: int, count: CountFrom, peer: Destination, ask: ResolveMark) -> None:
        """Counts one slice, and answers after the last. Raises Refusal."""
        if self._owner.closed:
            raise _not_yet(f"shard {self._owner.number} was given up")
        row = self._row(ask)
        if row.epoch != epoch:
            raise rights.unknown_topic(ask.topic_id)  # it was recreated meanwhile
        found = self._counts.step(row, count)
        if found is None:
            self._again(peer, ask)
        elif isinstance(found, CountFrom):
            asyncio.get_running_loop().call_soon(self._count_on, epoch, seq, found, peer, ask)
        else:
            peer.send(ResolvedMark(ask.req, row.topic_id, epoch, seq, found))

    def _count_on(self, epoch: int, seq: int, count: CountFrom, peer: Destination, ask: ResolveMark) -> None:
        if peer.open:
            self._answer_with(partial(self._count, epoch, seq, count), peer, ask)


def _unknown(ask: ResolveMark) -> Refusal:
    return Refusal("message_not_found", f"there is no message {id_text(ask.message_id)} in topic {ask.topic_id}")


def _not_yet(why: str) -> Refusal:
    return Refusal("not_ready", why, retry_after_ms=RETRY_MS)
