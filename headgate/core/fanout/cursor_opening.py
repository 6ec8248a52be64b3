"""Where a subscription begins that asks for its device's cursor: the owner of the user's shard is asked first.

With `ack` the answer takes over from another session of the device. So the owner of the topic is asked before that
whether the caller may subscribe at all: one who may not ends nobody's subscription.
"""

from msgspec import structs

from headgate.core.fanout.pending_subscribe import PendingSubscribe
from headgate.core.wire import rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, AskTopic, Refused, Subscribed, TopicAnswer
from headgate.core.wire.link_acks import CursorAnswer, CursorLease, OpenCursor
from headgate.core.wire.linkcodec import refusal_of
from headgate.core.wire.position import CURSOR, Position
from headgate.core.wire.topic_answers import require_subscribe


def begin(pending: PendingSubscribe, user_id: str, at_ms: int) -> None:
    """A subscribe with `ack` came at `at_ms` (Unix milliseconds). It may wait for its owner, and grows no younger."""
    wanted = pending.subscribe
    if wanted.ack and pending.lease is None:
        connection_id = pending.session.connection_id
        pending.lease = CursorLease(user_id, wanted.device_id, wanted.topic_id, connection_id, at_ms)


def question_of_topic(pending: PendingSubscribe, req: int) -> AskTopic:
    """Returns the question to the topic's owner that comes before that for a lease."""
    caller = pending.session.caller
    assert caller is not None
    return AskTopic(req, pending.topic_id, caller)


def check_lease(pending: PendingSubscribe, answer: Answer, *, create: bool) -> None:
    """Raises the Refusal of the subscribe by the answer of the topic's owner.

    With `create` a topic that is not there is made by the subscribe, where the caller may.
    """
    caller = pending.session.caller
    assert caller is not None
    if isinstance(answer, TopicAnswer):
        require_subscribe(answer, caller)
        if answer.info.is_ephemeral:
            raise not_kept(pending.topic_id)
        return
    assert isinstance(answer, Refused)
    is_made = create and pending.may_create and rights.may_create(caller, pending.topic_id)
    if answer.code != "topic_not_found" or not is_made:
        raise refusal_of(answer)


def not_kept(topic_id: str) -> Refusal:
    """Returns the refusal of an acknowledged subscription to an ephemeral topic."""
    return Refusal("not_in_profile", f"{topic_id} is ephemeral: nothing can be sent again")


def question(pending: PendingSubscribe, user_id: str, req: int) -> OpenCursor:
    """Returns the request; with `ack` it takes the lease."""
    wanted = pending.subscribe
    return OpenCursor(req, user_id, wanted.device_id, wanted.topic_id, pending.lease)


def place(pending: PendingSubscribe, answer: CursorAnswer) -> None:
    """Takes the cursor, and makes a position of it where the client asked for it."""
    position = pending.subscribe.position
    if position is not None and position.form == CURSOR:
        if answer.cursor is not None:
            position = Position("seq", answer.cursor.epoch, answer.cursor.seq)
        elif answer.joined_epoch:
            position = Position("seq", answer.joined_epoch, answer.joined_seq)
        else:
            position = None
    pending.open(answer, position)


def answer_of(pending: PendingSubscribe, answer: Subscribed) -> Subscribed:
    """Returns the grant as the client is told it: where there was no cursor, nothing was resumed."""
    position, opened = pending.subscribe.position, pending.opened
    if position is None or position.form != CURSOR or opened is None or opened.cursor is not None:
        return answer
    reason = "no_cursor" if answer.resumed in (True, None) else answer.reason
    if answer.settings.get("profile") == "ephemeral":
        reason = "ephemeral"
    return structs.replace(answer, resumed=False, reason=reason)
