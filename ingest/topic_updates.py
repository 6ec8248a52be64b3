"""PATCH /api/v1/topics/{topic_id}: name, permissions and settings, all of a request or nothing of it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

from msgspec.structs import replace

from headgate.core.wire import rights, topic_settings
from headgate.core.wire.control import UpdateTopic
from headgate.core.wire.direct_topics import PERMISSIONS, is_direct
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id, id_text
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.verdict import Code
from headgate.runtime.http.call import Call, Reply, reply
from ingest.access import Access
from ingest.audit import AuditLog
from ingest.catalog import Catalog, Known
from ingest.control_fields import check_name, check_permissions, check_retention
from ingest.controls import Controls
from ingest.keyed_operations import KeyedOperation
from ingest.member_records import refusal_of, require_logic
from ingest.owners import OUTCOME_S
from ingest.rates import Rates
from ingest.shapes import topic_shown

TURN_S: Final = OUTCOME_S  # how long a change waits for earlier ones of its topic
TRIES: Final = 50  # a change by another ingest makes the record void: it is decided again on what is there now


class Changes(NamedTuple):
    """What a request changes; `settings` is the member of the body, checked against the topic when it is merged."""

    name: str | None
    permissions: str | None
    settings: Any
    has_settings: bool


class TopicUpdates:
    """The handler. The changes of one topic are made one after the other: at once they would make each other void."""

    def __init__(
        self,
        access: Access,
        catalog: Catalog,
        controls: Controls,
        rates: Rates,
        audit: AuditLog,
        usual: topic_settings.Settings,
        kept_ms: int,
    ) -> None:
        """`usual` are the defaults of the installation, `kept_ms` is how long the log keeps messages."""
        self._access = access
        self._catalog = catalog
        self._controls = controls
        self._rates = rates
        self._audit = audit
        self._usual = usual
        self._kept_ms = kept_ms
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by topic, while somebody has it

    async def update(self, call: Call) -> Reply:
        """PATCH: answers with the topic as it is afterwards. Raises Refusal."""
        topic_id = check_topic_id(call.path_parameters["topic_id"])
        with self._audit.operation(call, "topic.update", topic_id) as entry:
            known = await self._access.ask(topic_id, call.caller, rights.may_administer, "change")
            changes = read_changes(call.json_object())
            entry.change = described(changes)
            if is_direct(topic_id) and changes.permissions not in (None, PERMISSIONS):
                raise Refusal("forbidden", f"the permissions of {topic_id} are {PERMISSIONS}; that never changes")
            if merged(known.info, changes, self._usual) is not None:
                check_retention(changes.settings, self._kept_ms)
            keyed = self._controls.keyed.read(call, f"update {topic_id}", changes)
            record_id = self._controls.id_of("update", topic_id, call.caller, call.idempotency_key)
            self._rates.change_member(call.caller)
            require_logic(known)
            entry.record_id = id_text(record_id)
            async with self._turn(topic_id) as waited:
                known = await self._again(known) if waited else known
                return reply(topic_shown(await self._update(call, known, changes, record_id, keyed)))

    @asynccontextmanager
    async def _turn(self, topic_id: str) -> AsyncGenerator[bool]:
        """Waits for the earlier changes of a topic; gives whether there were any. Raises Refusal after TURN_S."""
        turn = self._turns.setdefault(topic_id, asyncio.Lock())
        waited = turn.locked()
        try:
            async with asyncio.timeout(TURN_S):
                await turn.acquire()
        except TimeoutError:
            raise _busy(topic_id) from None
        try:
            yield waited
        finally:
            turn.release()

    async def _update(
        self, call: Call, known: Known, changes: Changes, record_id: bytes, keyed: KeyedOperation | None
    ) -> TopicInfo:
        epoch, topic_id = known.info.epoch, known.info.topic_id
        for _ in range(TRIES):
            settings = merged(known.info, changes, self._usual)
            actor = rights.actor_of(call.caller, topic_id)
            record = UpdateTopic(topic_id, known.info.version, actor, changes.name, changes.permissions, settings)
            outcome = await self._controls.decide(topic_id, record, epoch, record_id, keyed)
            self._catalog.drop(topic_id)
            if outcome.verdict.code == Code.UPDATED:
                return await self._updated(known.info, record, outcome.verdict.seq)
            if outcome.verdict.code != Code.CONFLICT:
                raise await refusal_of(outcome.verdict, self._access, call.caller, topic_id, "change")
            known = await self._again(known)
        raise _busy(topic_id)

    async def _again(self, known: Known) -> Known:
        """Returns the same topic as it is now. Raises Refusal."""
        now = await self._catalog.fetch(known.info.topic_id)
        if now.info.epoch != known.info.epoch:
            raise rights.unknown_topic(known.info.topic_id)
        return now

    async def _updated(self, info: TopicInfo, record: UpdateTopic, version: int) -> TopicInfo:
        """Returns the topic as it is now; as the record made it where the owner is away."""
        try:
            now = (await self._catalog.fetch(info.topic_id)).info
        except Refusal:
            now = None
        if now is not None and now.epoch == info.epoch:
            return now
        settings = info.settings if record.settings is None else topic_settings.effective(record.settings, self._usual)
        name = record.name or info.name
        permissions = record.permissions or info.permissions
        return replace(info, name=name, permissions=permissions, settings=settings, version=version)


def read_changes(body: dict[str, Any]) -> Changes:
    """Reads a body; what is not in it does not change. Raises Refusal `bad_request`."""
    name = check_name(body["name"]) if "name" in body else None
    permissions = check_permissions(body["permissions"]) if "permissions" in body else None
    return Changes(name, permissions, body.get("settings"), "settings" in body)


def merged(info: TopicInfo, changes: Changes, usual: topic_settings.Settings) -> topic_settings.Settings | None:
    """Returns the overrides after the changes, None where no setting changes. Raises Refusal."""
    return topic_settings.change(info.settings, changes.settings, usual) if changes.has_settings else None


def _busy(topic_id: str) -> Refusal:
    return Refusal("overloaded", f"topic {topic_id} is changed by others all the time; nothing was changed")


def described(changes: Changes) -> str:
    """Returns the names of what changes, and the permissions, for the audit log."""
    words = ["name"] if changes.name is not None else []
    if changes.permissions is not None:
        words.append(f"permissions={changes.permissions}")
    if isinstance(changes.settings, dict):
        words += [f"settings.{name}" for name in sorted(changes.settings) if name in topic_settings.DEFAULTS]
    return " ".join(words)
