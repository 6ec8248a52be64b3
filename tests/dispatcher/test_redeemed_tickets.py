"""Single-use tickets at the owner of a user's shard."""

import pytest

from dispatcher import redeemed_tickets
from dispatcher.redeemed_tickets import KEPT_MS, RedeemedTickets
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_users import Redeem

NOW = 1_000_000


def ticket(name: str, issued_ms: int = NOW, ttl_ms: int = 30_000) -> Redeem:
    return Redeem(1, "ann", name, issued_ms, issued_ms + ttl_ms)


def refused(tickets: RedeemedTickets, ask: Redeem, now_ms: int = NOW) -> str:
    with pytest.raises(Refusal) as caught:
        tickets.redeem(ask, now_ms)
    return caught.value.code


def test_a_ticket_is_good_once() -> None:
    tickets = RedeemedTickets(NOW)
    tickets.redeem(ticket("a"), NOW)
    tickets.redeem(ticket("b"), NOW)
    for _ in range(3):
        assert refused(tickets, ticket("a"), NOW + 1) == "unauthenticated"


def test_a_ticket_from_before_this_owner_is_refused_for_the_owner_before_may_have_seen_it() -> None:
    tickets = RedeemedTickets(NOW)
    assert refused(tickets, ticket("a", issued_ms=NOW - 1)) == "unauthenticated"
    tickets.redeem(ticket("a", issued_ms=NOW), NOW)


def test_a_used_ticket_stays_used_until_it_has_expired_and_longer() -> None:
    tickets = RedeemedTickets(NOW)
    tickets.redeem(ticket("a"), NOW)
    assert refused(tickets, ticket("a"), NOW + 30_000) == "unauthenticated"
    assert refused(tickets, ticket("a"), NOW + 30_001) == "unauthenticated"
    assert refused(tickets, ticket("late"), NOW + 30_000 + KEPT_MS + 1) == "unauthenticated"
    assert len(tickets) == 0


def test_a_clock_that_is_set_back_makes_no_used_ticket_good_again() -> None:
    tickets = RedeemedTickets(NOW)
    tickets.redeem(ticket("a"), NOW)
    tickets.redeem(ticket("b", issued_ms=NOW + 50_000), NOW + 50_000)
    assert refused(tickets, ticket("a"), NOW + 10) == "unauthenticated"


def test_at_its_bound_nothing_is_forgotten_and_new_tickets_have_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redeemed_tickets, "MAX_REDEEMED", 1_000)
    tickets = RedeemedTickets(NOW)
    for n in range(1_000):
        tickets.redeem(ticket(f"t{n}"), NOW)
    for n in range(1_000, 1_500):
        assert refused(tickets, ticket(f"t{n}")) == "not_ready"
    assert len(tickets) == 1_000 and refused(tickets, ticket("t0")) == "unauthenticated"
    later = NOW + 30_000 + KEPT_MS + 1
    tickets.redeem(ticket("t1500", issued_ms=later), later)
    assert len(tickets) == 1
