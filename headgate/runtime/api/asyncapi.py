"""The AsyncAPI 3 document of the WebSocket and the SSE stream, made from the types of their frames."""

from typing import Any, Final

import msgspec

from headgate.runtime.api.client_frames import CLIENT_FRAMES, ClientFrameType
from headgate.runtime.api.examples import FRAMES
from headgate.runtime.api.openapi import API_VERSION, PARAMETERS, SCHEMAS
from headgate.runtime.api.server_frames import LIFECYCLE_EVENTS, SERVER_FRAMES, SSE_EVENTS
from headgate.runtime.http.endpoints import ENDPOINTS, Endpoint

FromWhom = tuple[type[msgspec.Struct], ...]


def asyncapi_document() -> dict[str, Any]:
    """Returns the document, the same on every call."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        if endpoint.is_stream:
            name = _channel_name(endpoint)
            channels[name] = _channel(endpoint)
            operations |= _operations(endpoint, name)
    _, schemas = msgspec.json.schema_components([*CLIENT_FRAMES, *_SERVER_TYPES], ref_template=SCHEMAS)
    messages = {
        type_.__name__: _message(type_, direction)
        for types, direction in ((CLIENT_FRAMES, "client"), (_SERVER_TYPES, "server"))
        for type_ in types
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Headgate streams",
            "version": API_VERSION,
            "description": "One JSON object a WebSocket text frame, or the data of one SSE event.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def frame_types(endpoint: Endpoint) -> FromWhom:
    """Returns the types of the frames that a server sends over a stream."""
    if endpoint.role == "ingest":
        return LIFECYCLE_EVENTS
    return SERVER_FRAMES if endpoint.is_websocket else SSE_EVENTS


_SERVER_TYPES: Final[FromWhom] = tuple(dict.fromkeys((*SERVER_FRAMES, *LIFECYCLE_EVENTS)))
_NAMES: Final = {
    "/ws/subscribe": "websocket",
    "/connect": "connect",
    "/sse/subscribe": "sse",
    "/api/v1/events": "lifecycleEvents",
}
_ABOUT: Final = {"ws": "A WebSocket.", "http": "Server-Sent Events of one topic."}


def _channel_name(endpoint: Endpoint) -> str:
    return _NAMES.get(endpoint.path, "topicSse")


def _channel(endpoint: Endpoint) -> dict[str, Any]:
    types = (*CLIENT_FRAMES, *SERVER_FRAMES) if endpoint.is_websocket else frame_types(endpoint)
    query = {name: {"description": PARAMETERS[name][0], **PARAMETERS[name][1]} for name in endpoint.query}
    channel: dict[str, Any] = {
        "address": endpoint.path,
        "description": "Lifecycle events." if endpoint.role == "ingest" else _ABOUT[_protocol(endpoint)],
        "messages": {type_.__name__: {"$ref": f"#/components/messages/{type_.__name__}"} for type_ in types},
        "bindings": {_protocol(endpoint): {"method": "GET", "query": {"type": "object", "properties": query}}},
    }
    if "{topic_id}" in endpoint.path:
        channel["parameters"] = {"topic_id": {"description": PARAMETERS["topic_id"][0]}}
    return channel


def _protocol(endpoint: Endpoint) -> str:
    return "ws" if endpoint.is_websocket else "http"


def _operations(endpoint: Endpoint, name: str) -> dict[str, Any]:
    """Returns the operations of a channel, as seen from the server."""
    found = {f"{name}.send": _operation("send", name, frame_types(endpoint))}
    if endpoint.is_websocket:
        found[f"{name}.receive"] = _operation("receive", name, CLIENT_FRAMES)
    return found


def _operation(action: str, channel: str, types: FromWhom) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{type_.__name__}"} for type_ in types],
    }


def _message(type_: type[msgspec.Struct], direction: str) -> dict[str, Any]:
    name = type_.__struct_config__.tag or "message"  # a lifecycle event has the default name
    message: dict[str, Any] = {
        "name": name,
        "title": f"{name} ({direction})",
        "summary": (type_.__doc__ or "").split("\n")[0],
        "payload": {"$ref": SCHEMAS.format(name=type_.__name__)},
    }
    if issubclass(type_, ClientFrameType):
        message["examples"] = [{"payload": FRAMES[type_]}]
    return message
