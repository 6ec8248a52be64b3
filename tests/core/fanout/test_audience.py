"""Presence and typing together: what is for neither is left alone."""

from headgate.core.wire.link import Changed
from headgate.core.wire.link_presence import PresenceState, Typed
from tests.core.scene import Scene


def test_what_an_owner_tells_goes_where_it_belongs() -> None:
    scene = Scene()
    scene.owners.create("a")
    pipe = scene.socket("a", user="bob")
    epoch = scene.owners.topics["a"].epoch
    for message in (PresenceState("a", epoch, "list", 0, []), Typed("a", epoch, "ann"), Changed("a")):
        scene.hub.audience.receive(message)
    scene.turn()
    assert [frame["type"] for frame in pipe.frames()] == ["welcome", "subscribed", "typing"]
