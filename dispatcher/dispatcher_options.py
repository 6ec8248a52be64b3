"""The sizes and times of a dispatcher that a deployment or a test may change, with their defaults."""

from pathlib import Path
from typing import Final, NamedTuple

from headgate.core.wire.topic_settings import DEFAULTS, Settings

FRAME_BYTES: Final = 4096 * 1024 * 1024
TOP: Final = 10


class SnapshotOptions(NamedTuple):
    """When a snapshot is due; times are seconds.

    `changes`: messages and controls that changed something; about what a next owner has to apply again.
    `quiet_offsets` and `quiet_s` are for records that change nothing (repeats, probes, dead letters).
    """

    check_s: float = 0.25
    least_s: float = 1.0  # between two snapshots
    interval_s: float = 30.0
    changes: int = 20_000
    quiet_offsets: int = 100_000
    quiet_s: float = 3_600.0
    base_s: float = 86_400.0  # a chain breaks at one damaged delta, so it must not be months long


class HistoryOptions(NamedTuple):
    """The sizes of a shard's history in memory."""

    batch: int = 1_000  # messages written at a time: about 5 ms
    recent_messages: int = 20_000  # kept in memory while there is no index file
    recent_bytes: int = 32 << 20
    loaded_bytes: int = 16 << 20  # frames read from the log again, for readers
    read_bytes: int = 2 << 20  # of these for one page: a reader must not push out the beginning of its own page


DEFAULT_HISTORY: Final = HistoryOptions()


class ShardOptions(NamedTuple):
    """One shard. Its index file is in `folder` (None: in memory), with at most `frame_bytes` of frames.

    `publish_per_topic_per_s` is the rate of topics that set none, `usual` are all settings of such topics. A
    topic stays as it is delivered for `hot_dwell_s` after a switch. Each list of the first topics and users has at most
    `top` entries; 0: there are none.
    """

    folder: Path | None = None
    frame_bytes: int = FRAME_BYTES
    snapshots: SnapshotOptions = SnapshotOptions()
    history: HistoryOptions = DEFAULT_HISTORY
    retry_s: float = 1.0  # after a fault of the log, the index file or a rebuild
    parked_retry_s: float = 15.0
    publish_per_topic_per_s: float = 100
    usual: Settings = DEFAULTS
    hot_dwell_s: float = 10.0
    top: int = TOP


class AssignmentOptions(NamedTuple):
    """Seconds between two announced marks, and for the final snapshots of all shards of a drain."""

    mark_s: float = 60.0
    final_s: float = 10.0  # half of `drain.deadline_s`


class DispatcherOptions(NamedTuple):
    """`node` and `address` (host:port of its links) are its identity; `folder` holds index files (None: in memory).

    `frame_bytes` bounds the frames in each index file, `index_bytes` all files together (None: nothing does). A user's
    subscribes create at most `creations_per_user_per_min` topics a minute here (`topics.auto_create`), of the profile
    `profile`. A topic that sets no rate takes `publish_per_topic_per_s`; `usual`, `hot_dwell_s` and `top` are as in
    `ShardOptions`. At most `listed` users of a topic are listed in its presence.
    """

    node: str
    address: str
    folder: Path | None
    frame_bytes: int = FRAME_BYTES
    creations_per_user_per_min: float = 60
    snapshots: SnapshotOptions = SnapshotOptions()
    assignment: AssignmentOptions = AssignmentOptions()
    publish_per_topic_per_s: float = 100
    listed: int = 1_000
    profile: str = "durable"
    usual: Settings = DEFAULTS
    hot_dwell_s: float = 10.0
    top: int = TOP
    index_bytes: int | None = None

    @property
    def shard(self) -> ShardOptions:
        """The options of each shard."""
        return ShardOptions(
            self.folder,
            self.frame_bytes,
            self.snapshots,
            publish_per_topic_per_s=self.publish_per_topic_per_s,
            usual=self.usual,
            hot_dwell_s=self.hot_dwell_s,
            top=self.top,
        )
