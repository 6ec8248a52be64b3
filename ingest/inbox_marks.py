"""How far a user has come in a topic: what a device got, what the user has read. Kept by the owner of his shard.

What a mark means only the topic's owner knows; he is asked first. A mark never moves back, so a repeat changes nothing.
"""

from typing import Any, Final, Literal, NamedTuple

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import PRINTABLE_ASCII
from headgate.core.wire.link_acks import Cursor, CursorsMoved, MoveCursors
from headgate.core.wire.link_inbox import MarksMoved, MoveMarks, ReadMark, ReadStored, ResolvedMark, ResolveMark
from headgate.core.wire.rights import Caller
from headgate.runtime.http.call import Call
from ingest.message_queries import MessageQueries, unknown_message
from ingest.owners import OwnerQueries

DEFAULT_DEVICE: Final = "default"
Kind = Literal["delivered", "read"]


class InboxMark(NamedTuple):
    """What is acknowledged: that a device got what is named, or that the user has read it."""

    device_id: str
    kind: Kind


class InboxMarks:
    """Stores marks. Each is durable, and counted by the next answer about the inbox, when it is stored."""

    def __init__(self, owners: OwnerQueries, messages: MessageQueries) -> None:
        self._owners = owners
        self._messages = messages

    async def resolve_seq(self, caller: Caller, topic_id: str, seq: int) -> ResolvedMark:
        """Returns where a seq of a topic is; one above the head is the head. Raises Refusal."""
        answer = await self._owners.ask(
            self._owners.shard_of(topic_id), lambda req: ResolveMark(req, topic_id, caller, seq)
        )
        assert isinstance(answer, ResolvedMark)
        return answer

    async def resolve_message(self, caller: Caller, message_id: bytes) -> ResolvedMark:
        """Returns where a message is; its id alone names it. Raises Refusal."""
        message = await self._messages.ask(caller, "", message_id, "reposition")
        try:
            place = await self.resolve_seq(caller, message.topic_id, message.seq)
        except Refusal as refusal:
            raise unknown_message(message_id) if refusal.code == "topic_not_found" else refusal from None
        if place.epoch != message.epoch:
            raise unknown_message(message_id)  # the topic was recreated meanwhile
        return place

    async def store(self, caller: Caller, mark: InboxMark, place: ResolvedMark) -> None:
        """Moves the device's cursor, or the read mark. Raises Refusal, `outcome_unknown` where nobody answers in time.

        Of a read mark the topic's owner is told, for receipts.
        """
        shard, user_id = self._owners.shard_of_user(caller.user_id), caller.user_id
        topic_id, epoch, seq = place.topic_id, place.epoch, place.seq
        if mark.kind == "delivered":
            cursor = Cursor(user_id, mark.device_id, topic_id, epoch, seq)
            moved = await self._owners.store(shard, lambda req: MoveCursors(req, shard, [cursor]))
            assert isinstance(moved, CursorsMoved)
            return
        read = ReadMark(user_id, topic_id, epoch, seq, place.n)
        marked = await self._owners.store(shard, lambda req: MoveMarks(req, shard, [read]))
        assert isinstance(marked, MarksMoved)
        self._owners.tell(topic_id, ReadStored(topic_id, epoch, user_id, seq))


def check_device_id(device_id: object) -> str:
    """Returns the id of a device, `default` for None. Raises Refusal `bad_request`."""
    if device_id is None:
        return DEFAULT_DEVICE
    if not isinstance(device_id, str) or PRINTABLE_ASCII.fullmatch(device_id) is None:
        raise Refusal("bad_request", "device_id is 1 to 128 printable ASCII characters")
    return device_id


def read_mark(call: Call, members: dict[str, Any]) -> InboxMark:
    """Returns the `device_id` and `kind` of a body. Raises Refusal `bad_request`, for an Idempotency-Key too.

    A key is not needed: a mark that is sent twice, or with another one's key, moves by maximum.
    """
    device_id, kind = check_device_id(members.get("device_id")), members.get("kind", "delivered")
    call.check_key()
    if kind not in ("delivered", "read"):
        raise Refusal("bad_request", "kind must be delivered or read")
    return InboxMark(device_id, "read" if kind == "read" else "delivered")
