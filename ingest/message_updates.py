"""Changes of single messages: decided with their topic's owner, appended as events, and waited for."""

from typing import Final, NamedTuple

from headgate.core.publish.change_request import Edit, check_reaction, read_edit
from headgate.core.wire import rights
from headgate.core.wire.control import MESSAGES_LOGIC
from headgate.core.wire.envelope import KEYED, UNMETERED
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import id_text
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.link_messages import MessageAnswer
from headgate.core.wire.message_changes import (
    NO_PAYLOAD,
    EditMessage,
    MessageChange,
    ReactToMessage,
    RedactMessage,
    encode_event,
    event_tail,
)
from headgate.core.wire.verdict import Code, Verdict
from headgate.runtime.http.answers import Header
from headgate.runtime.http.call import Call
from ingest.access import Access
from ingest.audit import Action, AuditEntry, AuditLog
from ingest.controls import Controls
from ingest.keyed_operations import KeyedOperation
from ingest.member_records import refusal_of
from ingest.message_queries import MessageQueries
from ingest.rates import Rates

_CHANGE: Final = "change messages of"


class Target(NamedTuple):
    """The message that a request names; `topic_id` is "" where its id alone names it."""

    topic_id: str
    message_id: bytes


class Edited(NamedTuple):
    """An edit that was made: the message's frame as it is now, and the `seq` of the edit."""

    frame: bytes
    event_seq: int


class MessageUpdates:
    """Edits, redacts, adds and takes back reactions. Each counts as one publish of the user and in the topic."""

    def __init__(
        self,
        *,
        access: Access,
        messages: MessageQueries,
        controls: Controls,
        rates: Rates,
        audit: AuditLog,
        payload_bytes: int,
    ) -> None:
        self._access = access
        self._messages = messages
        self._controls = controls
        self._rates = rates
        self._audit = audit
        self._payload_bytes = payload_bytes

    async def edit(
        self, call: Call, target: Target, body: bytes, *, is_charged: bool = False
    ) -> tuple[Edited, tuple[Header, ...]]:
        """Replaces the payload of the caller's own message. Returns the RateLimit headers too. Raises Refusal.

        `is_charged`: the bytes of the body are taken from the user's rate already.
        With an Idempotency-Key an old version is no conflict yet: the request may be a repeat of the edit that made it
        old, and only the sequencer knows that.
        """
        with self._audit.operation(call, "message.edit", target.topic_id) as entry:
            message, info = await self._find(call, entry, target, "edit")
            if not is_charged:
                self._rates.body(call.caller, len(body))
            edit = read_edit(body, self._payload_bytes)
            entry.change += f" version={edit.version}"
            record_id = self._record_id(call, message, f"edit\0{id_text(target.message_id)}")
            keyed = self._keyed(call, target, "edit", edit)
            headers = self._admit(call, info)
            if call.idempotency_key is None:
                require_version(message, edit)
            _begin(entry, message, record_id)
            actor = rights.actor_of(call.caller, info.topic_id)
            change = EditMessage(message.seq, message.pos, edit.version, actor)
            event_seq = await self._append(call, message, change, record_id, keyed, edit.payload)
            return Edited(await self._as_edited(call, target, message), event_seq), headers

    async def redact(self, call: Call, target: Target) -> tuple[Header, ...]:
        """Removes the payload of a message for ever. Returns the RateLimit headers. Raises Refusal."""
        with self._audit.operation(call, "message.redact", target.topic_id) as entry:
            message, info = await self._find(call, entry, target, "redact")
            record_id = self._record_id(call, message, f"redact\0{id_text(target.message_id)}")
            keyed = self._keyed(call, target, "redact")
            headers = self._admit(call, info)
            if message.settled:
                return headers
            _begin(entry, message, record_id)
            actor = rights.actor_of(call.caller, info.topic_id)
            change = RedactMessage(message.seq, message.pos, message.own, actor)
            await self._append(call, message, change, record_id, keyed)
            return headers

    async def react(self, call: Call, target: Target, name: object, *, removed: bool) -> tuple[Header, ...]:
        """Adds the caller's reaction, or takes it back. Returns the RateLimit headers. Raises Refusal."""
        action: Action = "message.unreact" if removed else "message.react"
        with self._audit.operation(call, action, target.topic_id) as entry:
            reaction = check_reaction(name)
            message, info = await self._find(call, entry, target, "unreact" if removed else "react", reaction)
            record_id = self._record_id(call, message, f"{action}\0{id_text(target.message_id)}\0{reaction}")
            keyed = self._keyed(call, target, f"{action} {reaction}")
            headers = self._admit(call, info)
            if message.settled:
                return headers
            _begin(entry, message, record_id)
            actor = rights.actor_of(call.caller, info.topic_id)
            change = ReactToMessage(message.seq, message.pos, reaction, removed, actor)
            await self._append(call, message, change, record_id, keyed)
            return headers

    # -- the steps of each

    async def _find(
        self, call: Call, entry: AuditEntry, target: Target, purpose: str, reaction: str = ""
    ) -> tuple[MessageAnswer, TopicInfo]:
        """Returns the message and its topic if the caller may change it so."""
        entry.change = f"message_id={id_text(target.message_id)}" + (f" name={reaction}" if reaction else "")
        message = await self._messages.ask(call.caller, *target, purpose, reaction=reaction)
        entry.topic_id = message.topic_id
        known = await self._access.require(message.topic_id, call.caller, rights.may_see, _CHANGE)
        return message, known.info

    def _keyed(self, call: Call, target: Target, operation: str, body: object = None) -> KeyedOperation | None:
        return self._controls.keyed.read(call, f"{operation} {id_text(target.message_id)}", body)

    def _record_id(self, call: Call, message: MessageAnswer, op: str) -> bytes:
        return self._controls.id_of(op, message.topic_id, call.caller, call.idempotency_key)

    def _admit(self, call: Call, info: TopicInfo) -> tuple[Header, ...]:
        try:
            self._rates.publish(call.caller, info, is_paid=False)
        except Refusal as refusal:
            raise self._rates.with_headers(refusal, call.caller, info) from None
        return self._rates.headers(call.caller, info)

    async def _append(
        self,
        call: Call,
        message: MessageAnswer,
        change: MessageChange,
        record_id: bytes,
        keyed: KeyedOperation | None,
        payload: bytes = NO_PAYLOAD,
    ) -> int:
        """Returns the `seq` of the event, 0 where there was nothing left to do. Raises Refusal."""
        flags = (KEYED if call.idempotency_key is not None else 0) | (UNMETERED if call.caller.service else 0)
        event = encode_event(change, event_tail(record_id, change, payload), message.epoch, record_id, flags)
        verdict = (await self._controls.decide_event(message.topic_id, event, keyed)).verdict
        if verdict.code == Code.CHANGED or (verdict.code == Code.DUPLICATE and verdict.seq):
            return verdict.seq
        if verdict.code == Code.DUPLICATE:  # the first may have been refused, or is not in the index yet
            detail = "the topic's owner cannot say what became of the first request with this Idempotency-Key"
            raise Refusal("outcome_unknown", detail, topic_id=message.topic_id)
        if verdict.code == Code.IGNORED and isinstance(change, RedactMessage):  # somebody else was faster
            return 0
        if verdict.code == Code.IGNORED:
            raise Refusal("immutable", "the message was redacted")
        if verdict.code == Code.CONFLICT:
            raise _conflict(verdict)
        raise await refusal_of(verdict, self._access, call.caller, message.topic_id, _CHANGE)

    async def _as_edited(self, call: Call, target: Target, message: MessageAnswer) -> bytes:
        try:
            return (await self._messages.ask(call.caller, message.topic_id, target.message_id, "edit")).frame
        except Refusal as refusal:
            if refusal.code != "not_ready":
                raise
            detail = "the edit was made, but the topic's owner went away before it could show the message"
            raise Refusal("outcome_unknown", detail, topic_id=message.topic_id) from None


def _begin(entry: AuditEntry, message: MessageAnswer, record_id: bytes) -> None:
    """Notes the record that is written next. Raises Refusal while an older dispatcher may have to read it."""
    if message.logic < MESSAGES_LOGIC:
        detail = "messages cannot be changed until every dispatcher of the cluster has been upgraded"
        raise Refusal("not_ready", detail)
    entry.record_id = id_text(record_id)


def require_version(message: MessageAnswer, edit: Edit) -> None:
    """Raises Refusal `version_conflict` for a redacted message, and unless the edit is of the present version."""
    if message.redacted:
        raise Refusal("version_conflict", "the message was redacted", version=message.version)
    if message.version != edit.version:
        detail = f"the message is at version {message.version}, not {edit.version}"
        raise Refusal("version_conflict", detail, version=message.version)


def _conflict(verdict: Verdict) -> Refusal:
    detail = f"the message was changed meanwhile, or redacted; it is at version {verdict.seq}"
    return Refusal("version_conflict", detail, version=verdict.seq)
