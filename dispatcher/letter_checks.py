"""What dead letters need to know of the topics and messages of their shard."""

from typing import Final

from dispatcher.history import History
from dispatcher.index_changes import is_edit, target_of
from dispatcher.topic_list import TopicList
from headgate.core.delivery.dead_letter_record import DeadLetter
from headgate.core.sequencer.rows import Shard
from headgate.core.wire.ids import topic_key

EDITS: Final = 1_000  # of a redacted message, the newest: what their receivers said goes too


class LetterChecks:
    """Asks the state of one shard. Before its log has been read to the end it knows less."""

    def __init__(self, shard: Shard, topics: TopicList, history: History) -> None:
        self._shard = shard
        self._topics = topics
        self._history = history

    def is_deleted(self, letter: DeadLetter) -> bool:
        """Returns whether the letter's topic is gone."""
        return not self._topics.has_epoch(letter.epoch)

    def is_redacted(self, letter: DeadLetter) -> bool:
        """Returns whether the letter's message is redacted, or the one of which it is an edit."""
        epoch, seq, history = letter.epoch, letter.seq, self._history
        kept = history.get(epoch, seq)
        if kept is not None and is_edit(kept.change):
            seq = target_of(kept.change)
        changed = self._shard.changed.get(topic_key(letter.topic), epoch, seq)
        return changed.redacted if changed is not None else history.fold(epoch, seq, seq).state(seq).redacted

    def with_edits(self, epoch: int, seq: int) -> set[int]:
        """Returns the seqs of a message and of its edits."""
        return {seq, *(place.seq for place in self._history.edits(epoch, seq, EDITS))}
