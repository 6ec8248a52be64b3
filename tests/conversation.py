"""What clients must see of changed messages, whatever way they take: invariants over frames, for every kind of test.

Frames are decoded `message` frames of one topic, in the order in which a client got them. Each check raises
AssertionError that begins with the invariant's name. Must not know any transport.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Frame = Mapping[str, Any]
_OF_EVENTS = ("seq", "message_id", "publisher_id", "kind", "target_seq", "version", "name", "removed", "edited_at")
_REDACTED = {"payload": None, "redacted": True}


def as_now(frame: Frame) -> dict[str, Any]:
    """Returns what a message's frame says of its state."""
    if frame.get("redacted"):
        return {"payload": frame["payload"], "redacted": True}
    return {
        "payload": frame["payload"],
        "version": frame.get("version", 1),
        "edited_at": frame.get("edited_at"),
        "reactions": frame.get("reactions", {}),
    }


def folded(topic: str, frames: Iterable[Frame]) -> dict[int, dict[str, Any]]:
    """Returns each message as a client has it that was there from the beginning and applied every event.

    A message that came late is newer than the events that follow it: they change nothing then. Reactions are counted
    from their events alone. Raises AssertionError: E1 for a version that is not the next one, E2 for a change behind a
    redaction.
    """
    fold = _Fold(topic)
    for frame in frames:
        if "kind" in frame:
            fold.event(frame)
        else:
            fold.now[frame["seq"]] = as_now(frame)
    return fold.counted()


def messages_agree(topic: str, history: Sequence[Frame], views: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> None:
    """E3: every message of every view (a name, and messages by seq) is what history says that it is now."""
    true = {frame["seq"]: as_now(frame) for frame in history if "kind" not in frame}
    for who, view in views.items():
        for seq in sorted(true.keys() | view.keys()):
            if view.get(seq) != true.get(seq):
                raise AssertionError(
                    f"E3 one message for everybody: {topic}: message {seq} at {who} is {view.get(seq)}, "
                    f"in history {true.get(seq)}"
                )


def events_agree(topic: str, who: str, history: Sequence[Frame], seen: Sequence[Frame]) -> None:
    """E3 of events: the same ones at the same seqs; their payloads are equal, or gone since a redaction."""
    true, view = ({f["seq"]: f for f in frames if "kind" in f} for frames in (history, seen))
    for seq in sorted(true.keys() | view.keys()):
        one, two = true.get(seq, {}), view.get(seq, {})
        same = all(one.get(name) == two.get(name) for name in _OF_EVENTS)
        if not same or (one["payload"] != two["payload"] and not one.get("redacted")):
            raise AssertionError(f"E3 one event for everybody: {topic}: {who} has {two}, history {one}")


def applied_once(topic: str, acked: Mapping[int, Frame], history: Sequence[Frame]) -> None:
    """E4: each edit that was answered 200 is in history at its `event_seq`, with its payload or redacted.

    `acked` holds by `event_seq` what was asked for: `target_seq`, `version` (the new one) and `payload`.
    """
    events = {frame["seq"]: frame for frame in history if "kind" in frame}
    for seq, asked in acked.items():
        event = events.get(seq, {"kind": "nothing", "payload": None})
        wanted = {"kind": "edit", "target_seq": asked["target_seq"], "version": asked["version"]}
        if any(event.get(name) != value for name, value in wanted.items()):
            raise AssertionError(f"E4 answered 200, applied once: {topic}: {event} at {seq}, not {wanted}")
        if event["payload"] != asked["payload"] and not event.get("redacted"):
            raise AssertionError(f"E4 answered 200, applied once: {topic}: {event} has not {asked['payload']}")


def nowhere(what: str, secrets: Iterable[str], texts: Mapping[str, bytes]) -> None:
    """E5: no secret (the payload of a redacted message) stands in any of the texts."""
    found = [(secret, where) for secret in secrets for where, text in texts.items() if secret.encode() in text]
    if found:
        secret, where = found[0]
        raise AssertionError(f"E5 redacted is gone: {what}: {secret} stands in {where} ({len(found)} such)")


class _Fold:
    def __init__(self, topic: str) -> None:
        self.now: dict[int, dict[str, Any]] = {}
        self._topic = topic
        self._versions: dict[int, int] = {}
        self._redacted: set[int] = set()
        self._reactions: dict[int, set[tuple[str, str]]] = {}

    def event(self, frame: Frame) -> None:
        target, kind = frame["target_seq"], frame["kind"]
        if target in self._redacted:
            detail = f"{kind} {frame['seq']} of message {target}"
            raise AssertionError(f"E2 nothing behind a redaction: {self._topic}: {detail}")
        if kind == "edit":
            self._edit(target, frame)
        elif kind == "redact":
            self._redacted.add(target)
            self.now[target] = dict(_REDACTED)
        else:
            users = self._reactions.setdefault(target, set())
            (users.discard if frame.get("removed") else users.add)((frame["publisher_id"], frame["name"]))

    def counted(self) -> dict[int, dict[str, Any]]:
        for target, users in self._reactions.items():
            if not self.now[target].get("redacted"):
                self.now[target]["reactions"] = dict(Counter(name for _, name in users))
        return self.now

    def _edit(self, target: int, frame: Frame) -> None:
        version = self._versions.get(target, 1) + 1
        if frame["version"] != version:
            made = f"edit {frame['seq']} of message {target} makes version {frame['version']}, not {version}"
            raise AssertionError(f"E1 each edit makes the next version: {self._topic}: {made}")
        self._versions[target] = version
        message = self.now[target]
        if not message.get("redacted") and version > message["version"]:
            message.update({"payload": frame["payload"], "version": version, "edited_at": frame.get("edited_at")})
