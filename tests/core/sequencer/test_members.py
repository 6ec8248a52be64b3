"""A topic's members against a plain dict, and what a member costs."""

import tracemalloc
from random import Random

from headgate.core.sequencer.members import CHUNK, Members, Membership
from headgate.core.wire.member_roles import Role


def membership(seq: int, role: Role = Role.MEMBER) -> Membership:
    return Membership(role, seq, seq // 2, 1_700_000_000_000 + seq)


def test_any_order_of_joins_role_changes_and_leaves_equals_a_dict() -> None:
    rng, members, model = Random(5), Members(7), dict[str, Membership]()
    roles = list(Role)
    for step in range(20_000):
        user = f"user-{rng.randrange(CHUNK * 4)}"
        if rng.random() < 0.4:
            members.remove(user)
            model.pop(user, None)
        else:
            found = membership(step, rng.choice(roles))
            members.put(user, found)
            model[user] = found
        assert members.get(user) == model.get(user)
    assert list(members) == sorted(model.items())
    assert members.count == len(model)
    assert members.owners == sum(found.role is Role.OWNER for found in model.values())


def test_pages_meet_without_a_hole_or_a_repeat() -> None:
    members = Members(7)
    users = [f"u{n:05}" for n in range(CHUNK * 3 + 1)]
    for user in users[::2] + users[1::2]:
        members.put(user, membership(1))
    seen: list[str] = []
    while page := members.above(seen[-1] if seen else "", 100):
        seen += [user for user, _ in page]
        assert len(page) <= 100
    assert seen == users
    assert members.above("u00003x", 1)[0][0] == "u00004"
    assert members.above(users[-1], 10) == []


def test_removing_all_leaves_nothing_and_one_can_join_again() -> None:
    members = Members(7)
    for n in range(CHUNK + 2):
        members.put(f"{n:04}", membership(n, Role.OWNER))
    for n in range(CHUNK + 2):
        members.remove(f"{n:04}")
    assert (members.count, members.owners, list(members), members.get("0001")) == (0, 0, [], None)
    members.remove("0001")
    members.put("a", membership(3))
    assert list(members) == [("a", membership(3))]


def test_a_member_costs_less_than_150_bytes() -> None:
    users = [f"user-{n:015}" for n in range(20_000)]
    tracemalloc.start()
    try:
        members = Members(7)
        for user in users:
            members.put(user[:1] + user[1:], membership(1))  # an id of its own, as a record brings it
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert size / len(users) < 150
