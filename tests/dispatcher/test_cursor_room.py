"""A shard that can hold no more cursors, by their number or their bytes: those that it has move on."""

from typing import Any

import msgspec
import pytest

from headgate.core.inbox import cursors
from headgate.core.wire.link import Refused
from tests.dispatcher.cursors_bed import cursor, cursors_bed, lease


def refused(message: Any, code: str) -> int:
    assert isinstance(message, Refused) and message.code == code
    return message.req


async def test_a_full_shard_moves_the_cursors_it_has_and_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursors, "MAX_ROWS", 2)
    async with cursors_bed() as bed:
        await bed.moved(cursor(1, "u0"), cursor(1, "u1"))
        req = bed.move(0, cursor(2, "u0"), cursor(2, "u2"), cursor(2, "u1"))
        assert refused(bed.found(0), "overloaded") == req
        await bed.moved(cursor(1, "u0"))
        assert bed.stored("u0") == cursor(2, "u0") and bed.stored("u2") is None


async def test_a_full_shard_gives_no_lease_to_whom_it_could_not_store_a_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursors, "MAX_ROWS", 1)
    async with cursors_bed() as bed:
        await bed.moved(cursor(1, "u0"))
        req = bed.open(0, lease("one", 1))
        assert refused(bed.found(0), "overloaded") == req
        bed.open(0)
        assert bed.found(0).cursor is None
        bed.open(0, lease("two", 1, "u0"), "u0")
        assert bed.found(0).cursor == cursor(1, "u0")


async def test_many_devices_do_not_fill_the_memory_of_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cursors_bed() as bed:
        await bed.moved(cursor(1, "u0"))
        monkeypatch.setattr(cursors, "MAX_BYTES", bed.owner.inbox.users.cursors.size)
        for refusable in (msgspec.structs.replace(cursor(1, "u0"), device_id="d" * 128), cursor(1, "u1")):
            req = bed.move(0, refusable, cursor(2, "u0"))
            assert refused(bed.found(0), "overloaded") == req
        await bed.moved(cursor(3, "u0"))
        assert bed.stored("u0") == cursor(3, "u0") and len(bed.owner.inbox.users.cursors) == 1


async def test_a_user_whose_share_is_used_takes_no_room_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cursors_bed() as bed:
        await bed.moved(cursor(1, "u0"))
        monkeypatch.setattr(cursors, "SHARE", 1)
        other = msgspec.structs.replace(cursor(1, "u0"), device_id="other")
        req = bed.move(0, other)
        assert refused(bed.found(0), "limit_reached") == req
        req = bed.open(0, lease("one", 1, "u0", "other"), "u0", "other")
        assert refused(bed.found(0), "limit_reached") == req
        await bed.moved(cursor(2, "u0"), other, cursor(2, "u1"))
        assert (bed.stored("u0"), bed.stored("u1")) == (cursor(2, "u0"), cursor(2, "u1"))
        assert len(bed.owner.inbox.users.cursors) == 2
        bed.open(0, lease("two", 1, "u0"), "u0")
        assert bed.found(0).cursor == cursor(2, "u0")


async def test_who_has_a_lease_stores_its_cursor_though_the_share_is_used_by_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with cursors_bed() as bed:
        bed.open(0, lease("one", 1, "u0"), "u0")
        assert bed.found(0).cursor is None
        monkeypatch.setattr(cursors, "SHARE", 0)
        await bed.moved(cursor(1, "u0"))
        assert bed.stored("u0") == cursor(1, "u0")
