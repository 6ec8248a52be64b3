"""The JSON shapes of topics, members and connections in answers."""

from typing import Any, Final

from headgate.core.wire.link import TopicInfo
from headgate.core.wire.link_members import Member
from headgate.core.wire.link_users import Connection
from headgate.core.wire.rights import Caller, may_be_told_of
from headgate.core.wire.timestamps import rfc3339

_OF_CREATION: Final = ("topic_id", "name", "permissions", "owner_id", "created_at", "settings", "epoch")


def topic_shown(info: TopicInfo) -> dict[str, Any]:
    """Returns a topic as `GET` shows it."""
    return {
        "topic_id": info.topic_id,
        "name": info.name,
        "permissions": info.permissions,
        "owner_id": info.owner_id,
        "created_at": rfc3339(info.created_at),
        "subscriber_count": info.subscriber_count,
        "member_count": info.member_count,
        "seq": info.seq,
        "epoch": info.epoch,
        "mode": info.mode,
        "settings": info.settings,
    }


def topic_created(info: TopicInfo) -> dict[str, Any]:
    """Returns a topic as the answer to its creation shows it."""
    whole = topic_shown(info)
    return {name: whole[name] for name in _OF_CREATION}


def member_shown(member: Member) -> dict[str, Any]:
    """Returns a member of a topic as lists show it."""
    return {
        "user_id": member.user_id,
        "role": member.role,
        "joined_seq": member.joined_seq,
        "joined_at": rfc3339(member.joined_at),
    }


def connection_shown(connection: Connection, caller: Caller) -> dict[str, Any]:
    """Returns a live connection, with the subscriptions to topics of which the caller may be told."""
    return {
        "connection_id": connection.connection_id,
        "user_id": connection.user_id,
        "device_id": connection.device_id,
        "connected_at": rfc3339(connection.connected_at),
        "last_heartbeat": rfc3339(connection.last_heartbeat),
        "gateway": connection.gateway,
        "transport": connection.transport,
        "subscriptions": [
            {
                "subscription_id": topic.subscription_id,
                "topic_id": topic.topic_id,
                "subscribed_at": rfc3339(topic.subscribed_at),
            }
            for topic in connection.subscriptions
            if may_be_told_of(caller, topic.topic_id)
        ],
    }
