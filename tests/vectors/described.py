"""Checks what a server sends against its own OpenAPI and AsyncAPI documents, more strictly than a client should.

A member that no type has is an error here: the documents are whole, or a vector fails.
"""

import re
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator

from headgate.core.wire.errors import CODES
from headgate.runtime.api.asyncapi import asyncapi_document
from headgate.runtime.api.openapi import openapi_document
from headgate.runtime.api.server_frames import SERVER_FRAMES

_OPENAPI: Final = openapi_document()
_ASYNCAPI: Final = asyncapi_document()
_FRAMES: Final = {frame.__struct_config__.tag: frame.__name__ for frame in SERVER_FRAMES}
_OPEN: Final = frozenset({"ProblemDetails"})  # a problem may have further members (RFC 9457 section 3.2)
_PARAMETER: Final = re.compile(r"\{\w+\}")


def check_answer(method: str, target: str, status: int, media_type: str, body: Any) -> None:
    """Checks the answer to a request of a described path. Raises AssertionError."""
    operation = _operation(method, urlsplit(target).path)
    if operation is None:
        return
    responses = operation["responses"]
    code = body.get("code") if isinstance(body, dict) and media_type.endswith("problem+json") else None
    described = responses.get(str(status))
    if (
        code in CODES
        and CODES[code].status < 500
        and code not in ("method_not_allowed", "misdirected", "request_timeout")
    ):
        assert described is not None, f"{method} {target}: {status} {code} is not in the document"
        assert f"`{code}`" in described["description"], f"{method} {target}: {code} is not in the document"
    described = described or responses.get("default")
    if method == "HEAD":
        return
    assert described is not None, f"{method} {target}: no answer {status} in the document"
    content = described.get("content", {})
    if media_type in content:
        _validate(_OPENAPI, content[media_type]["schema"], body, f"{method} {target}")
    else:
        assert not content or body is None, f"{method} {target}: {media_type!r} instead of {sorted(content)}"


def check_frame(frame: Any) -> None:
    """Checks a frame of a server, or the data of one SSE event. Raises AssertionError."""
    if "event" in frame:
        name = "LifecycleGap" if frame["event"] == "gap" else "Event"
        _validate(_ASYNCAPI, {"$ref": f"#/components/schemas/{name}"}, frame, "lifecycle event")
        return
    assert frame["type"] in _FRAMES, f"frame {frame['type']} is not in the document"
    _validate(_ASYNCAPI, {"$ref": f"#/components/schemas/{_FRAMES[frame['type']]}"}, frame, "frame")


def _operation(method: str, path: str) -> dict[str, Any] | None:
    for template, methods in _OPENAPI["paths"].items():
        if re.fullmatch(_PARAMETER.sub("[^/]+", re.sub(r"[.]", r"\\.", template)), path):
            found: dict[str, Any] | None = methods.get("get" if method == "HEAD" else method.lower())
            return found
    return None


def _validate(document: dict[str, Any], schema: dict[str, Any], value: Any, what: str) -> None:
    validator = Draft202012Validator({**schema, "components": {"schemas": _strict(id(document))}})
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
    assert not errors, f"{what}: {'; '.join(errors)}"


@cache
def _strict(document: int) -> dict[str, Any]:
    """Returns the types of a document, closed: no member but theirs."""
    schemas = (_OPENAPI if document == id(_OPENAPI) else _ASYNCAPI)["components"]["schemas"]
    return {
        name: schema if name in _OPEN or "properties" not in schema else {**schema, "additionalProperties": False}
        for name, schema in schemas.items()
    }
