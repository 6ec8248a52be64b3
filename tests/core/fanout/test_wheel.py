"""The timing wheel: never early by more than its turn, never late by more than a tick."""

import random

from headgate.core.fanout.wheel import SLOTS, TICK_S, Wheel


class Item:
    def __init__(self, due: float) -> None:
        self.due = due

    def visit(self, now: float) -> float | None:
        return None


def test_everything_comes_at_its_time() -> None:
    chance = random.Random(1)
    wheel: Wheel[Item] = Wheel(500.0)
    now = 500.0
    items = [Item(500.0 + chance.random() * 60) for _ in range(500)]
    for item in items:
        wheel.add(item, item.due)
    came: dict[Item, float] = {}
    while now < 562:
        now += TICK_S
        for found in wheel.advance(now):
            assert isinstance(found, Item)
            came[found] = now
    assert len(came) == 500
    assert all(0 <= came[item] - item.due <= 2 * TICK_S for item in items)


def test_what_is_due_in_the_past_comes_at_the_next_tick() -> None:
    wheel: Wheel[Item] = Wheel(0.0)
    item = Item(-5.0)
    wheel.add(item, item.due)
    assert wheel.advance(TICK_S) == [item]
    assert wheel.advance(2 * TICK_S) == []


def test_a_slot_is_used_again_in_each_turn() -> None:
    wheel: Wheel[Item] = Wheel(0.0)
    for turn in range(3):
        now = turn * SLOTS * TICK_S
        item = Item(now + 1.0)
        wheel.add(item, item.due)
        assert wheel.advance(now + 2.0) == [item]


def test_what_is_due_beyond_a_turn_comes_early_and_a_long_sleep_loses_nothing() -> None:
    wheel: Wheel[Item] = Wheel(0.0)
    far, near = Item(1_000.0), Item(10.0)
    wheel.add(far, far.due)
    wheel.add(near, near.due)
    assert set(wheel.advance(SLOTS * TICK_S * 3)) == {far, near}
    assert wheel.advance(SLOTS * TICK_S * 3) == []


def test_what_is_due_beyond_a_turn_is_not_visited_before_the_turn_is_over() -> None:
    wheel: Wheel[Item] = Wheel(0.0)
    far = Item(1_000.0)
    wheel.add(far, far.due)
    for tick in range(1, SLOTS - 1):
        assert wheel.advance(tick * TICK_S) == []
    assert wheel.advance((SLOTS - 1) * TICK_S) == [far]


def test_a_sleep_of_a_whole_turn_skips_no_slot() -> None:
    wheel: Wheel[Item] = Wheel(0.0)
    items = [Item(tick * TICK_S) for tick in range(SLOTS - 1)]
    for item in items:
        wheel.add(item, item.due)
    assert set(wheel.advance(SLOTS * TICK_S)) == set(items)
