"""What was published, and the invariants that hold between it and what was seen. Must not know any transport.

Each check raises AssertionError that begins with the invariant's name and ends with the smallest
witness. `tests/e2e/test_ledger.py` shows that each of them fails on a planted fault.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tests.e2e.clients import Seen


def dense(topic: str, seqs: Sequence[int], first: int = 1) -> None:
    """S1: seqs rise by exactly one from `first`."""
    for expected, seq in enumerate(seqs, first):
        if seq != expected:
            kind = "repeated or out of order" if seq < expected else "missing"
            raise AssertionError(f"S1 seqs without holes: {topic}: seq {expected} {kind}, got {seq}")


def complete(topic: str, who: str, seen: Sequence[Seen], sent: Sequence[bytes], first: int = 1) -> None:
    """D1: each message that was acknowledged exactly once, in order, with its content; P5: nothing else."""
    dense(f"{topic} at {who}", [message.seq for message in seen], first)
    got = [message.payload for message in seen]
    for number, (have, want) in enumerate(zip(got, sent, strict=False)):
        if have != want:
            raise AssertionError(f"D1 in order and equal: {topic} at {who}: message {number} is {have!r}, not {want!r}")
    if len(got) != len(sent):
        raise AssertionError(f"D1 each exactly once: {topic} at {who}: {len(got)} messages of {len(sent)}")


def same_everywhere(topic: str, seen: Mapping[str, Sequence[Seen]]) -> None:
    """S1 over readers: one (epoch, seq) is one message for everybody."""
    known: dict[tuple[int, int], tuple[str, str]] = {}
    for who, messages in seen.items():
        for message in messages:
            first = known.setdefault((message.epoch, message.seq), (message.message_id, who))
            if first[0] != message.message_id:
                two = f"{first[1]} {first[0]}, {who} {message.message_id}"
                raise AssertionError(f"S1 one seq, one message: {topic} seq {message.seq}: {two}")


def fenced(
    topic: str, who: str, seen: Sequence[tuple[int, str]], order: Sequence[str], fence: int | None, *, short: bool
) -> None:
    """Z1: nothing above the fence; S1 up to it; D1: everything up to it, unless it may end `short` of it.

    `seen` are seqs with message ids, `order` is the topic's history from seq 1 on; without a fence all of it is due.
    """
    last = len(order) if fence is None else fence
    above = [seq for seq, _ in seen if seq > last]
    if above:
        raise AssertionError(f"Z1 nothing above the fence: {topic} at {who}: seq {above[0]}, the fence is at {last}")
    dense(f"{topic} at {who}", [seq for seq, _ in seen])
    for seq, message_id in seen:
        if message_id != order[seq - 1]:
            raise AssertionError(f"S1 one seq, one message: {topic} seq {seq}: {order[seq - 1]}, {who} {message_id}")
    if len(seen) < last and not short:
        raise AssertionError(f"D1 everything up to the fence: {topic} at {who}: {len(seen)} messages of {last}")


def acknowledged_once(topic: str, acked: Mapping[str, str], history: Sequence[Mapping[str, Any]]) -> None:
    """P1: every publish that was answered 200 is in history once. `acked`: what it was -> its message_id."""
    counts: dict[str, int] = {}
    for message in history:
        counts[message["message_id"]] = counts.get(message["message_id"], 0) + 1
    for what, message_id in acked.items():
        if counts.get(message_id, 0) != 1:
            times = counts.get(message_id, 0)
            raise AssertionError(f"P1 answered 200, in history once: {topic}: {what} ({message_id}) {times} times")


def nothing_invented(topic: str, offered: set[str], history: Sequence[str]) -> None:
    """P5: what stands in history was offered, and stands there once (P2)."""
    seen: set[str] = set()
    for what in history:
        if what not in offered:
            raise AssertionError(f"P5 nothing invented: {topic}: {what}")
        if what in seen:
            raise AssertionError(f"P2 one client_msg_id, one seq: {topic}: {what} twice")
        seen.add(what)


def none_of(refused: set[str], log: Sequence[str]) -> None:
    """P3: what was refused never appears."""
    found = sorted(refused & set(log))
    if found:
        raise AssertionError(f"P3 refused never appears: {found[0]} had 503 and is in the log ({len(found)} such)")


def rising(topic: str, numbers: Sequence[int]) -> None:
    """P4: what was acknowledged before another was sent stands before it."""
    for before, after in pairwise(numbers):
        if after <= before:
            raise AssertionError(f"P4 acknowledged before sent keeps order: {topic}: {after} stands after {before}")
