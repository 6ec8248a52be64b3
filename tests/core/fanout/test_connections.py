"""The sessions of a gateway, by user and shard."""

from itertools import pairwise

import pytest

from headgate.core.fanout.connections import Connections
from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller, Identity
from tests.core.scene import Scene


class Shards:
    """Two shards: by the last letter of a user id. `known` as in a gateway that has a link."""

    def __init__(self, *, known: bool = True) -> None:
        self.known = known

    def __call__(self, user_id: str) -> int:
        if not self.known:
            raise Refusal("not_ready", "no dispatcher has been reached yet")
        return int(user_id.endswith("e"))


def connections_of(per_user: int = 20, shards: Shards | None = None) -> Connections:
    return Connections(per_user, shards or Shards())


def opened(connections: Connections, user: str | None = None, *, service: bool = False) -> Session:
    scene = Scene()
    session = scene.open().session
    assert session is not None
    connections.open(session)
    if user is not None:
        admit(connections, session, user, service=service)
    return session


def admit(connections: Connections, session: Session, user: str, *, service: bool = False) -> bool:
    caller = Caller(user, service=service)
    admitted = connections.admit(session, caller)
    if admitted:
        session.identify(Identity(caller), Scene().moment)
    return admitted


def test_a_user_has_so_many_connections_and_no_more_unless_it_is_a_service() -> None:
    connections = connections_of(2)
    for _ in range(2):
        opened(connections, "bob")
    assert not admit(connections, opened(connections), "bob") and admit(connections, opened(connections), "eve")
    assert admit(connections, opened(connections), "bob", service=True) and connections.count("bob") == 3


def test_a_refused_connection_counts_for_nobody_and_a_closed_one_no_longer() -> None:
    connections = connections_of(1)
    first, refused = opened(connections, "bob"), opened(connections, "bob")
    assert len(connections) == 2 and connections.of("bob") == [first]
    assert connections.close(refused) and not admit(connections, opened(connections), "bob")
    assert connections.close(first) and not connections.close(first)
    assert connections.count("bob") == 0 and connections.counts(0) == []
    assert admit(connections, opened(connections), "bob")


def test_who_is_not_known_yet_belongs_to_nobody() -> None:
    connections = connections_of(1)
    unknown = opened(connections)
    assert connections.all() == [unknown] and connections.of("bob") == []
    assert connections.close(unknown) and len(connections) == 0


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_a_users_sessions_are_found_oldest_first_and_end_in_any_order(count: int) -> None:
    connections = connections_of(100)
    sessions = [opened(connections, "bob") for _ in range(count)]
    opened(connections, "eve")
    assert connections.of("bob") == sessions and connections.count("bob") == count
    while sessions:
        connections.close(sessions.pop(len(sessions) // 2))
        assert connections.of("bob") == sessions and connections.count("bob") == len(sessions)
    assert connections.count("eve") == 1


def test_users_are_found_by_shard_also_those_admitted_before_the_shards_were_known() -> None:
    shards = Shards(known=False)
    connections = connections_of(shards=shards)
    early = [opened(connections, user) for user in ("bob", "eve", "joe", "bob")]
    assert connections.shard_of("bob") == -1 and connections.count("bob") == 2 and connections.counts(0) == []
    shards.known = True
    assert connections.counts(0) == [("bob", 2)] and connections.counts(1) == [("eve", 1), ("joe", 1)]
    assert connections.counts(2) == []
    assert connections.of("bob") == [early[0], early[3]]
    for session in early:
        assert connections.close(session)
    assert connections.counts(0) == connections.counts(1) == []


@pytest.mark.parametrize(("elsewhere", "ended"), [(0, 0), (1, 0), (2, 1), (4, 3), (100, 3)])
def test_the_newest_sessions_are_too_many_with_those_elsewhere(elsewhere: int, ended: int) -> None:
    connections = connections_of(4)
    sessions = [opened(connections, "bob") for _ in range(3)]
    assert connections.too_many("bob", elsewhere) == sessions[len(sessions) - ended :]


def test_the_sessions_of_a_service_are_never_too_many_and_count_for_the_others() -> None:
    connections = connections_of(2)
    plain = opened(connections, "bob")
    opened(connections, "bob", service=True)
    assert connections.too_many("bob", 0) == [] and connections.too_many("bob", 9) == [plain]


def test_a_device_is_known_while_its_session_is() -> None:
    connections = connections_of()
    session = opened(connections, "bob")
    assert connections.device(session) is None
    connections.use_device(session, "phone")
    assert connections.device(session) == "phone"
    connections.close(session)
    assert connections.device(session) is None


def test_who_has_one_session_more_or_less_is_told_once() -> None:
    connections = connections_of()
    assert not connections.has_changed and connections.take_changed() == {}
    sessions = [opened(connections, user) for user in ("bob", "eve", "bob")]
    assert connections.has_changed
    assert connections.take_changed() == {0: [("bob", 2)], 1: [("eve", 1)]}
    assert not connections.has_changed
    connections.close(sessions[1])
    connections.close(opened(connections))
    assert connections.take_changed() == {1: [("eve", 0)]} and connections.take_changed() == {}


@pytest.mark.parametrize("count", [7, 600, 1_000])
def test_the_jitters_of_all_clients_are_spread_evenly(count: int) -> None:
    connections = connections_of()
    for _ in range(3):  # however many came before
        connections.jitter()
    jitters = sorted(connections.jitter() for _ in range(count))
    assert jitters[0] >= 0 and jitters[-1] <= 1
    assert max(after - before for before, after in pairwise(jitters)) < 3 / count
    most = max(sum(begin <= jitter < begin + 1 / 28 for jitter in jitters) for begin in jitters)
    assert most <= count / 28 + 3
