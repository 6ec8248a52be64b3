"""One subscription of a device acknowledges a topic: the newest, wherever it is."""

import pytest

from headgate.core.inbox.leases import Leases, key_of
from headgate.core.wire.link_acks import CursorLease

KEY = key_of("ann", "phone", "t")


def lease(connection: str, opened: int, topic: str = "t") -> CursorLease:
    return CursorLease("ann", "phone", topic, connection, opened)


@pytest.mark.parametrize("newer", [lease("a", 6), lease("c", 5)])
def test_the_newer_holds_in_either_order(newer: CursorLease) -> None:
    older = lease("b", 5)
    for first, second in ((older, newer), (newer, older)):
        leases = Leases[str]()
        assert leases.take("g1", first) is None
        lost = leases.take("g2", second)
        assert lost == ("g1" if first is older else "g2", older)
        assert leases.has("g2" if first is older else "g1", newer)
        assert not leases.has("g1" if first is older else "g2", older)


def test_two_sessions_of_one_gateway_have_one_lease_too() -> None:
    leases = Leases[str]()
    leases.take("g1", lease("a", 1))
    assert leases.take("g1", lease("b", 2)) == ("g1", lease("a", 1))
    assert leases.has("g1", lease("b", 2))


def test_a_lease_that_is_told_again_ends_nothing() -> None:
    leases = Leases[str]()
    leases.take("g1", lease("a", 1))
    assert leases.take("g1", lease("a", 1)) is None
    assert leases.take("g1", lease("a", 2)) is None and leases.has("g1", lease("a", 2))


def test_only_who_holds_a_lease_releases_it() -> None:
    leases = Leases[str]()
    leases.take("g1", lease("a", 1))
    leases.release("g1", KEY, "b")
    leases.release("g2", KEY, "a")
    assert leases.is_held("ann", "phone", "t")
    leases.release("g1", KEY, "a")
    assert not leases.is_held("ann", "phone", "t")
    leases.release("g1", KEY, "a")


def test_a_gateway_that_leaves_takes_its_leases_along_and_no_others() -> None:
    leases = Leases[str]()
    leases.take("g1", lease("a", 1))
    leases.take("g2", lease("a", 1, "u"))
    leases.forget("g1")
    leases.forget("g3")
    assert (leases.is_held("ann", "phone", "t"), leases.is_held("ann", "phone", "u")) == (False, True)
    assert leases.take("g2", lease("z", 0)) is None
