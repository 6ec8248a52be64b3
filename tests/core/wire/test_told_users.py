"""What is told of users: who came and went in between is no news, unless somebody else was shown it."""

from headgate.core.wire.told_users import ToldUsers, UserChange


def test_what_is_different_is_told_once() -> None:
    told = ToldUsers({"ann": 1, "bob": 1})
    told.note("ann", 2)
    told.note("bob", None)
    told.note("eve", 1)
    assert told and told.take() == [UserChange("ann", 1, 2), UserChange("bob", 1, None), UserChange("eve", None, 1)]
    assert not told and told.take() == []
    told.note("eve", None)
    assert told.take() == [UserChange("eve", 1, None)]


def test_joined_and_left_cancel_out_and_so_do_left_and_joined() -> None:
    told = ToldUsers({"ann": 1})
    for user, values in (("bob", (1, 2, None)), ("ann", (None, 1))):
        for value in values:
            told.note(user, value)
    assert not told and told.take() == []


def test_what_was_shown_to_somebody_else_is_told_also_where_it_is_undone() -> None:
    told = ToldUsers({"ann": 1})
    told.note("bob", 1)
    told.note("ann", None)
    told.shown()
    told.note("eve", 1)
    for user, value in (("bob", None), ("ann", 1), ("eve", None)):
        told.note(user, value)
    assert told.take() == [UserChange("bob", None, None), UserChange("ann", 1, 1)]
    told.note("bob", 1)
    told.note("bob", None)
    assert told.take() == []


def test_what_is_as_it_was_told_takes_no_place() -> None:
    told: ToldUsers[int] = ToldUsers({})
    for n in range(1_000):
        told.note(f"u{n}", 1)
        told.note(f"u{n}", None)
    assert len(told._changed) == 0
