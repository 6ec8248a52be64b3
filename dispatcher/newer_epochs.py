"""Evidence that a shard has another owner: the highest epochs that clients have named."""

import asyncio


class NewerEpochs:
    """The highest epoch that a client has refused a shard with. `changed` is set by each, and cleared by its reader."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._epochs: dict[int, int] = {}

    def note(self, shard: int, epoch: int) -> None:
        """A client knows an owner of the shard with this epoch."""
        self._epochs[shard] = max(epoch, self.of(shard))
        self.changed.set()

    def of(self, shard: int) -> int:
        """Returns the highest epoch named for a shard, 0 where none was."""
        return self._epochs.get(shard, 0)
