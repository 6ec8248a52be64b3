"""A user who follows a topic, as clients see him."""

from headgate.core.wire.link_presence import UserPresence
from headgate.core.wire.present_user import present_user, state_of


def test_a_present_user() -> None:
    assert present_user(UserPresence("ann", 2, 1_700_000_000_007, True)) == {
        "user_id": "ann",
        "connections": 2,
        "since": "2023-11-14T22:13:20.007Z",
        "state": "away",
    }
    assert state_of(away=False) == present_user(UserPresence("ann", 1, 0))["state"] == "online"
