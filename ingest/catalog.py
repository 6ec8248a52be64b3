"""A cache of topics and of users' roles in them, filled by the topics' owners.

An entry is used for 60 s. When it is older than 2 s it is refreshed in the background, so that a publish never waits
for an owner (docs/protocol.md, section 2, Owner away). `Changed` ends an entry. An entry that is older than the link to
its owner may have missed that: then the owner is asked first, for 20 ms. A role is asked for and used only where the
topic does not already let anyone do what is wanted.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, AskTopic, Refused, TopicAnswer, TopicInfo
from headgate.core.wire.linkcodec import refusal_of
from headgate.core.wire.member_roles import Role
from headgate.core.wire.rights import Caller, Guarded, may_see, unknown_topic
from headgate.core.wire.topic_answers import role_of
from headgate.core.wire.topic_settings import DEFAULTS, PROFILES, Settings, effective
from headgate.runtime.links.port import Directory
from headgate.runtime.ports import Clock
from ingest.known_roles import KnownRole, KnownRoles
from ingest.owners import ASK_S, COUNT_S, away

FRESH_S: Final = 2.0
STALE_S: Final = 60.0
MAX_TOPICS: Final = 100_000  # about 55 MB with the usual settings, 200 MB with others
INGEST: Final = Caller("hg:ingest", publish=("*",), subscribe=("*",), admin=True, service=True)


class Known(NamedTuple):
    """A topic and a user's role in it; None for one who is no member, and where the role did not matter.

    `logic` is the meaning of records in the topic's shard.
    """

    info: TopicInfo
    role: Role | None = None
    logic: int = 1


Found = Known | Refusal
Right = Callable[[Caller, Guarded, Role | None], bool]


class _Entry(NamedTuple):
    known: Known  # without a role
    at: float
    mark: int  # another one when the topic was dropped or created again: then the roles are not those any longer


class Catalog:
    """The cache. A missing topic is not remembered: once it is created elsewhere, the next question finds it."""

    def __init__(self, directory: Directory, clock: Clock, usual: Settings = DEFAULTS) -> None:
        """`usual` are the settings of topics that name none."""
        self._directory = directory
        self._clock = clock
        self._usual = {profile: effective({"profile": profile}, usual) for profile in PROFILES}
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # oldest first
        self._next_mark = 0
        self._roles = KnownRoles()
        self._asking: dict[tuple[str, Caller], asyncio.Future[Found]] = {}  # by topic and who asks
        self._linked_at: dict[int, float] = {}  # by shard; a `Changed` may have been missed before

    def lookup(self, topic_id: str, caller: Caller, allowed: Right) -> Known | None:
        """Returns a topic that may be used at once, if what is remembered of it and the caller is `allowed`.

        What is not fresh is refreshed in the background.
        """
        entry = self._entries.get(topic_id)
        if entry is None:
            return None
        now, shard = self._clock.now(), self._directory.shard_of(topic_id)
        linked = self._directory.linked(shard)
        oldest = self._linked_at.get(shard, 0.0) if linked else 0.0
        if entry.at < oldest or now - entry.at > STALE_S:
            return None
        if allowed(caller, entry.known.info, None):
            if linked and now - entry.at > FRESH_S:
                self._ask(topic_id)
            return entry.known
        role = self._roles.get(topic_id, caller.user_id, entry.mark)
        if role is None or role.at < oldest or now - role.at > STALE_S:
            return None
        if linked and now - role.at > FRESH_S:
            self._ask(topic_id, caller)  # the answer refreshes the topic too
        return _with_role(entry, caller, role, allowed)

    async def get_many(self, topic_ids: Iterable[str], caller: Caller, allowed: Right) -> dict[str, Found]:
        """Returns each topic or the refusal for it: `topic_not_found`, `not_ready`, or why its owner cannot answer.

        Asks for all of them at once.

        What is remembered is returned only where the caller is `allowed`; what the owner answers always is.
        """
        found: dict[str, Found] = {}
        unsure: dict[str, Known | None] = {}  # to be asked for; what to use after 20 ms
        for topic_id in topic_ids:
            known = self.lookup(topic_id, caller, allowed)
            if known is not None:
                found[topic_id] = known
            else:
                unsure[topic_id] = self._remembered(topic_id, caller, allowed)
        return found | await self._find(unsure, caller) if unsure else found

    async def fetch(self, topic_id: str, caller: Caller = INGEST) -> Known:
        """Returns the topic, and the caller's role in it, as its owner sees them now.

        Raises Refusal: `topic_not_found` for a topic that the caller cannot see, `not_ready` when the owner is away,
        else what the owner refused it with.
        """
        future = self._ask(topic_id, caller)
        await asyncio.wait((future,), timeout=ASK_S)
        found = future.result() if future.done() else self._late(topic_id, caller, future)
        if isinstance(found, Refusal):
            raise found
        return found

    def drop(self, topic_id: str) -> None:
        """Forgets a topic that is known to have changed, and all roles in it."""
        self._entries.pop(topic_id, None)

    def drop_role(self, topic_id: str, user_id: str) -> None:
        """Forgets the role of one user in a topic."""
        self._roles.drop(topic_id, user_id)

    def on_owner(self, shard: int, up: bool) -> None:
        """Called when the link to a shard's owner was opened (`up`) or lost; changes before it were not pushed here."""
        if up:
            self._linked_at[shard] = self._clock.now()

    def _remembered(self, topic_id: str, caller: Caller, allowed: Right) -> Known | None:
        """Returns what will do if the owner does not answer in time."""
        entry, oldest = self._entries.get(topic_id), self._clock.now() - STALE_S
        if entry is None or entry.at < oldest:
            return None
        if allowed(caller, entry.known.info, None):
            return entry.known
        role = self._roles.get(topic_id, caller.user_id, entry.mark)
        return None if role is None or role.at < oldest else _with_role(entry, caller, role, allowed)

    async def _find(self, unsure: dict[str, Known | None], caller: Caller) -> dict[str, Found]:
        asked = {topic_id: self._ask(topic_id, caller) for topic_id in unsure}
        futures = set(asked.values())
        await asyncio.wait(futures, timeout=COUNT_S)
        if any(known is None and not asked[topic_id].done() for topic_id, known in unsure.items()):
            await asyncio.wait(futures, timeout=ASK_S - COUNT_S)
        return {
            topic_id: self._outcome(topic_id, caller, future, unsure[topic_id]) for topic_id, future in asked.items()
        }

    def _outcome(self, topic_id: str, caller: Caller, future: "asyncio.Future[Found]", known: Known | None) -> Found:
        if not future.done():
            return self._late(topic_id, caller, future) if known is None else known
        answer = future.result()
        is_unsure = isinstance(answer, Refusal) and answer.code != "topic_not_found"
        return known if is_unsure and known is not None else answer

    def _late(self, topic_id: str, caller: Caller, future: "asyncio.Future[Found]") -> Refusal:
        if self._asking.get((topic_id, caller)) is future:
            del self._asking[topic_id, caller]
        return away(self._directory.shard_of(topic_id))

    def _ask(self, topic_id: str, caller: Caller = INGEST) -> "asyncio.Future[Found]":
        asked = (topic_id, caller)
        future = self._asking.get(asked)
        if future is not None:
            return future
        future = asyncio.get_running_loop().create_future()
        try:
            shard = self._directory.shard_of(topic_id)
        except Refusal as refusal:  # no dispatcher has answered yet
            future.set_result(refusal)
            return future
        if not self._directory.linked(shard):
            future.set_result(away(shard))
            return future
        self._asking[asked] = future

        def on_answer(answer: Answer) -> None:  # called in the link's order: a later Changed finds the entry
            if self._asking.get(asked) is future:
                del self._asking[asked]
            found = self._take(topic_id, caller, answer)
            if not future.done():
                future.set_result(found)

        # Asked with the caller's own rights, an owner refuses a hidden topic like a missing one, in the same time.
        self._directory.request(shard, lambda req: AskTopic(req, topic_id, caller), on_answer)
        return future

    def _take(self, topic_id: str, caller: Caller, answer: Answer) -> Found:
        if isinstance(answer, TopicAnswer):
            return self._keep(topic_id, caller, answer)
        assert isinstance(answer, Refused)
        if answer.code != "topic_not_found":  # it says nothing about the topic
            return refusal_of(answer)
        self._roles.drop(topic_id, caller.user_id)
        entry = self._entries.get(topic_id)
        if entry is not None and may_see(caller, entry.known.info, None):  # else it may be there for others
            del self._entries[topic_id]
        return unknown_topic(topic_id)

    def _keep(self, topic_id: str, caller: Caller, answer: TopicAnswer) -> Known:
        info, role, now = self._with_shared_settings(answer.info), role_of(answer, caller.user_id), self._clock.now()
        before = self._entries.get(topic_id)
        if before is not None and before.known.info.epoch == info.epoch:
            mark = before.mark
        else:
            mark = self._next_mark
            self._next_mark += 1
            if before is None and len(self._entries) >= MAX_TOPICS:
                self._entries.popitem(last=False)
        known = Known(info, None, answer.logic)
        self._entries[topic_id] = _Entry(known, now, mark)
        self._entries.move_to_end(topic_id)
        if caller is INGEST:
            return known
        self._roles.put(topic_id, caller.user_id, role, now, mark)
        return known._replace(role=role)

    def _with_shared_settings(self, info: TopicInfo) -> TopicInfo:
        """Saves memory: the settings are most of an entry, and nearly always the defaults."""
        usual = self._usual.get(info.profile)
        if info.settings == usual:
            info.settings = usual
        return info


def _with_role(entry: _Entry, caller: Caller, known: KnownRole, allowed: Right) -> Known | None:
    return entry.known._replace(role=known.role) if allowed(caller, entry.known.info, known.role) else None
