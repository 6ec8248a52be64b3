"""Link messages about direct topics as bytes."""

import pytest

from headgate.core.wire import link, linkcodec
from headgate.core.wire.link_direct import AskLogic, ShardLogic


@pytest.mark.parametrize("message", [AskLogic(1, 3), ShardLogic(1, 2)], ids=lambda message: type(message).__name__)
def test_every_message_comes_back(message: link.Message) -> None:
    assert linkcodec.decode_batch(linkcodec.encode_batch([message])) == [message]
    assert isinstance(message, link.SinceVersion2) == isinstance(message, AskLogic)
