"""Who is let in and put out during a run, and what may have reached whom (Z1); the log is the truth, as everywhere."""

import asyncio
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from headgate.core.wire.control import RemoveMember, SetMember, UpdateTopic
from headgate.core.wire.rights import Caller, Identity
from headgate.runtime.ports import Clock
from headgate.runtime.tokens import Authenticator, TokenKey
from tests.sim.publishers import KEEPER, Lost, NotSent, call

if TYPE_CHECKING:
    from tests.sim.world import World

MODES: Final = ("PRIVATE", "PRIVATE", "PUBLIC", "PUBLISH_ONLY", "SUBSCRIBE_ONLY")
ROLES: Final = ("subscriber", "member", "member", "admin", "publisher")
_READERS: Final = frozenset({"subscriber", "member", "admin", "owner"})
_OPEN: Final = frozenset({"PUBLIC", "SUBSCRIBE_ONLY"})


class PlainUsers(Authenticator):
    """Open mode in which only the run's own hands have rights by token; a client has those of its role."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("open", TokenKey(None), clock)

    def anonymous_caller(self, user: str | None) -> Identity:
        """Returns a caller without any right of a token, but for the keeper, the reader and the publishers."""
        name = user or "anonymous"
        if name.startswith("c"):
            return Identity(Caller(name, service=True), None, b"")
        return super().anonymous_caller(user)


class Change(NamedTuple):
    """After message `seq` of a topic's epoch only these users may read; None: anyone may."""

    seq: int
    readers: frozenset[str] | None


class Doors:
    """Who may read a topic when, told from the log by rules so plain that they can be seen to be right.

    Every change of a run is made by the keeper, who may do all, or by a client that leaves: so none is refused but that
    of the last owner, which nobody asks for.
    """

    def __init__(self) -> None:
        self._modes: dict[tuple[str, int], str] = {}
        self._members: dict[tuple[str, int], dict[str, str]] = {}
        self._changes: dict[tuple[str, int], list[Change]] = {}
        self._removed: set[tuple[str, int, str]] = set()

    def created(self, topic_id: str, epoch: int, permissions: str, owner_id: str) -> None:
        """A topic was created."""
        name = (topic_id, epoch)
        self._modes[name], self._members[name] = permissions, {owner_id: "owner"}
        self._note(name, -1)

    def change(self, topic_id: str, epoch: int, seq: int, control: Any) -> None:
        """Takes a record about members or permissions that stands behind message `seq`."""
        name = (topic_id, epoch)
        if isinstance(control, SetMember):
            self._members[name][control.user_id] = control.role
        elif isinstance(control, RemoveMember):
            if self._members[name].pop(control.user_id, None) is not None:
                self._removed.add((*name, control.user_id))
        elif isinstance(control, UpdateTopic) and control.permissions is not None:
            self._modes[name] = control.permissions
        self._note(name, seq)

    def _note(self, name: tuple[str, int], seq: int) -> None:
        readers = frozenset(user for user, role in self._members[name].items() if role in _READERS)
        self._changes.setdefault(name, []).append(Change(seq, None if self._modes[name] in _OPEN else readers))

    def may_read(self, topic_id: str, epoch: int, user: str) -> bool:
        """Returns whether a user may read now."""
        return _lets_in(self._changes[topic_id, epoch][-1], user)

    def might_read(self, topic_id: str, epoch: int, user: str, seq: int) -> bool:
        """Returns whether a user might read when message `seq` came or at any time since: whoever may, may read all."""
        changes = self._changes[topic_id, epoch]
        in_force = bisect_left(changes, seq, key=lambda change: change.seq) - 1
        return any(_lets_in(change, user) for change in changes[in_force:])

    def ever_lost(self, topic_id: str, epoch: int, user: str) -> bool:
        """Returns whether there was a moment at which a user might not read, or a membership of his ended."""
        changes = self._changes[topic_id, epoch]
        return (topic_id, epoch, user) in self._removed or not all(_lets_in(change, user) for change in changes)

    def mode(self, topic_id: str, epoch: int) -> str:
        """Returns the topic's permissions now."""
        return self._modes[topic_id, epoch]

    def members(self, topic_id: str, epoch: int) -> dict[str, str]:
        """Returns the members now, by user."""
        return self._members[topic_id, epoch]


def _lets_in(change: Change, user: str) -> bool:
    return change.readers is None or user in change.readers


class Doorkeeper:
    """Lets clients in and out, and changes permissions, at random; what became of a lost request the log says."""

    name = "doorkeeper"

    def __init__(self, world: "World", count: int) -> None:
        self._world = world
        self._count = count
        self._rng = world.rng("doorkeeper")

    async def run(self) -> None:
        """Makes `count` changes, some at once."""
        plan = self._world.plan
        async with asyncio.TaskGroup() as tasks:
            for n in range(self._count):
                await asyncio.sleep(self._rng.expovariate(self._count / plan.active_s))
                tasks.create_task(self._change(), name=f"door-{n}")

    async def _change(self) -> None:
        rng, plan = self._rng, self._world.plan
        topic = f"/api/v1/topics/{rng.choice(plan.topics)}"
        user = f"c{rng.randrange(plan.clients)}"
        what = rng.random()
        if what < 0.35:
            await self._ask("PUT", f"{topic}/members/{user}", KEEPER, {"role": rng.choice(ROLES)})
        elif what < 0.6:
            await self._ask("DELETE", f"{topic}/members/{user}", KEEPER)
        elif what < 0.75:
            await self._ask("DELETE", f"{topic}/members/{user}", user)
        else:
            await self._ask("PATCH", topic, KEEPER, {"permissions": rng.choice(MODES)})

    async def _ask(self, method: str, path: str, user: str, body: dict[str, str] | None = None) -> None:
        data = msgspec.json.encode(body) if body is not None else b""
        for _ in range(3):
            ingest = self._rng.choice(list(self._world.ingests))
            try:
                status, answer = await call(self._world, self._rng, ingest, method, path, user, data)
            except (NotSent, Lost):
                status, answer = 0, None
            code = answer.get("code", "") if answer else ""
            self._world.trace("door", f"{user}: {method} {path} {data.decode()}: {status} {code}")
            if status in (200, 201, 204):
                return
            if status not in (0, 404, 409, 503, 504):
                self._world.violate("X1", f"{user}: {method} {path}: unexpected answer {answer}")
            await asyncio.sleep(0.1 + self._rng.random())
