"""Leases that gateways announce when they attach, and cursors on their way to the log while a session changes place."""

import pytest

from dispatcher import inbox_writer
from headgate.core.wire.link import Refused
from headgate.core.wire.link_acks import AttachCursors, CursorsMoved, ReleaseCursor, ReplaceSubscription
from tests.dispatcher.bed import until
from tests.dispatcher.cursors_bed import cursor, cursors_bed, lease


@pytest.mark.parametrize("first", [0, 1])
async def test_of_two_announced_leases_the_newer_holds_and_the_other_session_ends(first: int) -> None:
    async with cursors_bed() as bed:
        leases = [lease("old", 1), lease("new", 2)]
        for at in (first, 1 - first):
            bed.api.handle(bed.gateways[at], AttachCursors(0, True, True, [leases[at]]))
        assert bed.asked_to_end(0) == ReplaceSubscription(0, lease("old", 1))
        assert bed.gateways[1].sent == [] and bed.owner.leases.has(bed.gateways[1], lease("new", 2))


async def test_a_gateway_that_announces_again_replaces_what_it_announced() -> None:
    async with cursors_bed() as bed:
        one = bed.gateways[0]
        bed.api.handle(one, AttachCursors(0, True, True, [lease("a", 1), lease("b", 1, topic="u")]))
        bed.api.handle(one, AttachCursors(0, True, False, [lease("c", 1, topic="v")]))
        bed.api.handle(one, AttachCursors(0, False, True, [lease("d", 1, topic="w")]))
        assert [bed.owner.leases.is_held("ann", "phone", topic) for topic in "tuvw"] == [False, False, True, True]
        bed.api.handle(one, ReleaseCursor("ann", "phone", "v", "other"))
        bed.api.handle(one, ReleaseCursor("ann", "phone", "w", "d"))
        assert [bed.owner.leases.is_held("ann", "phone", topic) for topic in "vw"] == [True, False]


async def test_who_comes_back_at_once_finds_what_is_still_on_its_way_to_the_log() -> None:
    async with cursors_bed() as bed:
        first = lease("one", 1)
        bed.open(0, first)
        bed.gateways[0].sent.clear()
        bed.move(0, cursor(5, attempts=[(6, 2)]))
        bed.api.handle(bed.gateways[0], ReleaseCursor("ann", "phone", "t", "one"))
        bed.open(1, lease("two", 2))
        assert bed.found(1).cursor == cursor(5, attempts=[(6, 2)])
        await until(lambda: bed.gateways[0].sent)
        assert isinstance(bed.found(0), CursorsMoved)
        assert bed.stored() == cursor(5, attempts=[(6, 2)])


async def test_what_the_log_did_not_take_is_not_on_its_way_any_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cursors_bed() as bed:
        await bed.moved(cursor(2))
        monkeypatch.setattr(inbox_writer, "WAITING", 0)
        bed.move(0, cursor(5))
        refused = bed.gateways[0].sent.pop()
        assert isinstance(refused, Refused) and refused.code == "overloaded"
        assert bed.stored() == cursor(2)
