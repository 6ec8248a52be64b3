"""The OpenAPI 3.1 document of everything that is served over HTTP, made from the table of endpoints."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from headgate.core.wire.errors import CODES
from headgate.core.wire.event_names import EventName
from headgate.runtime.api.answer_bodies import ProblemDetails
from headgate.runtime.api.examples import BODIES
from headgate.runtime.api.operations import BODY_CODES, OPERATIONS, STREAM, Operation
from headgate.runtime.http.bodies import NDJSON
from headgate.runtime.http.endpoints import ENDPOINTS, EVENT_STREAM, Endpoint
from headgate.runtime.http.problem import CONTENT_TYPE

API_VERSION: Final = "1"
SCHEMAS: Final = "#/components/schemas/{name}"
_PROBLEM: Final = CONTENT_TYPE.decode()
_TEXT: Final = {"type": "string"}
_UUID: Final = {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}
_LIMIT: Final = {"type": "integer", "minimum": 1, "maximum": 1_000, "default": 100}
_SEQ: Final = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
_FLAG: Final = {"type": "string", "enum": ["true", "false"]}

# Query and path parameters by name: what they mean, and their schema.
PARAMETERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "topic_id": ("Id of a topic.", {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"}),
    "user_id": ("A user: the `sub` of his token.", {"type": "string", "minLength": 1, "maxLength": 128}),
    "id": ("Id of a dead letter: UUID text, lower case.", _UUID),
    "message_id": ("UUID text, lower case.", _UUID),
    "name": ("A reaction, without control characters.", {"type": "string", "minLength": 1, "maxLength": 32}),
    "prefix": ("Only ids that begin so.", _TEXT),
    "limit": ("The most items in the answer.", _LIMIT),
    "page": ("The `next_page` of the answer before.", _TEXT),
    "page_size": ("The most items in the answer.", _LIMIT),
    "wait": ("What to wait for.", {"type": "string", "enum": ["accepted", "sequenced", "delivered"]}),
    "timeout_ms": (
        "How long to wait for deliveries, in milliseconds.",
        {"type": "integer", "minimum": 0, "maximum": 10_000, "default": 1_000},
    ),
    "after_seq": ("Messages above it, oldest first.", _SEQ),
    "before_seq": ("The newest messages below it.", _SEQ),
    "since_ts": ("Messages from this time on, Unix milliseconds.", _SEQ),
    "kinds": ("Leaves edits, redactions and reactions out.", {"type": "string", "enum": ["message"]}),
    "parent_message_id": ("Only the replies to this message.", _TEXT),
    "connection_id": ("Only this connection's subscription.", _TEXT),
    "channel_id": ("Id of a topic.", _TEXT),
    "versions": ("Adds the earlier payloads.", _FLAG),
    "from": ("`live`, `earliest`, `<epoch>:<seq>`, `seq:<n>`, `ts:<ms>` or `last:<n>`.", _TEXT),
    "ack": ("Acknowledged delivery.", _FLAG),
    "presence": ("Whether presence is sent.", _FLAG),
    "device_id": ("1 to 128 characters of printable ASCII.", _TEXT),
    "event": ("The name of a lifecycle event.", {"type": "string", "enum": [*EventName]}),
    "token": ("A bearer token, for clients that cannot send headers.", _TEXT),
    "ticket": ("A ticket, for clients that cannot send headers.", _TEXT),
    "last_event_id": ("Resumes behind this event; like the header Last-Event-ID.", _TEXT),
}


def openapi_document() -> dict[str, Any]:
    """Returns the document, the same on every call."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        if endpoint.role != "admin" and not endpoint.is_websocket:
            methods = paths.setdefault(endpoint.path, {})
            _add(methods, endpoint)
    types = [type_ for operation in OPERATIONS.values() for type_ in (operation.body, operation.answer) if type_]
    _, components = msgspec.json.schema_components([*types, ProblemDetails], ref_template=SCHEMAS)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headgate",
            "version": API_VERSION,
            "description": "Publishes to topics, and manages them. The streams are in the AsyncAPI document.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _add(methods: dict[str, Any], endpoint: Endpoint) -> None:
    """Adds an endpoint to its path; a second of the same method adds only its answers."""
    operation = OPERATIONS.get(endpoint.handler, STREAM)
    known = methods.get(endpoint.method.lower())
    if known is not None:
        known["responses"] = _responses(endpoint, operation) | known["responses"]
        return
    described: dict[str, Any] = {
        "operationId": _operation_id(endpoint, operation),
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": _parameters(endpoint, operation),
    }
    if operation.body is not None:
        described["requestBody"] = _body(endpoint, operation)
    if endpoint.who == "anyone" and not endpoint.is_stream:
        described["security"] = []
    described["responses"] = _responses(endpoint, operation)
    methods[endpoint.method.lower()] = described


def _operation_id(endpoint: Endpoint, operation: Operation) -> str:
    """Returns a name that no other operation has: a stream has two paths."""
    return "stream_topic" if operation is STREAM and "{topic_id}" in endpoint.path else operation.name


def _parameters(endpoint: Endpoint, operation: Operation) -> list[dict[str, Any]]:
    in_path = [part[1:-1] for part in endpoint.path.split("/") if part.startswith("{")]
    needed = ("channel_id", *(("topic_id",) if operation is STREAM else ()))
    found = [_parameter(name, "path", is_required=True) for name in in_path]
    once = [name for name in endpoint.query if name not in operation.repeated]
    found += [_parameter(name, "query", is_required=name in needed) for name in once]
    found += [_repeated(name) for name in operation.repeated]
    if operation.is_keyed:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "Makes the request safe to repeat: 1 to 128 characters of printable ASCII.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 128},
            }
        )
    return found


def _parameter(name: str, place: str, *, is_required: bool) -> dict[str, Any]:
    description, schema = PARAMETERS[name]
    required = {"required": True} if is_required else {}
    return {"name": name, "in": place, "description": description, **required, "schema": schema}


def _repeated(name: str) -> dict[str, Any]:
    description, schema = PARAMETERS[name]
    return {"name": name, "in": "query", "description": description, "schema": {"type": "array", "items": schema}}


def _body(endpoint: Endpoint, operation: Operation) -> dict[str, Any]:
    assert endpoint.body is not None
    schema = _schema(operation.body)
    lines = {"schema": {"type": "string", "description": "One JSON object a line."}}
    whole = {"schema": schema, "example": BODIES[operation.name]}
    content = {kind: lines if kind == NDJSON else whole for kind in sorted(endpoint.body.media_types)}
    return {"required": not operation.is_body_optional, "content": content}


def _responses(endpoint: Endpoint, operation: Operation) -> dict[str, Any]:
    status, kind = endpoint.answer
    good: dict[str, Any] = {"description": "Done." if operation.answer is None else "The answer."}
    if kind == EVENT_STREAM:
        good = {"description": "The stream.", "content": {EVENT_STREAM: {"schema": {"type": "string"}}}}
    elif status == 307:
        good = {"description": "The gateway's path on the same host."}
    elif operation.answer is not None:
        good["content"] = {kind: {"schema": _schema(operation.answer)}}
    responses = {str(each): good for each in (status, *operation.also)}
    codes = list(operation.codes)
    codes += BODY_CODES if operation.body is not None else ()
    codes += ["unauthenticated", "token_expired"] if endpoint.who == "user" else []
    responses |= _problems(codes)
    responses["default"] = {
        "description": "Any other problem.",
        "content": {_PROBLEM: {"schema": _schema(ProblemDetails)}},
    }
    return responses


def _problems(codes: Iterable[str]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(CODES[code].status, []).append(code)
    return {
        str(status): {
            "description": ", ".join(f"`{code}`" for code in dict.fromkeys(by_status[status])),
            "content": {_PROBLEM: {"schema": _schema(ProblemDetails)}},
        }
        for status in sorted(by_status)
    }


def _schema(type_: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([type_], ref_template=SCHEMAS)
    return schema
