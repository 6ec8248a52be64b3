"""Link messages about counted deliveries as bytes."""

import pytest

from headgate.core.wire import link, link_ephemeral, linkcodec
from headgate.core.wire.link_deliveries import (
    AskDelivered,
    CountWritten,
    Delivered,
    DeliveriesExpected,
    ExpectDeliveries,
    ForgetDeliveries,
    Written,
)

ID = bytes(range(16))


@pytest.mark.parametrize(
    "message",
    [
        ExpectDeliveries(1, "t", 5, [ID]),
        DeliveriesExpected(1),
        AskDelivered(1, "t", 5, ID, 1_000),
        Delivered(1, 3),
        Delivered(1, -1),
        CountWritten("t", 5, 7, 1),
        Written("t", 1, 3, True),
        ForgetDeliveries("t", 5, [ID]),
    ],
    ids=lambda message: type(message).__name__,
)
def test_every_message_comes_back(message: link.Message) -> None:
    assert linkcodec.decode_batch(linkcodec.encode_batch([message])) == [message]
    assert isinstance(message, link.SinceVersion2) == isinstance(
        message, ExpectDeliveries | AskDelivered | ForgetDeliveries
    )


def test_a_relay_of_an_older_ingest_is_not_counted() -> None:
    assert link_ephemeral.Relay(1, "t", 5, b"").id == b""
    assert link_ephemeral.Relayed(1, 2).shed is False
