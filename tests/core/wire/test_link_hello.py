"""Link messages of the beginning of a link as bytes."""

import pytest

from headgate.core.wire import link, linkcodec
from headgate.core.wire.link_hello import Hello, Owner, Owners, Refuse, Welcome

OWNERS = [Owner(3, 9, "d-1:8090", True), Owner(4, 8, "d-2:8090")]


@pytest.mark.parametrize(
    "message",
    [
        Hello(1, 2, "gateway", "g-1", "", 0),
        Welcome(2, "d-1", "c", 1, 8, OWNERS),
        Owners(OWNERS),
        Refuse(3, 9),
    ],
)
def test_each_message_comes_back_as_it_was(message: link.Message) -> None:
    assert linkcodec.decode_batch(linkcodec.encode_batch([message])) == [message]
