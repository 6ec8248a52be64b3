"""A topic's presence as its owner told it: first frames, diffs, and a change of owners that is no news."""

import json
from typing import Any

from headgate.core.client.framing import ClientFrame
from headgate.core.fanout.presence_replica import PresenceReplica
from headgate.core.wire.link_presence import PresenceMoved, PresenceState, UserPresence


def here(user: str, connections: int = 1, *, away: bool = False) -> UserPresence:
    return UserPresence(user, connections, 0, away)


def state(*users: UserPresence, mode: str = "list", count: int | None = None) -> PresenceState:
    return PresenceState("t", 7, mode, len(users) if count is None else count, list(users))


def moved(*users: UserPresence, left: tuple[str, ...] = (), count: int = 0) -> PresenceMoved:
    return PresenceMoved("t", 7, count, list(users), list(left))


def read(frame: ClientFrame | tuple[ClientFrame, str] | None) -> dict[str, Any]:
    assert frame is not None
    frame = frame if isinstance(frame, ClientFrame) else frame[0]
    found: dict[str, Any] = json.loads(frame.data)
    return found


def listed(frame: ClientFrame) -> dict[str, int]:
    return {user["user_id"]: user["connections"] for user in read(frame)["subscribers"]}


def states(members: list[dict[str, str]]) -> dict[str, str]:
    return {member["user_id"]: member["state"] for member in members}


def test_a_frame_names_its_reader_whom_the_owner_does_not_count_yet() -> None:
    replica = PresenceReplica(state(here("ann", 2), here("bob")))
    assert listed(replica.frame("t", 3, here("eve"))) == {"ann": 2, "bob": 1, "eve": 1}
    assert listed(replica.frame("t", 2, here("ann"))) == {"ann": 3, "bob": 1}
    assert listed(replica.frame("t", 2)) == {"ann": 2, "bob": 1}
    assert listed(replica.frame("t", 4, here("eve"))) == {"ann": 2, "bob": 1, "eve": 1}, "others have just come too"
    replica.move(moved(count=3))
    assert listed(replica.frame("t", 4, here("eve"))) == {"ann": 2, "bob": 1}, "the list is cut: she is counted"
    replica.move(moved(here("ann", 1), left=("bob",), count=1))
    assert listed(replica.frame("t", 1)) == {"ann": 1}
    replica.replace(state(here("cid")))
    assert listed(replica.frame("t", 1)) == {"cid": 1}
    replica.move(moved(left=("cid",)))
    assert listed(replica.frame("t", 1, here("eve"))) == {"eve": 1} and listed(replica.frame("t", 0)) == {}


def test_a_reader_is_online_where_one_of_his_connections_is() -> None:
    replica = PresenceReplica(state(here("ann", away=True)))
    assert read(replica.frame("t", 1, here("ann")))["subscribers"][0]["state"] == "online"
    assert read(replica.frame("t", 1, here("ann", away=True)))["subscribers"][0]["state"] == "away"


def test_nobody_is_listed_in_mode_count() -> None:
    replica = PresenceReplica(state(mode="count", count=5))
    assert read(replica.frame("t", 6, here("ann"), 3)) == {
        "type": "presence", "id": 3, "topic_id": "t", "subscribers": [], "count": 6,
    }  # fmt: skip


def test_a_diff_has_who_joined_left_and_changed_and_another_number_of_connections_is_none() -> None:
    replica = PresenceReplica(state(here("ann"), here("bob"), here("dan", away=True)))
    replica.begin_telling()
    replica.move(moved(here("ann", away=True), here("eve", 2, away=True), left=("bob", "dan"), count=2))
    diff = read(replica.take_diff("t", 10.0))
    assert (states(diff["joined"]), states(diff["changed"])) == ({"eve": "away"}, {"ann": "away"})
    assert states(diff["left"]) == {"bob": "online", "dan": "away"} and diff["count"] == 2
    assert not replica.is_due(10.9) and replica.is_due(11.0)
    replica.move(moved(here("eve", 1, away=True), count=2))
    assert replica.take_diff("t", 11.0) is None


def test_only_the_count_may_change() -> None:
    replica = PresenceReplica(state(mode="count", count=5))
    replica.begin_telling()
    replica.move(moved(count=7))
    diff = read(replica.take_diff("t", 1.0))
    assert diff == {"type": "presence_diff", "topic_id": "t", "joined": [], "left": [], "changed": [], "count": 7}
    replica.move(moved(count=8))
    replica.move(moved(count=7))
    assert replica.take_diff("t", 2.0) is None


def test_who_was_shown_somebody_hears_that_he_left() -> None:
    replica = PresenceReplica(state(here("ann")))
    replica.begin_telling()
    replica.move(moved(here("bob"), left=("ann",), count=1))
    replica.begin_telling()  # a client sees bob and does not see ann
    replica.move(moved(here("ann"), left=("bob",), count=1))
    diff = read(replica.take_diff("t", 1.0))
    assert (list(states(diff["joined"])), list(states(diff["left"]))) == (["ann"], ["bob"])


def test_a_new_owner_that_says_the_same_is_no_news() -> None:
    replica = PresenceReplica(state(here("ann"), here("bob")))
    replica.begin_telling()
    assert not replica.replace(state(here("bob"), here("ann")))
    assert replica.take_diff("t", 1.0) is None
    assert not replica.replace(state(here("bob", away=True), here("eve")))
    diff = read(replica.take_diff("t", 2.0))
    assert [list(states(diff[name])) for name in ("joined", "left", "changed")] == [["eve"], ["ann"], ["bob"]]


def test_another_mode_is_told_with_a_whole_frame() -> None:
    replica = PresenceReplica(state(here("ann")))
    replica.begin_telling()
    assert replica.replace(state(mode="count", count=1))
    assert replica.take_diff("t", 1.0) is None and listed(replica.frame("t", 1)) == {}
    replica.begin_telling()
    replica.end_telling()
    replica.move(moved(here("eve"), count=1))
    assert replica.take_diff("t", 2.0) is None


def test_who_was_shown_another_count_hears_of_the_count_that_others_know() -> None:
    replica = PresenceReplica(state(mode="count", count=1))
    replica.begin_telling(count=1)
    replica.begin_telling(count=2)
    replica.move(moved(count=2))
    replica.move(moved(count=1))
    assert read(replica.take_diff("t", 1.0))["count"] == 1
    assert replica.take_diff("t", 2.0) is None


def test_who_is_told_knows_that_he_is_here() -> None:
    replica = PresenceReplica(state())
    replica.begin_telling(here("ann"), 1)
    replica.move(moved(here("ann"), count=1))
    assert replica.take_diff("t", 1.0) is None
    replica.begin_telling(here("bob"), 2)
    replica.move(moved(here("bob"), count=2))
    diff = replica.take_diff("t", 2.0)
    assert diff is not None and diff[1] == "bob" and list(states(read(diff)["joined"])) == ["bob"]
    replica.move(moved(here("eve"), left=("bob",), count=2))
    diff = replica.take_diff("t", 3.0)
    assert diff is not None and diff[1] == ""


def test_who_comes_before_the_owner_has_named_the_first_is_shown_him() -> None:
    replica = PresenceReplica(state())
    replica.begin_telling(here("ann"), 1)
    assert set(listed(replica.frame("t", 2, here("bob")))) == {"ann", "bob"}
    replica.begin_telling(here("bob"), 2)
    replica.move(moved(here("ann"), here("bob"), count=2))
    diff = replica.take_diff("t", 1.0)
    assert list(states(read(diff)["joined"])) == ["bob"] and diff is not None and diff[1] == "bob"
    assert set(listed(replica.frame("t", 2, here("eve")))) == {"ann", "bob", "eve"}


def test_the_first_who_goes_before_the_owner_has_named_him_is_said_to_have_left() -> None:
    replica = PresenceReplica(state())
    replica.begin_telling(here("ann"), 1)
    replica.begin_telling(here("bob"), 2)
    assert not replica.leave("bob") and replica.leave("ann") and not replica.leave("ann")
    assert set(listed(replica.frame("t", 2, here("eve")))) == {"eve"}
    replica.move(moved(here("bob"), count=1))
    diff = read(replica.take_diff("t", 1.0))
    assert (list(states(diff["joined"])), list(states(diff["left"]))) == (["bob"], ["ann"])
