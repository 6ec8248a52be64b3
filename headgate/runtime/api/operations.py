"""Per HTTP handler: what it does, what it takes and answers, and which errors of the protocol it may answer with.

The rows belong to those of `headgate.runtime.http.endpoints`: a test holds the two together.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from headgate.runtime.api import answer_bodies as answers
from headgate.runtime.api import request_bodies as requests

BODY_CODES: Final = ("bad_request", "too_large", "unsupported_media_type")
_READ: Final = ("rate_limited",)
_TOPIC: Final = ("invalid_topic_id", "topic_not_found", "forbidden")
_LETTER: Final = ("bad_request", "forbidden", "not_found", *_READ)
_MESSAGE: Final = (*_TOPIC, "message_not_found", "not_in_profile")


class Operation(NamedTuple):
    """One operation of the API. `codes` are its own errors; those that all have in common are not repeated.

    `body` and `answer` are types, None where there is no JSON. `also` are further statuses that succeed, with the same
    answer. `is_keyed` says that it honours `Idempotency-Key`. `repeated` are query parameters that may come several
    times, or not at all.
    """

    name: str
    tag: str
    summary: str
    body: Any = None
    answer: Any = None
    codes: tuple[str, ...] = ()
    also: tuple[int, ...] = ()
    is_body_optional: bool = False
    is_keyed: bool = False
    repeated: tuple[str, ...] = ()


OPERATIONS: Final[Mapping[str, Operation]] = {
    operation.name: operation
    for operation in (
        Operation(
            "create_topic",
            "topics",
            "Create a topic.",
            requests.TopicRequest,
            answers.CreatedTopic,
            ("invalid_topic_id", "forbidden", "topic_exists", "idempotency_conflict", *_READ),
            is_keyed=True,
        ),
        Operation(
            "list_topics",
            "topics",
            "List the topics that the caller may see.",
            answer=answers.TopicPage,
            codes=("bad_request", *_READ),
        ),
        Operation("show_topic", "topics", "Show a topic.", answer=answers.TopicDetails, codes=(*_TOPIC, *_READ)),
        Operation(
            "update_topic",
            "topics",
            "Change a topic's name, permissions or settings.",
            requests.TopicChangeRequest,
            answers.TopicDetails,
            (*_TOPIC, "immutable", "idempotency_conflict", *_READ),
            is_keyed=True,
        ),
        # It also counts as a read: `default`.
        Operation("delete_topic", "topics", "Delete a topic.", codes=("bad_request", *_TOPIC), is_keyed=True),
        Operation(
            "topic_stats",
            "topics",
            "Show what happened to a topic's messages.",
            answer=answers.TopicStatsAnswer,
            codes=(*_TOPIC, *_READ),
        ),
        Operation(
            "flush_topic",
            "topics",
            "Deliver at once what a topic's strategy holds.",
            answer=answers.TopicFlushedAnswer,
            codes=("bad_request", *_TOPIC, *_READ),
            is_keyed=True,
        ),
        Operation(
            "publish",
            "messages",
            "Publish a message.",
            requests.PublishRequest,
            answers.PublishAnswer,
            (*_TOPIC, "message_not_found", "invalid_payload", "idempotency_conflict", "rate_limited", "queue_full"),
            is_keyed=True,
        ),
        Operation(
            "publish_batch",
            "messages",
            "Publish up to 1,000 messages to one topic.",
            requests.PublishBatch,
            answers.BatchAnswer,
            (*_TOPIC, "rate_limited"),
        ),
        Operation(
            "publish_any_batch",
            "messages",
            "Publish up to 1,000 messages, each to the topic that it names.",
            requests.RoutedPublishBatch,
            answers.BatchAnswer,
            ("forbidden", "rate_limited"),
        ),
        Operation(
            "history",
            "messages",
            "Read a page of a topic's messages.",
            answer=answers.HistoryAnswer,
            codes=("bad_request", *_TOPIC, "gone", "not_in_profile", *_READ),
        ),
        Operation(
            "list_members",
            "members",
            "List a topic's members.",
            answer=answers.MemberPage,
            codes=("bad_request", *_TOPIC, *_READ),
        ),
        Operation(
            "set_member",
            "members",
            "Let a user in, or change his role.",
            requests.MemberRequest,
            answers.MembershipAnswer,
            (*_TOPIC, "last_owner", "idempotency_conflict", *_READ),
            is_body_optional=True,
            is_keyed=True,
        ),
        Operation(
            "remove_member",
            "members",
            "Put a user out, or leave.",
            codes=("bad_request", *_TOPIC, "last_owner", *_READ),
            is_keyed=True,
        ),
        Operation(
            "list_connections",
            "connections",
            "List the live connections of a user on all gateways.",
            answer=answers.ConnectionList,
            codes=("bad_request", "forbidden", *_READ),
        ),
        Operation(
            "end_subscriptions",
            "connections",
            "End the caller's live subscriptions to a topic on all gateways.",
            requests.EndSubscriptionsRequest,
            answers.SubscriptionsEndedAnswer,
            ("invalid_topic_id", "topic_not_found"),  # it also counts as a read: `default`
            is_body_optional=True,
            is_keyed=True,
        ),
        Operation(
            "create_ticket",
            "credentials",
            "Make a ticket of the caller's token.",
            requests.TicketRequest,
            answers.TicketAnswer,
            ("invalid_topic_id", "idempotency_conflict", *_READ),
            is_body_optional=True,
            is_keyed=True,
        ),
        Operation(
            "create_revocation",
            "credentials",
            "Void the tokens of a user, or one token.",
            requests.RevocationRequest,
            codes=("forbidden", "idempotency_conflict"),
            is_keyed=True,
        ),
        Operation(
            "create_direct_topic",
            "topics",
            "Find or make the private topic of the caller and another user.",
            requests.DirectRequest,
            answers.CreatedTopic,
            ("forbidden", *_READ),
            also=(200,),
            is_keyed=True,
        ),
        Operation(
            "show_message",
            "messages",
            "Show a message as it is now.",
            answer=answers.MessageAnswerBody,
            codes=("bad_request", *_MESSAGE, *_READ),
        ),
        Operation(
            "edit_message",
            "messages",
            "Replace the payload of the caller's own message.",
            requests.EditRequest,
            answers.MessageAnswerBody,
            (*_MESSAGE, "invalid_payload", "version_conflict", "idempotency_conflict", "immutable", *_READ),
            is_keyed=True,
        ),
        Operation(
            "redact_message",
            "messages",
            "Remove the payload of a message for ever.",
            codes=("bad_request", *_MESSAGE, *_READ),
            is_keyed=True,
        ),
        Operation(
            "add_reaction",
            "messages",
            "React to a message.",
            codes=("bad_request", *_MESSAGE, "immutable", "limit_reached", *_READ),
            is_keyed=True,
        ),
        Operation(
            "remove_reaction",
            "messages",
            "Take a reaction back.",
            codes=("bad_request", *_MESSAGE, *_READ),
            is_keyed=True,
        ),
        Operation(
            "list_subscribers",
            "connections",
            "List the users who follow a topic now.",
            answer=answers.SubscriberPage,
            codes=("bad_request", *_TOPIC, *_READ),
        ),
        Operation(
            "alias_send",
            "channels",
            "Publish, in the channel vocabulary.",
            requests.SendMessageRequest,
            answers.SentMessage,
            (*_TOPIC, "message_not_found", "invalid_payload", "idempotency_conflict", *_READ),
            is_keyed=True,
        ),
        Operation(
            "alias_messages",
            "channels",
            "Read messages, in the channel vocabulary.",
            answer=answers.ChannelPage,
            codes=("bad_request", *_TOPIC, "gone", "not_in_profile", *_READ),
        ),
        Operation(
            "alias_edit",
            "channels",
            "Edit, in the channel vocabulary; the id alone names the message.",
            requests.EditMessageRequest,
            answers.ChannelMessage,
            (
                "message_not_found",
                "forbidden",
                "version_conflict",
                "idempotency_conflict",
                "immutable",
                "invalid_payload",
                *_READ,
            ),
            is_keyed=True,
        ),
        Operation(
            "alias_delete",
            "channels",
            "Redact, in the channel vocabulary; the id alone names the message.",
            requests.DeleteMessageRequest,
            None,
            ("message_not_found", "forbidden", *_READ),
            is_keyed=True,
        ),
        Operation(
            "alias_react",
            "channels",
            "React, in the channel vocabulary; the id alone names the message.",
            requests.ReactRequest,
            None,
            ("message_not_found", "forbidden", "immutable", "limit_reached", *_READ),
            is_keyed=True,
        ),
        Operation(
            "alias_ack",
            "channels",
            "Say that a device got a message, or that the user has read it; the id alone names it.",
            requests.AckMessageRequest,
            None,
            ("message_not_found", "forbidden", *_READ),
            is_keyed=True,
        ),
        Operation(
            "list_inbox",
            "inbox",
            "List the topics in which the caller has a membership, and what is unread there.",
            answer=answers.InboxPage,
            codes=("bad_request", *_READ),
        ),
        Operation(
            "missed_messages",
            "inbox",
            "Read what a device has missed in all topics of the caller.",
            answer=answers.MissedMessagesAnswer,
            codes=("bad_request", *_READ),
        ),
        Operation(
            "ack_inbox",
            "inbox",
            "Say how far a device has got a topic, or how far the user has read it.",
            requests.InboxAckRequest,
            None,
            (*_TOPIC, "not_in_profile", *_READ),
            is_keyed=True,
        ),
        Operation(
            "watch_events",
            "streams",
            "Watch what happens to messages, as Server-Sent Events. For tokens with the claim `admin`.",
            codes=("bad_request", "invalid_topic_id", "forbidden"),
            repeated=("topic_id", "event"),
        ),
        Operation(
            "show_top",
            "topics",
            "Show the first topics and users by members, messages, failures and backlog. For the claim `admin`.",
            answer=answers.TopAnswerBody,
            codes=("forbidden", *_READ),
        ),
        Operation(
            "list_dead_letters",
            "dead letters",
            "List deliveries that were given up, of a topic or of all topics that the caller administers.",
            answer=answers.DeadLetterPage,
            codes=("bad_request", *_TOPIC, *_READ),
        ),
        Operation(
            "show_dead_letter",
            "dead letters",
            "Show a delivery that was given up, and its message.",
            answer=answers.DeadLetterDetails,
            codes=_LETTER,
        ),
        Operation("purge_dead_letter", "dead letters", "Remove a dead letter.", codes=_LETTER, is_keyed=True),
        Operation(
            "replay_dead_letter",
            "dead letters",
            "Deliver the message of a dead letter again, to whom it was for.",
            answer=answers.ReplayedLetter,
            codes=(*_LETTER, "gone"),
            is_keyed=True,
        ),
        Operation("openapi", "documents", "This document.", answer=dict[str, Any]),
        Operation("asyncapi", "documents", "The AsyncAPI document of the streams.", answer=dict[str, Any]),
    )
}
STREAM: Final = Operation(
    "stream",
    "streams",
    "Follow one topic as Server-Sent Events. A WebSocket is opened at `/ws/subscribe`; the AsyncAPI document has both.",
    codes=("bad_request", *_TOPIC),
)
