"""What an effect says about the record's flags."""

import pytest

from headgate.core.sequencer.effects import Deliver
from headgate.core.wire.envelope import KEYED, LOW, REPLY


@pytest.mark.parametrize(("flags", "low", "reply"), [(0, 0, 0), (KEYED, 0, 0), (LOW, 1, 0), (REPLY | KEYED, 0, 1)])
def test_priority_and_thread_are_read_from_the_flags(flags: int, low: bool, reply: bool) -> None:
    message = Deliver("t", 1, 1, 1, bytes(16), 0, b"{}", flags)
    assert (message.low, message.reply) == (low, reply)
