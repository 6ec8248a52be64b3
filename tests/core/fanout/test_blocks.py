"""Blocks on values: who is where, at which message, and that blocks do not become many."""

from collections.abc import Callable

from headgate.core.fanout.blocks import Blocks, Group


def nothing(_data: bytes) -> None:
    """A writer."""


def blocks(*names: str, size: int = 2, sent: int = 0) -> Blocks[str]:
    found: Blocks[str] = Blocks(size)
    for name in names:
        found.add(name, Group.SOCKETS, nothing, sent)
    return found


def members(found: Blocks[str], sent: int = 1 << 40) -> list[list[str]]:
    return [list(block.members) for block in found.behind(sent)]


def test_a_block_takes_so_many_and_one_group() -> None:
    found = blocks("a", "b", "c")
    found.add("s", Group.STREAMS, nothing, 0)
    assert members(found) == [["a", "b"], ["c"], ["s"]] and len(found) == 4 and list(found) == ["a", "b", "c", "s"]


def test_who_comes_later_is_in_no_block_that_has_less() -> None:
    found = blocks("a", sent=1)
    found.add("b", Group.SOCKETS, nothing, 2)
    assert members(found) == [["a"], ["b"]] and (found.cursor("a"), found.cursor("b")) == (1, 2)
    assert members(found, 2) == [["a"]] and found.lowest(9) == 1


def test_an_empty_block_is_none() -> None:
    found = blocks("a", "b")
    assert found.remove("a") and not found.remove("a") and members(found) == [["b"]]
    assert found.remove("b") and members(found) == [] and found.lowest(9) == 9
    found.add("c", Group.SOCKETS, nothing, 0)
    assert members(found) == [["c"]]


def test_a_second_topic_moves_a_socket_but_not_its_cursor() -> None:
    found = blocks("a", "b", sent=3)
    found.add("s", Group.STREAMS, nothing, 3)
    for name in ("a", "s", "nobody"):
        found.share(name)
    assert sorted((name, group) for name, group, _ in found.everyone()) == [
        ("a", Group.SHARED),
        ("b", Group.SOCKETS),
        ("s", Group.STREAMS),
    ]
    assert found.cursor("a") == 3


def test_a_block_is_cut_and_joined_again_once_both_parts_have_the_same() -> None:
    found = blocks("a", "b", "c", "d", size=4)
    (whole,) = found.behind(1)
    part = found.split(whole, 1)
    assert list(part.members) == ["a"] and found.cursor("a") == found.cursor("b") == 0
    part.sent = 1
    found.settle(part)
    assert members(found) == [["b", "c", "d"], ["a"]], "the rest has not got it yet"
    whole.sent = 1
    found.settle(whole)
    assert len(members(found)) == 1 and sorted(members(found)[0]) == ["a", "b", "c", "d"]
    assert all(found.cursor(name) == 1 for name in "abcd") and found.remove("c")


def test_blocks_that_do_not_fit_into_one_stay_two() -> None:
    found = blocks("a", "b", "c", "d", size=3)
    for block in found.behind(1):
        block.sent = 1
        found.settle(block)
    assert sorted(map(len, members(found))) == [1, 3]


def test_what_is_lost_is_lost_for_all() -> None:
    found = blocks("a", "b", "c")
    found.skip(7)
    assert found.behind(7) == [] and found.cursor("c") == 7


def test_however_many_come_and_go_there_are_few_blocks() -> None:
    found, write = blocks(size=8), list[Callable[[bytes], None]]([nothing])[0]
    for turn in range(200):
        for n in range(8):
            found.remove(f"{n}")
            found.add(f"{n}", Group.SOCKETS, write, turn)
        for block in found.behind(turn + 1):
            block.sent = turn + 1
            found.settle(block)
    assert len(members(found)) <= 2
