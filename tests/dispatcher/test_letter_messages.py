"""The message of a dead letter as it is now: from memory, from the index, or not at all."""

import json
from functools import partial
from typing import Any

import pytest

from dispatcher.letter_messages import LetterMessages, NoMessage
from dispatcher.reading import Reading
from headgate.core.wire.errors import Refusal
from tests.dispatcher.bed import CLOCK
from tests.dispatcher.members_bed import Far
from tests.dispatcher.messages_bed import MessagesBed


class Looking:
    """Looks for messages of the topic; `again` counts the calls."""

    def __init__(self) -> None:
        self.bed = MessagesBed()
        for n in range(1, 4):
            self.bed.publish({"n": n})
        self.messages = LetterMessages(self.bed.owner, Reading(self.bed.owner, CLOCK))
        self.again = 0

    def find(self, seq: int) -> Any:
        return self.messages.find(self.bed.row, seq, Far(), partial(self._count))

    def _count(self) -> None:
        self.again += 1


async def test_the_message_is_as_it_is_now() -> None:
    looking = Looking()
    assert json.loads(looking.find(1))["payload"] == {"n": 1}
    looking.bed.edit(1, {"n": "edited"})
    assert json.loads(looking.find(1))["payload"] == {"n": "edited"}
    looking.bed.redact(1)
    assert (json.loads(looking.find(1))["payload"], json.loads(looking.find(1))["redacted"]) == (None, True)


async def test_what_the_topic_no_longer_keeps_is_gone() -> None:
    looking = Looking()
    looking.bed.row.settings["retention_messages"] = 2
    assert looking.find(1) is NoMessage.GONE
    assert json.loads(looking.find(2))["payload"] == {"n": 2}
    assert looking.messages.first_kept(looking.bed.row) == 2


async def test_while_the_history_is_not_whole_the_asker_waits_and_nothing_is_called_gone() -> None:
    looking = Looking()
    history = looking.bed.owner.history
    history.complete = False
    assert looking.find(99) is NoMessage.LATER
    assert looking.again == 0
    history.release()
    assert looking.again == 1
    history._waiters = 1 << 30
    with pytest.raises(Refusal, match="not_ready"):
        looking.find(99)
    history.complete = True
