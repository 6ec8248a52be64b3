"""A consumer group: one of its members gets each message; knows no delivery."""

from headgate.broker.lane import Lane
from headgate.broker.message import Entry
from headgate.core.ids import murmur2


class Group:
    """The members that share a topic's messages, in the order of their joining.

    A message with a key goes to the member that still has messages of this key, else to the one with the highest hash
    of (key, name) (rendezvous hashing: a member that comes or goes moves its own keys only). So messages of a key stay
    in order, through changes of membership too. A message without one goes to the member with the shortest queue.
    """

    __slots__ = ("_keys", "after", "members", "name")

    def __init__(self, name: str, after: int) -> None:
        self.name = name
        self.after = after
        self.members: list[Lane] = []
        self._keys: dict[str, tuple[Lane, int]] = {}  # where a key's messages wait, and how many; empty when none do

    def pick(self, entry: Entry) -> Lane:
        """Returns the member that gets this entry, and notes its key. There must be a member."""
        if entry.key is None:
            return min(self.members, key=lambda lane: len(lane.queue))
        lane, count = self._keys.get(entry.key) or (self._rank(entry.key), 0)
        self._keys[entry.key] = (lane, count + 1)
        return lane

    def done(self, entry: Entry) -> None:
        """Forgets one entry of a key: it left its member's queue."""
        if entry.key is None or entry.key not in self._keys:
            return
        lane, count = self._keys.pop(entry.key)
        if count > 1:
            self._keys[entry.key] = (lane, count - 1)

    def hand_over(self, entries: list[Entry]) -> list[Lane]:
        """Gives the entries of a member that left to the others; returns those that got some, in order of joining."""
        for entry in entries:
            self.done(entry)
        shares: dict[str, list[Entry]] = {}
        for entry in entries:
            shares.setdefault(self.pick(entry).name, []).append(entry)
        receivers = [lane for lane in self.members if lane.name in shares]
        for lane in receivers:
            lane.merge(shares[lane.name])
        return receivers

    def _rank(self, key: str) -> Lane:
        return max(self.members, key=lambda lane: murmur2(f"{key}\0{lane.name}".encode()))
