"""What the owner in `ingest_twin` knows of single messages: their versions and reactions, and who may do what."""

from typing import TYPE_CHECKING

from headgate.core.sequencer.effects import Deliver, MessageChanged
from headgate.core.sequencer.rows import Row
from headgate.core.wire.amended_frames import MessageState, amended_frame, payload_in
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import shard_of_id, topic_key
from headgate.core.wire.link_messages import AskMessage, MessageAnswer, MessageVersion
from headgate.core.wire.message_changes import MAX_NAMES, EditMessage, RedactMessage
from headgate.core.wire.rights import may_administer, may_publish, may_see, may_subscribe, unknown_topic

if TYPE_CHECKING:
    from tests.integration.ingest_twin import Owner

HISTORY_BYTES = 8 * 1024 * 1024  # as dispatcher.answering has it
Place = tuple[str, int, int]  # topic, epoch, seq


class MessageBook:
    """Keeps what was delivered and changed, and answers AskMessage as its docstring says."""

    def __init__(self, owner: "Owner") -> None:
        self._owner = owner
        self._messages: dict[bytes, Deliver] = {}
        self._at: dict[bytes, int] = {}  # positions in the log
        self._states: dict[Place, MessageState] = {}
        self._versions: dict[Place, list[MessageVersion]] = {}
        self._reactions: dict[Place, set[tuple[str, str]]] = {}  # name, user

    def delivered(self, message: Deliver, offset: int) -> None:
        self._messages[message.id] = message
        self._at[message.id] = offset << 10 | message.item
        self._versions[_place(message)] = [MessageVersion(1, payload_in(message.frame), 0)]

    def changed(self, effect: MessageChanged) -> None:
        event, change = effect.event, effect.change
        place = (event.topic_id, event.epoch, change.target_seq)
        state, versions = self._states.get(place, MessageState()), self._versions[place]
        if isinstance(change, EditMessage):
            payload = payload_in(event.frame)
            state = state._replace(version=change.version + 1, payload=payload, edited_at=event.ts)
            versions.append(MessageVersion(state.version, payload, event.ts))
        elif isinstance(change, RedactMessage):
            state = state._replace(redacted=True)
            self._versions[place] = [MessageVersion(one.version, b"null", one.edited_at) for one in versions]
        else:
            reactions = self._reactions.setdefault(place, set())
            (reactions.discard if change.removed else reactions.add)((change.name, change.actor.user_id))
            names = {name for name, _ in reactions}
            state = state._replace(reactions={name: sum(n == name for n, _ in reactions) for name in names})
        self._states[place] = state

    def is_message(self, delivered: Deliver) -> bool:
        return delivered.id in self._messages

    def now(self, message: Deliver) -> bytes:
        return amended_frame(message.frame, self._states.get(_place(message), MessageState()))

    def answer(self, ask: AskMessage) -> MessageAnswer:
        message = self._messages.get(ask.message_id)
        topic_id = ask.topic_id or (message.topic_id if message is not None else "")
        if not ask.topic_id:
            assert ask.shard == shard_of_id(ask.message_id, self._owner.store.shards)
        row = self._owner.row(topic_id)
        role = self._owner.role(ask.caller, row)
        if not may_see(ask.caller, row, role):
            raise unknown_topic(topic_id)
        if row.settings.get("profile") == "ephemeral":
            raise Refusal("not_in_profile", "ephemeral")
        if message is None or (message.topic_id, message.epoch) != (topic_id, row.epoch):
            raise Refusal("message_not_found", "no")
        state = self._states.get(_place(message), MessageState())
        own = b'"publisher_id":"%b"' % ask.caller.user_id.encode() in message.frame
        self._require(ask, row, own=own)
        return MessageAnswer(
            ask.req,
            topic_id,
            message.epoch,
            message.seq,
            self._at[message.id],
            state.version,
            state.redacted,
            own,
            self._is_settled(ask, message, state),
            self._owner.logic_of(topic_key(topic_id)),
            self.now(message),
            self._versions[_place(message)] if ask.versions else [],
        )

    def _require_use(self, ask: AskMessage, row: Row) -> None:
        role = self._owner.role(ask.caller, row)
        wants = {"read": may_subscribe, "react": may_subscribe, "unreact": may_subscribe, "reply": may_publish}
        wants["reposition"] = may_subscribe
        if ask.purpose in wants and not wants[ask.purpose](ask.caller, row, role):
            raise Refusal("forbidden", "no")

    def _require(self, ask: AskMessage, row: Row, *, own: bool) -> None:
        self._require_use(ask, row)
        role = self._owner.role(ask.caller, row)
        if ask.purpose == "edit" and not (own and may_publish(ask.caller, row, role)):
            raise Refusal("forbidden", "no")
        if ask.purpose == "redact" and not (own or may_administer(ask.caller, row, role)):
            raise Refusal("forbidden", "no")

    def _is_settled(self, ask: AskMessage, message: Deliver, state: MessageState) -> bool:
        if ask.purpose == "redact":
            return state.redacted
        if ask.purpose not in ("react", "unreact"):
            return False
        if state.redacted:
            raise Refusal("immutable", "redacted")
        reactions = self._reactions.get(_place(message), set())
        is_there = (ask.name, ask.caller.user_id) in reactions
        names = {name for name, _ in reactions}
        if ask.purpose == "react" and ask.name not in names and len(names) >= MAX_NAMES:
            raise Refusal("limit_reached", "so many names")
        return is_there == (ask.purpose == "react")


def cut(frames: list[bytes]) -> list[bytes]:
    """One answer of an owner ends at a number of bytes."""
    size, count = 0, 0
    while count < len(frames) and (size := size + len(frames[count])) <= HISTORY_BYTES:
        count += 1
    return frames[: max(count, 1)]


def _place(message: Deliver) -> Place:
    return message.topic_id, message.epoch, message.seq
