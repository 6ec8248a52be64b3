"""The sessions of a gateway, counted by user."""

from headgate.core.fanout.connections import Connections
from headgate.core.fanout.session import Session
from headgate.core.wire.rights import Caller, Identity
from tests.core.scene import Scene


def opened(connections: Connections, user: str | None = None, *, service: bool = False) -> Session:
    scene = Scene()
    session = scene.open().session
    assert session is not None
    connections.open(session)
    if user is not None and connections.admit(Caller(user, service=service)):
        session.identify(Identity(Caller(user, service=service)), scene.moment)
    return session


def test_a_user_has_so_many_connections_and_no_more_unless_it_is_a_service() -> None:
    connections = Connections(2)
    for _ in range(2):
        opened(connections, "bob")
    assert not connections.admit(Caller("bob")) and connections.admit(Caller("eve"))
    assert connections.admit(Caller("bob", service=True))


def test_a_refused_connection_counts_for_nobody_and_a_closed_one_no_longer() -> None:
    connections = Connections(1)
    first, refused = opened(connections, "bob"), opened(connections, "bob")
    assert len(connections) == 2 and connections.of("bob") == [first]
    assert connections.close(refused) and not connections.admit(Caller("bob"))
    assert connections.close(first) and not connections.close(first)
    assert connections.admit(Caller("bob"))


def test_who_is_not_known_yet_belongs_to_nobody() -> None:
    connections = Connections(1)
    unknown = opened(connections)
    assert connections.all() == [unknown] and connections.of("bob") == []
    assert connections.close(unknown) and len(connections) == 0
