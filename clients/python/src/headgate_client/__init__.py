"""The asyncio client of Headgate: `async with Client(url, token=...) as client`."""

from headgate_client.client import Client
from headgate_client.connection_state import State
from headgate_client.credentials import Ticket
from headgate_client.errors import (
    ClientError,
    ConnectionStopped,
    CredentialsFailed,
    Problem,
    RequestFailed,
    SubscribeRefused,
    SubscriptionEnded,
    Unreachable,
)
from headgate_client.frames import CaughtUp, Event, Gap, Message, Presence, PresenceDiff, Subscribed, Typing
from headgate_client.inbox import InboxHint, InboxPage, InboxTopic, MissedMessages, ReadReceipt
from headgate_client.outbox import OutboxFull
from headgate_client.publishing import Outgoing, Published
from headgate_client.reading import Page
from headgate_client.subscription import Subscription
from headgate_client.worker import Worker

__all__ = [
    "CaughtUp",
    "Client",
    "ClientError",
    "ConnectionStopped",
    "CredentialsFailed",
    "Event",
    "Gap",
    "InboxHint",
    "InboxPage",
    "InboxTopic",
    "Message",
    "MissedMessages",
    "OutboxFull",
    "Outgoing",
    "Page",
    "Presence",
    "PresenceDiff",
    "Problem",
    "Published",
    "ReadReceipt",
    "RequestFailed",
    "State",
    "SubscribeRefused",
    "Subscribed",
    "Subscription",
    "SubscriptionEnded",
    "Ticket",
    "Typing",
    "Unreachable",
    "Worker",
]
