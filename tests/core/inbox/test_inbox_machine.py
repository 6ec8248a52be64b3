"""Inboxes against the model, and faults that it must find."""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from headgate.core.inbox import cursors, topic_heads
from headgate.core.inbox.memberships import Memberships
from headgate.core.inbox.packed_rows import PackedRows
from headgate.core.inbox.read_marks import ReadMarks, StoredMark, mark_key
from headgate.core.inbox.topic_heads import TopicHead, TopicHeads
from headgate.core.wire.inbox_record import HeadEntry, MarkEntry, MembershipRecord
from headgate.core.wire.records import Record
from tests.core.inbox.inbox_machine import InboxMachine

CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def walk(seed: int) -> None:
    """Runs the machine's rules at random: many steps, most of them about one topic and user."""
    rng, machine = Random(seed), InboxMachine()
    machine.begin()
    for _ in range(60):
        step(machine, rng)
        machine.agrees_with_the_records()


def step(machine: InboxMachine, rng: Random) -> None:
    topic, user, device = rng.choice("tttu"), rng.choice(["ann", "ann", "bob"]), rng.choice(["phone", "phone", "web"])
    kinds = [rng.random() < 0.5 for _ in range(3)]
    steps: list[tuple[int, Callable[[], None]]] = [
        (4, lambda: machine.use(topic, user, device, rng.random(), kinds[0], kinds[1])),
        (3, lambda: machine.publish(topic, kinds, kinds[0])),
        (5, lambda: machine._deliver(rng.choice(machine.made))),
        (1, machine.deliver_all),
        (1, machine.write_snapshot),
        (1, lambda: machine.crash(kinds[0])),
        (1, machine.sweep),
        (1, lambda: machine.create(topic, user)),
        (1, lambda: machine.create_again(topic, user)),
        (1, lambda: machine.delete(topic)),
        (2, lambda: machine.join(topic, user)),
        (1, lambda: machine.leave(topic, user)),
        (1, lambda: machine.heat(topic)),
    ]
    rng.choices([each for _, each in steps], [weight for weight, _ in steps])[0]()


def test_inboxes_are_what_the_records_say_and_in_the_end_what_the_world_says() -> None:
    run_state_machine_as_test(
        InboxMachine,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=CHECKS,
            derandomize=True,
            database=None,
        ),
    )


def test_long_histories_too() -> None:
    for seed in range(30):
        walk(seed)


def _events_count(patch: pytest.MonkeyPatch) -> None:
    """Edits are counted as unread."""
    merge = TopicHeads.merge
    patch.setattr(
        TopicHeads,
        "merge",
        lambda rows, entry, record: merge(rows, msgspec.structs.replace(entry, n=entry.seq), record),
    )


def _cursor_goes_back(patch: pytest.MonkeyPatch) -> None:
    """The newest record of a cursor wins, not the maximum."""
    patch.setattr(cursors, "merged", lambda known, found: found)


def _mark_goes_back(patch: pytest.MonkeyPatch) -> None:
    """The newest record of a read mark wins, not the maximum."""

    def last(rows: ReadMarks, entry: MarkEntry, ts: int) -> tuple[bytes, bool]:
        key = mark_key(entry.user_id, entry.topic_id)
        rows.load(key, msgspec.msgpack.encode(StoredMark(entry.epoch, entry.seq, entry.n, ts // 1_000)))
        return key, True

    patch.setattr(ReadMarks, "merge", last)


def _head_of_before(patch: pytest.MonkeyPatch) -> None:
    """A recreated topic has the head of the one before: the higher seq wins."""
    patch.setattr(topic_heads, "_place", lambda head: (head.seq, head.epoch, head.gone))


def _members_of_before(patch: pytest.MonkeyPatch) -> None:
    """Whoever was a member before a topic was recreated still is."""
    patch.setattr(TopicHead, "ends", lambda head, epoch: head.gone and head.epoch == epoch)


def _gone_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A late head of a deleted topic brings it back."""
    patch.setattr(topic_heads, "_place", lambda head: (head.epoch, head.seq))


def _still_sees(patch: pytest.MonkeyPatch) -> None:
    """Who left stays a member."""
    merge = Memberships.merge

    def deaf(rows: Memberships, user_id: str, found: MembershipRecord) -> bytes | None:
        return merge(rows, user_id, found) if found.role else None

    patch.setattr(Memberships, "merge", deaf)


def _late_join_wins(patch: pytest.MonkeyPatch) -> None:
    """Nothing stays of one who left: a late record makes him a member again."""
    merge = Memberships.merge

    def forgetful(rows: Memberships, user_id: str, found: MembershipRecord) -> bytes | None:
        key = merge(rows, user_id, found)
        if key is not None and not found.role:
            rows.drop(user_id, found.topic_id)
        return key

    patch.setattr(Memberships, "merge", forgetful)


def _last_bundle_wins(patch: pytest.MonkeyPatch) -> None:
    """A late bundle moves a head back."""

    def last(rows: TopicHeads, entry: HeadEntry, record: Record) -> tuple[bytes, bool]:
        key = topic_heads.head_key(entry.topic_id)
        place = entry.epoch, entry.seq, entry.n, entry.ts, record.offset, record.ts // 1_000
        rows.load(key, msgspec.msgpack.encode(TopicHead(*place, entry.hot, entry.gone, True)))
        return key, True

    patch.setattr(TopicHeads, "merge", last)


def _not_in_snapshots(patch: pytest.MonkeyPatch) -> None:
    """Heads are in no snapshot."""
    keys = PackedRows.keys

    def fewer(rows: PackedRows[Any], size: int) -> Any:
        return iter(()) if isinstance(rows, TopicHeads) else keys(rows, size)

    patch.setattr(PackedRows, "keys", fewer)


def _swept_too_soon(patch: pytest.MonkeyPatch) -> None:
    """A head ends as soon as nobody is a member, and with it what it says about late memberships."""
    expire = TopicHeads.expire
    patch.setattr(
        TopicHeads, "expire", lambda rows, now, keep, has_members: expire(rows, now + 99 * keep, keep, has_members)
    )


FAULTS = [
    *(_events_count, _cursor_goes_back, _mark_goes_back, _head_of_before, _members_of_before, _gone_is_forgotten),
    *(_still_sees, _late_join_wins, _last_bundle_wins, _not_in_snapshots, _swept_too_soon),
]


@pytest.mark.parametrize("plant", FAULTS)
def test_planted_faults_are_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        for seed in range(60):
            walk(seed)
