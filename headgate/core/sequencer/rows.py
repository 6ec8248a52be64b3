"""The state of a shard that `apply` changes: one row a topic, and the rest."""

from typing import Any

import msgspec

from headgate.core.sequencer.digest import Digest
from headgate.core.sequencer.window import Window
from headgate.core.wire.control import Config


class Row(msgspec.Struct, array_like=True, gc=False):
    """A topic. `settings` are overrides of the defaults; `created_at` is Unix milliseconds.

    `seq` is the newest seq of this epoch, 0 before the first message.
    """

    topic_id: str
    epoch: int
    seq: int
    name: str
    permissions: str
    owner_id: str
    created_at: int
    settings: dict[str, Any]

    @property
    def ephemeral(self) -> bool:
        """Whether messages of this topic are never written to the log."""
        return self.settings.get("profile") == "ephemeral"


class Shard:
    """The state of a shard beside its rows. `config` is None until the config record was applied.

    `log_ms` is log time in Unix milliseconds, used by the duplicate `window` only. `changes` counts accepted messages
    and controls that changed something, for the snapshots. `digest` covers every record below `next_offset`.
    """

    __slots__ = ("changes", "config", "digest", "log_ms", "next_offset", "window")

    def __init__(self) -> None:
        self.config: Config | None = None
        self.next_offset = 0
        self.log_ms = 0
        self.window = Window()
        self.digest = Digest()
        self.changes = 0

    @property
    def generation(self) -> int:
        """The log's generation; 0 before the config record."""
        return self.config.generation if self.config else 0
