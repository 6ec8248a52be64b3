"""One example of each request body and of each frame of a client. Each is a step of a protocol vector too."""

from typing import Any, Final

from headgate.runtime.api import client_frames as frames

ROOM: Final = "room-1"
HALL: Final = "room-2"
MESSAGE: Final = "fda4c928-b718-815f-8e46-edae6d08e596"

BODIES: Final[dict[str, Any]] = {
    "create_topic": {"name": "Room", "topic_id": ROOM, "settings": {"presence": "none", "retention_messages": 5}},
    "update_topic": {"permissions": "PRIVATE", "settings": {"presence": None}},
    "publish": {"payload": 3, "client_msg_id": "k"},
    "publish_batch": [
        {"payload": 1, "client_msg_id": "k"},
        {"payload": 1, "client_msg_id": "k"},
        {"payload": 2, "client_msg_id": "k"},
    ],
    "publish_any_batch": [
        {"topic_id": ROOM, "payload": 1},
        {"topic_id": HALL, "payload": 2},
        {"topic_id": ROOM, "payload": 3},
    ],
    "set_member": {"role": "publisher"},
    "end_subscriptions": {"connection_id": "c1"},
    "create_ticket": {"kind": "stream", "topic_ids": [ROOM], "ttl_s": 60},
    "create_revocation": {"user_id": "alice"},
    "create_direct_topic": {"user_id": "bob"},
    "edit_message": {"payload": "final", "version": 1},
    "alias_send": {"channel_id": ROOM, "content": {"text": "hi"}, "client_msg_id": "c1"},
    "alias_edit": {"message_id": MESSAGE, "content": "b", "version": 1},
    "alias_delete": {"message_id": MESSAGE},
    "alias_react": {"message_id": MESSAGE, "reaction": "like"},
    "alias_ack": {"message_id": MESSAGE, "device_id": "phone"},
    "ack_inbox": {"device_id": "phone", "topic_id": ROOM, "seq": 2, "kind": "read"},
}
FRAMES: Final[dict[type[frames.ClientFrameType], dict[str, Any]]] = {
    frames.AuthFrame: {"type": "auth", "token": "eyJ..."},
    frames.RefreshFrame: {"type": "refresh", "id": 1, "token": "eyJ..."},
    frames.SubscribeFrame: {
        "type": "subscribe",
        "topic_id": ROOM,
        "presence": False,
        "from": {"last": 2},
    },
    frames.UnsubscribeFrame: {"type": "unsubscribe", "topic_id": ROOM},
    frames.AckFrame: {"type": "ack", "id": 1, "topic_id": ROOM, "seq": 1},
    frames.NackFrame: {"type": "nack", "id": 2, "topic_id": ROOM, "seq": 1, "reason": "x"},
    frames.ReadFrame: {"type": "read", "id": 3, "topic_id": ROOM, "seq": 1},
    frames.PresenceFrame: {"type": "presence", "id": 1, "topic_id": ROOM},
    frames.TypingFrame: {"type": "typing", "id": 1, "topic_id": ROOM},
    frames.StatusFrame: {"type": "status", "id": 1, "state": "away"},
    frames.PingFrame: {"type": "ping", "t": 1},
}
