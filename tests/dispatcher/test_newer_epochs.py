"""Evidence of newer owners."""

from dispatcher.newer_epochs import NewerEpochs


def test_the_highest_epoch_of_each_shard_is_kept() -> None:
    epochs = NewerEpochs()
    assert epochs.of(3) == 0
    assert not epochs.changed.is_set()
    for epoch in (7, 9, 8):
        epochs.note(3, epoch)
    epochs.note(4, 1)
    assert [epochs.of(shard) for shard in (3, 4, 5)] == [9, 1, 0]
    assert epochs.changed.is_set()
