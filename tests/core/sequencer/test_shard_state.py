"""The table of a shard's life: its ways, and that there are no others."""

import pytest

from headgate.core.sequencer.shard_state import TRANSITIONS, IllegalShardEvent, ShardEvent, ShardLife, ShardState
from headgate.core.wire.errors import HeadgateError

SERVED = (ShardEvent.CLAIM_READ, ShardEvent.RESTORED, ShardEvent.CAUGHT_UP)


def lived(*events: ShardEvent) -> ShardLife:
    life = ShardLife()
    for event in events:
        life.step(event)
    return life


def reachable(start: ShardState) -> set[ShardState]:
    found, todo = {start}, [start]
    while todo:
        new = set(TRANSITIONS[todo.pop()].values()) - found
        found |= new
        todo += new
    return found


def test_a_shard_is_restored_and_catches_up_before_it_is_live() -> None:
    life = ShardLife()
    seen = [life.state]
    for event in (*SERVED, ShardEvent.RELEASE, ShardEvent.WRITTEN):
        life.step(event)
        seen.append(life.state)
    assert seen == [
        ShardState.CLAIMING,
        ShardState.RESTORING,
        ShardState.CATCHING_UP,
        ShardState.LIVE,
        ShardState.DRAINING,
        ShardState.RELEASED,
    ]


def test_only_a_shard_that_has_caught_up_becomes_live() -> None:
    into_live = {
        (state, event)
        for state, events in TRANSITIONS.items()
        for event, after in events.items()
        if after is ShardState.LIVE
    }
    assert into_live == {(ShardState.CATCHING_UP, ShardEvent.CAUGHT_UP)}


@pytest.mark.parametrize("fault", [ShardEvent.FAULT, ShardEvent.LOG_LOST])
@pytest.mark.parametrize("served", range(1, 4))
def test_after_a_fault_a_shard_is_restored_from_the_start(fault: ShardEvent, served: int) -> None:
    after = ShardState.PARKED if fault is ShardEvent.FAULT else ShardState.WAITING
    assert lived(*SERVED[:served], fault).state is after
    assert lived(*SERVED[:served], fault, ShardEvent.RETRY).state is ShardState.RESTORING


def test_an_event_that_the_table_does_not_have_raises_one_error_and_changes_nothing() -> None:
    checked = 0
    for state, events in TRANSITIONS.items():
        for event in set(ShardEvent) - set(events):
            life = lived(*way_to(state))
            with pytest.raises(IllegalShardEvent, match=f"'{event.value}' in state '{state.value}'") as raised:
                life.step(event)
            assert life.state is state
            assert isinstance(raised.value, HeadgateError)
            assert (raised.value.state, raised.value.event) == (state, event)
            checked += 1
    assert checked == len(ShardState) * len(ShardEvent) - sum(map(len, TRANSITIONS.values())) > 0


def way_to(state: ShardState) -> list[ShardEvent]:
    """The shortest events that lead to a state."""
    ways: dict[ShardState, list[ShardEvent]] = {ShardState.CLAIMING: []}
    todo = [ShardState.CLAIMING]
    while state not in ways:
        at = todo.pop(0)
        for event, after in TRANSITIONS[at].items():
            if after not in ways:
                ways[after] = [*ways[at], event]
                todo.append(after)
    return ways[state]


def test_every_state_can_be_reached_and_can_be_left_for_the_release() -> None:
    assert set(TRANSITIONS) == set(ShardState) == reachable(ShardState.CLAIMING)
    assert all(ShardState.RELEASED in reachable(state) for state in ShardState)
    assert TRANSITIONS[ShardState.RELEASED] == {}
