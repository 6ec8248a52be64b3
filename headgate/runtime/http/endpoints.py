"""The table of all HTTP endpoints, as data. A new endpoint is one row here and one handler in its service."""

from typing import Final, Literal, NamedTuple

from headgate.runtime.http.bodies import JSON, NDJSON

Role = Literal["ingest", "gateway", "admin"]
Who = Literal["user", "anyone"]

EVENT_STREAM: Final = "text/event-stream"
TEXT: Final = "text/plain"
TOPICS: Final = "/api/v1/topics"
LETTERS: Final = "/api/v1/dead-letters"
INBOX: Final = "/api/v1/inbox"
TOPIC: Final = "/api/v1/topics/{topic_id}"
MEMBERS: Final = f"{TOPIC}/members"
MESSAGE: Final = f"{TOPIC}/messages/{{message_id}}"
REACTION: Final = f"{MESSAGE}/reactions/{{name}}"


class Body(NamedTuple):
    """The body of a request. `bound` is its largest size: bytes, or the name of the setting that holds them."""

    bound: int | str = "limits.body_bytes"
    media_types: frozenset[str] = frozenset({JSON})


class AnswerShape(NamedTuple):
    """The answer to a request that is not refused. `media_type` is empty where it has no body."""

    status: int = 200
    media_type: str = JSON


class Endpoint(NamedTuple):
    """One method of one path.

    `role` is the process that serves it on its port; `admin` is the admin port of every role. `path` has its parameters
    in braces; `query` lists the query parameters. `handler` is a name that the service binds to a function. It is empty
    for a gateway's streams: its protocol takes them before any application. `who` may call is a user, whose credentials
    are checked, or anyone.
    """

    role: Role
    method: str
    path: str
    handler: str
    answer: AnswerShape = AnswerShape()
    body: Body | None = None
    query: tuple[str, ...] = ()
    who: Who = "user"

    @property
    def is_stream(self) -> bool:
        """True for a WebSocket or an SSE stream."""
        return self.is_websocket or self.answer.media_type == EVENT_STREAM

    @property
    def is_websocket(self) -> bool:
        """True for a WebSocket."""
        return self.answer.status == 101


_NO_CONTENT: Final = AnswerShape(204, "")
_UPGRADE: Final = AnswerShape(101, "")
_EVENTS: Final = AnswerShape(200, EVENT_STREAM)
_BATCH: Final = Body("limits.batch_bytes", frozenset({JSON, NDJSON}))
_END: Final = Body(256 * 1024)
_PUBLISH: Final = ("wait", "timeout_ms")
_PAGE: Final = ("limit", "page")
_HISTORY: Final = ("after_seq", "before_seq", "since_ts", "kinds", "parent_message_id", "limit")
_STREAM: Final = ("from", "ack", "presence", "device_id", "token", "ticket")
_SSE: Final = (*_STREAM, "last_event_id")

ENDPOINTS: Final = (
    Endpoint("ingest", "POST", TOPICS, "create_topic", AnswerShape(201), Body()),
    Endpoint("ingest", "GET", TOPICS, "list_topics", query=("prefix", *_PAGE)),
    Endpoint("ingest", "GET", TOPIC, "show_topic"),
    Endpoint("ingest", "PATCH", TOPIC, "update_topic", body=Body()),
    Endpoint("ingest", "DELETE", TOPIC, "delete_topic", _NO_CONTENT),
    Endpoint("ingest", "GET", f"{TOPIC}/stats", "topic_stats"),
    Endpoint("ingest", "POST", f"{TOPIC}/flush", "flush_topic", AnswerShape(202)),
    Endpoint("ingest", "POST", f"{TOPIC}/publish", "publish", AnswerShape(), Body(), _PUBLISH),
    Endpoint("ingest", "POST", f"{TOPIC}/publish/batch", "publish_batch", AnswerShape(), _BATCH, _PUBLISH),
    Endpoint("ingest", "POST", "/api/v1/publish/batch", "publish_any_batch", AnswerShape(), _BATCH, _PUBLISH),
    Endpoint("ingest", "POST", "/api/v1/direct", "create_direct_topic", AnswerShape(201), Body()),
    Endpoint("ingest", "POST", "/api/v1/tickets", "create_ticket", AnswerShape(), Body()),
    Endpoint("ingest", "POST", "/api/v1/revocations", "create_revocation", _NO_CONTENT, Body()),
    Endpoint("ingest", "GET", f"{TOPIC}/messages", "history", query=_HISTORY),
    Endpoint("ingest", "GET", MESSAGE, "show_message", query=("versions",)),
    Endpoint("ingest", "PATCH", MESSAGE, "edit_message", body=Body()),
    Endpoint("ingest", "DELETE", MESSAGE, "redact_message", _NO_CONTENT),
    Endpoint("ingest", "PUT", REACTION, "add_reaction", _NO_CONTENT, _END),
    Endpoint("ingest", "DELETE", REACTION, "remove_reaction", _NO_CONTENT),
    Endpoint("ingest", "GET", MEMBERS, "list_members", query=_PAGE),
    Endpoint("ingest", "PUT", f"{MEMBERS}/{{user_id}}", "set_member", body=Body()),
    Endpoint("ingest", "DELETE", f"{MEMBERS}/{{user_id}}", "remove_member", _NO_CONTENT),
    Endpoint("ingest", "GET", f"{TOPIC}/subscribers", "list_subscribers", query=_PAGE),
    Endpoint("ingest", "GET", "/api/v1/connections", "list_connections", query=("user_id",)),
    Endpoint("ingest", "DELETE", f"{TOPIC}/subscribe", "end_subscriptions", AnswerShape(), _END, ("connection_id",)),
    Endpoint("ingest", "GET", f"{TOPIC}/subscribe", "redirect_stream", AnswerShape(307), query=_SSE, who="anyone"),
    Endpoint("ingest", "GET", "/api/v1/events", "watch_events", _EVENTS, query=("topic_id", "event", "token")),
    Endpoint("ingest", "GET", "/api/v1/top", "show_top"),
    Endpoint("ingest", "GET", LETTERS, "list_dead_letters", query=("topic_id", *_PAGE)),
    Endpoint("ingest", "GET", f"{LETTERS}/{{id}}", "show_dead_letter"),
    Endpoint("ingest", "DELETE", f"{LETTERS}/{{id}}", "purge_dead_letter", _NO_CONTENT),
    Endpoint("ingest", "POST", f"{LETTERS}/{{id}}/replay", "replay_dead_letter", AnswerShape(202)),
    Endpoint("ingest", "GET", INBOX, "list_inbox", query=("device_id", *_PAGE)),
    Endpoint("ingest", "GET", f"{INBOX}/messages", "missed_messages", query=("device_id", "limit")),
    Endpoint("ingest", "POST", f"{INBOX}/ack", "ack_inbox", _NO_CONTENT, Body()),
    Endpoint("ingest", "GET", "/openapi.json", "openapi", who="anyone"),
    Endpoint("ingest", "GET", "/asyncapi.json", "asyncapi", who="anyone"),
    Endpoint("ingest", "POST", "/send_message", "alias_send", AnswerShape(), Body()),
    Endpoint("ingest", "GET", "/messages", "alias_messages", query=("channel_id", "since_ts", "page_size", "page")),
    Endpoint("ingest", "POST", "/edit_message", "alias_edit", AnswerShape(), Body()),
    Endpoint("ingest", "POST", "/delete_message", "alias_delete", _NO_CONTENT, Body()),
    Endpoint("ingest", "POST", "/react", "alias_react", _NO_CONTENT, Body()),
    Endpoint("ingest", "POST", "/ack", "alias_ack", _NO_CONTENT, Body()),
    Endpoint("gateway", "GET", f"{TOPIC}/subscribe", "", _EVENTS, query=_SSE),
    Endpoint("gateway", "DELETE", f"{TOPIC}/subscribe", "end_subscriptions", AnswerShape(), _END, ("connection_id",)),
    Endpoint("gateway", "GET", "/sse/subscribe", "", _EVENTS, query=("topic_id", *_SSE)),
    Endpoint("gateway", "GET", "/ws/subscribe", "", _UPGRADE, query=("topic_id", *_STREAM)),
    Endpoint("gateway", "GET", "/connect", "", _UPGRADE, query=("topic_id", *_STREAM)),
    Endpoint("admin", "GET", "/livez", "live", who="anyone"),
    Endpoint("admin", "GET", "/readyz", "ready", who="anyone"),
    Endpoint("admin", "GET", "/metrics", "metrics", AnswerShape(200, TEXT), who="anyone"),
)


def endpoints_of(role: Role) -> tuple[Endpoint, ...]:
    """Returns the rows of one role."""
    return tuple(endpoint for endpoint in ENDPOINTS if endpoint.role == role)
