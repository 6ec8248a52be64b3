"""Merges what the owners of several topics' shards have for a user who was away: the topics in one order, cut once."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from headgate.core.wire.link_inbox import MissedMessages


class MissedPart(NamedTuple):
    """Messages of some topics, the topics by the time of their oldest message and then by their ids.

    `whole` is false where more messages follow: in the last of these topics, or in topics behind it.
    """

    topics: list[MissedMessages]
    whole: bool


NOTHING: Final = MissedPart([], True)


def merged(parts: Iterable[MissedPart], limit: int, max_bytes: int) -> MissedPart:
    """Returns the beginning of several parts: at most `limit` messages and `max_bytes`, at least one message.

    A topic is in one part only. The merge ends with the first topic that is the last of a part which is not whole: what
    that part leaves out may come before the next topic of another. A part without topics ends nothing.
    """
    known, ends = [], []
    for part in parts:
        known += part.topics
        if part.topics and not part.whole:
            ends.append(_place(part.topics[-1]))
    known.sort(key=_place)
    end = min(ends, default=None)
    topics: list[MissedMessages] = []
    count = size = 0
    for topic in known:
        if end is not None and _place(topic) > end:
            return MissedPart(topics, False)
        frames, held = _fitting(topic.frames, limit - count, max_bytes - size, at_least=0 if count else 1)
        if frames:
            topics.append(MissedMessages(topic.topic_id, topic.first_ts, frames))
        if len(frames) < len(topic.frames):
            return MissedPart(topics, False)
        count, size = count + len(frames), size + held
    return MissedPart(topics, end is None)


def frames_of(part: MissedPart) -> list[bytes]:
    """Returns the frames of a part, topic after topic."""
    return [frame for topic in part.topics for frame in topic.frames]


def _place(topic: MissedMessages) -> tuple[int, str]:
    return topic.first_ts, topic.topic_id


def _fitting(frames: list[bytes], most: int, max_bytes: int, *, at_least: int) -> tuple[list[bytes], int]:
    """Returns the first frames within both bounds, and their bytes."""
    count = size = 0
    for frame in frames[:most]:
        if size + len(frame) > max_bytes and count >= at_least:
            break
        count, size = count + 1, size + len(frame)
    return frames[:count], size
