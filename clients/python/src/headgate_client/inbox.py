"""The inbox: what a user has missed in all of his topics, and how far he has read."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, Self

from headgate_client.api import Api
from headgate_client.frames import Frame, Message

PAGE: Final = 1_000  # the most topics that the server answers at once
MarkKind = Literal["delivered", "read"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxTopic:
    """A topic of which the user is a member. `mode` is `direct` or `inbox`.

    `head_seq` is its newest message, `cursor_seq` how far this device is, `read_seq` how far the user has read on any
    device; `unread` counts messages above it. Another `epoch`: it was created again, and is numbered from 1.
    """

    topic_id: str
    mode: str
    head_seq: int
    cursor_seq: int
    read_seq: int
    unread: int
    epoch: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxPage:
    """A page of the inbox. `next_page` is the `page` of the next one, None where this is the last."""

    topics: list[InboxTopic]
    next_page: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedMessages:
    """Messages that a device has missed, topic by topic, each topic in order; they have no `epoch`.

    `more`: something was left, for the bound of the answer or because the owner of a topic was away. Acknowledge these
    (`Client.ack_inbox`) and ask again.
    """

    messages: list[Message]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxHint:
    """A topic that the client does not follow has new messages. A hint may be lost."""

    topic_id: str
    head_seq: int
    unread: int

    @classmethod
    def of_frame(cls, frame: Frame) -> list[Self]:
        """Returns the hints of an `inbox` frame."""
        return [cls(**_known(cls, topic)) for topic in frame.get("topics", [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadReceipt:
    """A user has read a topic up to `seq`. It may be lost; the next one makes up for it.

    Either another member who read what this user published, or this user on another device, then with `unread`.
    """

    topic_id: str
    user_id: str
    seq: int
    unread: int | None = None

    @classmethod
    def of_frame(cls, frame: Frame) -> Self:
        """Returns the receipt of a `read` frame."""
        return cls(**_known(cls, frame))


async def page(api: Api, params: dict[str, Any]) -> InboxPage:
    """Reads one page. Raises Problem, Unreachable."""
    answer = await api.request("GET", "/api/v1/inbox", params=params)
    topics = [InboxTopic(**_known(InboxTopic, topic)) for topic in answer["topics"]]
    return InboxPage(topics=topics, next_page=answer.get("next_page"))


async def topics(api: Api, device_id: str | None) -> AsyncIterator[InboxTopic]:
    """Yields the topics of all pages. Raises Problem, Unreachable."""
    params: dict[str, Any] = {"device_id": device_id, "limit": PAGE}
    while True:
        found = await page(api, params)
        for topic in found.topics:
            yield topic
        if found.next_page is None:
            return
        params["page"] = found.next_page


async def missed(api: Api, params: dict[str, Any]) -> MissedMessages:
    """Reads missed messages. Raises Problem, Unreachable."""
    answer = await api.request("GET", "/api/v1/inbox/messages", params=params)
    messages = [Message.of(frame, None) for frame in answer["messages"]]
    return MissedMessages(messages=messages, more=bool(answer.get("more")))


async def move(api: Api, device_id: str | None, topic_id: str, seq: int, kind: MarkKind) -> None:
    """Moves a cursor or a read mark; returns when it is stored. Raises Problem, Unreachable."""
    device = {} if device_id is None else {"device_id": device_id}
    body = {**device, "topic_id": topic_id, "seq": seq, "kind": kind}
    await api.request("POST", "/api/v1/inbox/ack", body=body, safe=True)  # it never moves back: to repeat it is safe


def _known(kind: type, found: dict[str, Any]) -> dict[str, Any]:
    """Returns the members that this version knows."""
    return {field.name: found[field.name] for field in fields(kind) if field.name in found}
