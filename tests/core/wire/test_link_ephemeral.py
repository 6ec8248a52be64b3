"""A publish to an ephemeral topic, as an older sender wrote it: what it did not know has its default."""

import msgspec

from headgate.core.wire.link_ephemeral import Relay, Relayed


def test_a_relay_of_an_older_sender_is_metered_and_not_counted() -> None:
    older = msgspec.msgpack.encode([40, 7, "t", 5, b"tail", True])
    assert msgspec.msgpack.decode(older, type=Relay) == Relay(7, "t", 5, b"tail", True, False, b"")


def test_an_answer_of_an_older_owner_shed_nothing() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([41, 7, 3]), type=Relayed) == Relayed(7, 3, False)
