"""A topic's presence as its owner told it to this gateway, and what the gateway's clients were told of it."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from headgate.core.client import outbound
from headgate.core.client.framing import ClientFrame
from headgate.core.client.outbound import FrameId
from headgate.core.wire.link_presence import PresenceMoved, PresenceState, UserPresence
from headgate.core.wire.present_user import present_user, state_of
from headgate.core.wire.told_users import ToldUsers

EVERY_S: Final = 1.0  # between two `presence_diff` of a topic (docs/protocol.md, section 4)

_DIFFERS: Final = -1  # clients were told different counts
_encode: Final = msgspec.json.Encoder().encode


class PresenceReplica:
    """`users` are those that the owner lists, `count` is that of all.

    While clients are told what changes, `told` has what they know; a client that comes later gets all as it is now. The
    first of them knows that he is here before the owner has said so, and who comes meanwhile is shown him too.
    """

    __slots__ = ("_first", "_items", "_joined", "_told", "_told_at", "_told_count", "count", "epoch", "mode", "users")

    def __init__(self, state: PresenceState) -> None:
        self.epoch = state.epoch
        self.mode = state.mode
        self.count = state.count
        self.users = {user.user_id: user for user in state.users}
        self._items: dict[str, bytes] = {}  # of `subscribers`, as JSON; made when they are first asked for
        self._joined: bytes | None = None  # all of them: made once while very many connect
        self._told: ToldUsers[bool] | None = None  # whether each is away
        self._first: UserPresence | None = None  # whom the owner has not named yet
        self._told_count = state.count
        self._told_at = float("-inf")

    def replace(self, state: PresenceState) -> bool:
        """Takes the whole state from an owner; returns whether the mode is another."""
        is_other, self.mode, self.epoch, self.count = state.mode != self.mode, state.mode, state.epoch, state.count
        users, self.users = self.users, {user.user_id: user for user in state.users}
        self._items.clear()
        self._joined = None
        if is_other:
            self.end_telling()
        elif self._told is not None:
            for user_id in users:
                if user_id not in self.users:
                    self._told.note(user_id, None)
            for user_id, user in self.users.items():
                self._told.note(user_id, user.away)
        return is_other

    def move(self, moved: PresenceMoved) -> None:
        """Takes what changed."""
        self.count = moved.count
        if moved.left or moved.users:
            self._joined = None
        for user_id in moved.left:
            self.users.pop(user_id, None)
            self._items.pop(user_id, None)
            if self._told is not None:
                self._told.note(user_id, None)
        for user in moved.users:
            self.users[user.user_id] = user
            self._items.pop(user.user_id, None)
            if self._told is not None:
                self._told.note(user.user_id, user.away)

    def frame(
        self, topic_id: str, count: int, own: UserPresence | None = None, frame_id: FrameId = None
    ) -> ClientFrame:
        """Returns the `presence` frame. `own` is whom it goes to, if the owner does not count that subscription yet."""
        if self.mode != "list":
            return outbound.presence(topic_id, count, frame_id)
        text, listed = self._list_for(own)
        return outbound.presence(topic_id, max(count, listed), frame_id, msgspec.Raw(b"[" + text + b"]"))

    # What clients are told

    def begin_telling(self, own: UserPresence | None = None, count: int | None = None) -> None:
        """One more client, who has all as it is now, is told what changes; `own` and `count` as in his first frame."""
        if self._told is None:
            told = {user_id: user.away for user_id, user in self.users.items()}
            if own is not None and self.mode == "list" and own.user_id not in told:
                told[own.user_id], self._first = own.away, own
            self._told = ToldUsers(told)
            self._told_count = self.count if count is None else count
        elif count is not None and count != self._told_count and self.mode != "list":
            self._told_count = _DIFFERS
        self._told.shown()

    def end_telling(self) -> None:
        """No client is told any longer."""
        self._told = self._first = None

    def leave(self, user_id: str) -> bool:
        """A client who was told changes has gone; true where others were shown him and the owner may never name him."""
        first = self._first_unnamed()
        if first is None or first.user_id != user_id or self._told is None:
            return False
        self._first = None
        self._told.note(user_id, None)
        return True

    def is_due(self, now: float) -> bool:
        """Returns whether something may be told."""
        return now >= self._told_at + EVERY_S

    def take_diff(self, topic_id: str, now: float) -> tuple[ClientFrame, str] | None:
        """Returns the `presence_diff` of what changed since the last one, None where nothing has.

        The user id with it is that of the one user who joined, where nothing else has changed: he knows it. Else "".
        """
        self._told_at = now
        changes = [] if self._told is None else self._told.take()
        if not changes and self._told_count == self.count:
            return None
        alone = len(changes) == 1 and changes[0].before is None and self.count == self._told_count + 1
        self._told_count = self.count
        here = [change for change in changes if change.now is not None]
        joined = [(each.user_id, each.now) for each in here if each.before is None or each.before == each.now]
        changed = [(each.user_id, each.now) for each in here if each.before is not None and each.before != each.now]
        left = [(each.user_id, each.before) for each in changes if each.now is None]
        frame = outbound.presence_diff(topic_id, _states(joined), _states(left), _states(changed), self.count)
        return frame, changes[0].user_id if alone else ""

    def _list_for(self, own: UserPresence | None) -> tuple[bytes, int]:
        """Returns the items of a list, and how many they are: an owner that was asked earlier counts fewer."""
        known = None if own is None else self.users.get(own.user_id)
        if own is None or (known is None and len(self.users) < self.count):
            return self._all(), len(self.users)  # the first ones of very many
        if known is None:
            first = self._first_unnamed()
            others = [self._item(first)] if first is not None and first.user_id != own.user_id else []
            items = [*([self._all()] if self.users else []), *others, _encode(present_user(own))]
            return b",".join(items), len(self.users) + len(others) + 1
        own = UserPresence(own.user_id, known.connections + 1, known.since, known.away and own.away)
        items = [self._item(user) for user in self.users.values() if user is not known]
        return b",".join([*items, _encode(present_user(own))]), len(self.users)

    def _first_unnamed(self) -> UserPresence | None:
        if self._first is not None and self._first.user_id in self.users:
            self._first = None
        return self._first

    def _all(self) -> bytes:
        if self._joined is None:
            self._joined = b",".join([self._item(user) for user in self.users.values()])
        return self._joined

    def _item(self, user: UserPresence) -> bytes:
        item = self._items.get(user.user_id)
        if item is None:
            item = self._items[user.user_id] = _encode(present_user(user))
        return item


def _states(users: Sequence[tuple[str, bool | None]]) -> list[dict[str, Any]]:
    return [{"user_id": user_id, "state": state_of(away=bool(away))} for user_id, away in users]
